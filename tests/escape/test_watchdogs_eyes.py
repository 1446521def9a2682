"""What looks at a sandbox's files from outside, as the user of the host, is shown links where there were directories."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.subjects import Box

from lisrt import Limits

#: Directories that their owner may not enter, and links in their places, many times a second.
SWAP = """if True:
    import ctypes, os, sys, time
    swap = ctypes.CDLL(None).renameat2
    for number in range(200):
        os.mkdir(f"d{number}"); os.chmod(f"d{number}", 0o077); os.symlink(sys.argv[1], f"l{number}")
    pairs = [(f"d{number}".encode(), f"l{number}".encode()) for number in range(200)]
    end = time.monotonic() + 6
    while time.monotonic() < end:
        for one, other in pairs:
            swap(-100, one, -100, other, 2)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_disk_watchdog_sets_no_mode_of_the_hosts(open_box: Callable[..., Box], tmp_path: Path, kind: str) -> None:
    """It enters directories that are closed to their owner, and used to open whatever a link in their place led to."""
    victim = tmp_path / "victim"
    victim.mkdir(0o700) if kind == "directory" else victim.touch(0o600)
    before = victim.stat().st_mode
    box = open_box(limits=Limits(disk="10MiB", enforce="watchdog"))
    done = threading.Event()
    seen = set()

    def look() -> None:
        while not done.wait(0.01):
            seen.add(victim.stat().st_mode)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        box.python(SWAP, os.fspath(victim), timeout=50)
    finally:
        done.set()
        thread.join()
    assert seen == {before}
