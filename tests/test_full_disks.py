"""Scratch disks that are full, or become so: an error that says so, nothing else harmed, nothing left.

The disks are small file systems in memory, mounted in a user namespace as in test_hostile_hosts.py.
"""

from pathlib import Path

import pytest
from support.fresh import python
from test_hostile_hosts import host

pytestmark = pytest.mark.usefixtures("working_host")

ROOMY = 'mount -t tmpfs -o size=64m,nr_inodes=8000 none "$LISRT_SCRATCH"; chmod 700 "$LISRT_SCRATCH"'

START = """
    import os, subprocess, sys
    from pathlib import Path

    attempt = '''
    from lisrt import HostError, Sandbox
    try:
        Sandbox().close()
        print("works")
    except HostError as error:
        assert error.check == "scratch" and "No space left" in str(error), error
        print("full")
    '''
    verdicts = []
    for place in sorted(Path(os.environ["LISRT_SCRATCH"]).iterdir(), key=lambda place: int(place.name)):
        env = {**os.environ, "LISRT_SCRATCH": str(place)}
        import textwrap
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(attempt)], env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), (place.name, done)
        verdicts.append(done.stdout.strip())
        left = [path for path in place.rglob("*") if path.is_dir() and path.parent != place and path.parts[-1][0] != "."]
        assert not left, left
    print(*verdicts)
"""


def test_a_start_fails_at_whatever_does_not_fit(tmp_path: Path, scratch: Path) -> None:
    """However many files fit before the disk is full, the owner's record included: the same error, and no directory stays."""
    counts = (2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 40)
    setup = f"""for n in {" ".join(map(str, counts))}; do
        mkdir "$LISRT_SCRATCH/$n"; mount -t tmpfs -o nr_inodes=$n none "$LISRT_SCRATCH/$n"; chmod 700 "$LISRT_SCRATCH/$n"
    done"""
    done = python(START, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=host(setup))
    assert done.stdout.split() == ["full"] * len(counts)


def test_a_record_that_does_not_fit(tmp_path: Path, scratch: Path) -> None:
    """Directories can still be made, but no byte be written: the start fails by name, and takes its directory with it."""
    setup = """mkdir "$LISRT_SCRATCH/1"; mount -t tmpfs -o size=4k none "$LISRT_SCRATCH/1"; chmod 700 "$LISRT_SCRATCH/1"
        head -c 4096 /dev/zero > "$LISRT_SCRATCH/1/filler" """
    done = python(START, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=host(setup))
    assert done.stdout == "full\n"


FILLS_UP = """
    import errno, os
    from pathlib import Path
    from lisrt import HostError, Sandbox
    from support.waiting import eventually

    scratch = Path(os.environ["LISRT_SCRATCH"])
    [base] = ["lisrt-%d" % os.geteuid()]

    def count():
        return len([name for owner in (scratch / base).iterdir() if owner.name[0] != "." for name in owner.glob("b*")])

    def fill():
        number = 0
        while True:
            try:
                (scratch / f"filler-{number}").touch(exist_ok=False)
            except FileExistsError:
                pass
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                return
            number += 1

    box = Sandbox()
    box.write("file", "x")
    verdicts = []
    for free in range(12):
        eventually(lambda: count() == 1)
        fill()
        for number in range(free):
            (scratch / f"filler-{number}").unlink()
        try:
            Sandbox().close()
            verdicts.append("works")
        except HostError as error:
            assert error.check == "scratch" and "No space left" in str(error) and "$LISRT_SCRATCH" in str(error), error
            verdicts.append("full")
        assert box.sh("cat file").stdout == "x"
    assert verdicts[0] == "full" and verdicts[-1] == "works" and verdicts == sorted(verdicts), verdicts
    eventually(lambda: count() == 1)
    fill()
    try:
        box.write("another", "x")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    else:
        raise AssertionError("a file fitted into nothing")
    assert "No space left" in box.sh("touch yet-another").stderr
    box.close()
    eventually(lambda: count() == 0)
    with Sandbox() as box:
        assert box.sh("echo room again > file; cat file").stdout == "room again\\n"
    eventually(lambda: count() == 0)
    print("fine")
"""


def test_creation_on_a_disk_that_has_filled_up(tmp_path: Path, scratch: Path) -> None:
    """However few files still fit: HostError, row scratch. What lives goes on, can be closed, and makes room by that."""
    done = python(FILLS_UP, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, prefix=host(ROOMY))
    assert done.stdout == "fine\n"
