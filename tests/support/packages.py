"""Packages of PyPI that a test needs and the test's own environment must not have: installed beside it, and kept."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.features import missing

KEPT = Path(__file__).resolve().parents[2] / "build" / "packages"
#: Seconds for one installation: less than a slow test may take.
WITHIN = 200


def installed(*requirements: str, options: tuple[str, ...] = ()) -> Path:
    """A directory for PYTHONPATH that holds these; `make clean` forgets it. Skips where they can't be had.

    `options` go to pip. To be called from a fixture of a module or a session: those for one test may have taken the proxies away.
    """
    name = "-".join([*(re.sub(r"[^\w.]+", "-", one) for one in requirements), sys.implementation.cache_tag])
    target = KEPT / name
    if target.is_dir():
        return target
    KEPT.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(prefix=".making-", dir=KEPT)
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "-q", "--only-binary", ":all:"]
    try:
        done = subprocess.run(
            [*pip, *options, "--target", made, *requirements], capture_output=True, text=True, timeout=WITHIN
        )
        if done.returncode != 0:
            missing(f"way to {' '.join(requirements)}: {done.stderr.strip() or 'pip says nothing'}")
        with contextlib.suppress(FileExistsError, OSError):  # another run was first: its directory is not empty
            os.rename(made, target)
    except subprocess.TimeoutExpired:
        missing(f"way to {' '.join(requirements)} within {WITHIN} s")
    finally:
        shutil.rmtree(made, ignore_errors=True)
    assert target.is_dir()
    return target
