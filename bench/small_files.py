"""Where the time of many small files goes: `python bench/small_files.py [DIRECTORY [ROUNDS]]`.

Git at work on 240 files, in random turn on the bare host, in a sandbox whose files are an overlay, and in one that has the host's
directory mounted: the same file system each time, that of DIRECTORY. In memory (/dev/shm/...) no disk disturbs.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lisrt
from lisrt.bench.workloads.steady import git, interval

ENV = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}


def main(place: Path, rounds: int) -> None:
    """Prints the ratios to the host, with intervals of the median."""
    case, archive = git(random.Random(20)), place / "git.tar"
    archive.write_bytes(case.archive)
    os.environ["LISRT_SCRATCH"] = str(place.parent)
    for name in ("host", "mount"):
        (place / name).mkdir()
    with lisrt.Sandbox() as overlay, lisrt.Sandbox(mounts=[lisrt.Mount(place / "mount", "/data", writable=True)]) as mounted:
        for box in (overlay, mounted):
            box.upload(archive, "/tmp/git.tar")
        where: dict[str, Callable[[str], object]] = {
            "host": lambda script: subprocess.run(
                ["sh", "-ec", script], cwd=place / "host", env=ENV, check=True, capture_output=True
            ),
            "overlay": lambda script: overlay.run(["sh", "-ec", script], env=ENV).check(),
            "mount": lambda script: mounted.run(["sh", "-ec", script], env=ENV, cwd="/data").check(),
        }
        tar = {"host": archive, "overlay": "/tmp/git.tar", "mount": "/tmp/git.tar"}
        took: dict[str, list[float]] = {name: [] for name in where}
        for _ in range(rounds):
            for name in random.sample(list(where), len(where)):
                where[name](f"rm -rf w; mkdir w; tar -xf {tar[name]} -C w")
                started = time.perf_counter()
                where[name](f"cd w\n{case.script}")
                took[name].append(time.perf_counter() - started)
    for name in ("overlay", "mount"):
        ratios = [ours / bare for ours, bare in zip(took[name], took["host"], strict=True)]
        middle, low, high = interval(ratios, random.Random(20))
        print(f"{name}: {middle:.3f} × the bare host (95 % {low:.3f} to {high:.3f}, {rounds} rounds)")


if __name__ == "__main__":
    made = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    try:
        main(made, int(sys.argv[2]) if len(sys.argv) > 2 else 30)
    finally:
        shutil.rmtree(made)
