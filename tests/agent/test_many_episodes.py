"""As many episodes at once as the issue of it all: hundreds, in one process."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.fresh import environment

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("working_host")

PROGRAM = Path(__file__).resolve().parents[2] / "bench/episodes_at_once.py"
EPISODES = 512


def test_hundreds_at_once_in_one_process(tmp_path: Path) -> None:
    """None is lost, and the process has less than a megabyte more for each. How quick they are is the benchmark's business."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 16 * EPISODES:
        pytest.skip("the hard limit on open files is too low for as many")
    done = subprocess.run(
        [sys.executable, PROGRAM, str(EPISODES), "4"],
        env=environment(HOME=str(tmp_path)), cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ended"] == {"submitted": EPISODES}
    assert report["memory of this process for an episode, KiB"] < 1024
