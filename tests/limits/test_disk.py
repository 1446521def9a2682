"""Disk, files, descriptors, output, wall time, standard input that nobody reads."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from support.waiting import not_blocked

from lisrt import Limits, Mount, Outcome, Sandbox

from .bombs import DISK, FILES


def used(box: Sandbox) -> int:
    """MiB in the working directory."""
    return int(box.run(["du", "-sm", "."]).stdout.split()[0])


def test_one_large_file_stops_at_the_limit(limited: Callable[..., Sandbox]) -> None:
    """A single file holds at once: RLIMIT_FSIZE."""
    box = limited(disk="20MiB")
    result = box.run(["dd", "if=/dev/zero", "of=big", "bs=1M", "count=1000"], timeout=40)
    assert not result.ok and "disk" in result.exhausted
    assert box.run(["stat", "-c", "%s", "big"]).stdout == f"{20 << 20}\n"


def test_many_files_are_stopped(limited: Callable[..., Sandbox]) -> None:
    """The sum holds a moment later: the programs are killed, and the sandbox can be cleared up and used."""
    box = limited(disk="50MiB")
    result = box.run(["python3", "-c", DISK], timeout=60)
    assert (result.outcome, result.signal, result.exhausted) == (Outcome.SIGNALED, 9, ("disk",))
    assert "disk" in result.summary()
    assert used(box) >= 50
    assert box.sh("rm -f [0-9]*; echo fine", timeout=40).stdout == "fine\n"
    assert used(box) < 5
    assert box.sh("sleep 0.5; head -c 1M /dev/zero > small; echo fine", timeout=40).stdout == "fine\n"


def test_one_after_the_other_they_don_t_add_up(limited: Callable[..., Sandbox]) -> None:
    """Each command that is killed leaves something; together that stays within bounds."""
    box = limited(disk="20MiB")
    for number in range(12):
        result = box.sh(f"for i in $(seq 200); do head -c 1M /dev/zero > {number}-$i; done", timeout=60)
        assert "disk" in result.exhausted
    assert used(box) < 400
    box.sh("rm -rf *", timeout=60)
    assert box.sh("sleep 0.3; echo fine").stdout == "fine\n"


def test_a_closed_directory_hides_nothing(limited: Callable[..., Sandbox]) -> None:
    """What a program has made unreadable counts all the same, and stays as it is."""
    box = limited(disk="20MiB")
    script = "mkdir h; chmod 311 h; for i in $(seq 300); do head -c 1M /dev/zero > h/$i; done"
    assert "disk" in box.sh(script, timeout=60).exhausted
    assert box.run(["stat", "-c", "%a", "h"]).stdout == "311\n"


def test_a_million_files(limited: Callable[..., Sandbox]) -> None:
    """The number of files has a limit of its own."""
    box = limited(files=5000)
    result = box.run(["python3", "-c", FILES], timeout=60)
    assert (result.signal, result.exhausted) == (9, ("disk",))
    assert box.sh("rm -rf d; ls | wc -l", timeout=60).stdout == "0\n"


def test_a_tree_deeper_than_anybody_needs(limited: Callable[..., Sandbox]) -> None:
    """What can't be added up counts as too much."""
    box = limited(disk="50MiB")
    source = "import os\nwhile True:\n os.mkdir('d'); os.chdir('d')\n open('x', 'w').write('x' * 10000)"
    result = box.run(["python3", "-c", source], timeout=60)
    assert (result.signal, result.exhausted) == (9, ("disk",))


def test_output_has_a_limit(limited: Callable[..., Sandbox]) -> None:
    """Beyond it the command is killed; without one the rest is dropped and the command goes on."""
    with not_blocked():
        result = limited(output="3MB").run(["yes"], timeout=40)
    assert (result.outcome, result.signal, result.exhausted) == (Outcome.SIGNALED, 9, ("output",))
    assert result.stdout.startswith("y\ny\n") and result.truncated
    box = limited()
    result = box.sh("head -c 300M /dev/zero; echo end", timeout=60)
    assert result.ok and result.stdout.endswith("end\n") and result.exhausted == ()


def test_wall_time_bounds_every_command(limited: Callable[..., Sandbox]) -> None:
    """`timeout` may ask for less, never for more."""
    box = limited(wall_time=0.5)
    started = time.monotonic()
    result = box.run(["sleep", "1000"], timeout=900)
    assert (result.outcome, result.exhausted) == (Outcome.TIMED_OUT, ("wall_time",))
    assert time.monotonic() - started < 10
    result = box.run(["sleep", "1000"], timeout=0.1)
    assert (result.outcome, result.exhausted) == (Outcome.TIMED_OUT, ())


def test_open_files(limited: Callable[..., Sandbox]) -> None:
    """Per process; PID 1 is none the worse for it."""
    box = limited(open_files=32)
    source = "import os\nfds = []\ntry:\n while True: fds.append(os.open('/', 0))\nexcept OSError: print(len(fds))"
    assert 20 <= int(box.run(["python3", "-c", source]).stdout) <= 32
    assert box.run(["sh", "-c", "ulimit -Hn"]).stdout == "32\n"


def test_few_open_files_and_many_mounts(enforce: str, tmp_path: Path) -> None:
    """What a creation itself needs is not held against the least limit there is."""
    mounts = [Mount(str(tmp_path), f"/mnt/{number}") for number in range(16)]
    with Sandbox(limits=Limits(open_files=16, enforce=enforce), mounts=mounts) as box:
        assert box.run(["sh", "-c", "ulimit -Hn; ls -d /mnt/*"]).stdout.split()[:2] == ["16", "/mnt/0"]
        box.snapshot()
        assert box.run(["true"]).ok


def test_unread_input(limited: Callable[..., Sandbox]) -> None:
    """50 MiB for a program that never reads them: over when it ends, or at the time limit."""
    box = limited(memory="100MiB")
    with not_blocked():
        assert box.run(["true"], stdin=b"x" * (50 << 20), timeout=20).ok
        assert box.run(["sleep", "1000"], stdin=b"x" * (50 << 20), timeout=0.5).outcome is Outcome.TIMED_OUT


def test_bytes_written_are_counted(limited: Callable[..., Sandbox]) -> None:
    """usage.written is what went towards a disk; on a scratch directory in memory it is 0."""
    box = limited()
    result = box.sh("head -c 8M /dev/urandom > f; sync f")
    where = box.guarantees["disk"].rpartition(" in ")[2]
    on_disk = subprocess.run(["stat", "-f", "-c", "%T", where], capture_output=True, text=True).stdout.strip() != "tmpfs"
    assert result.usage.written >= (8 << 20 if on_disk else 0)


def test_everything_stopped(limited: Callable[..., Sandbox]) -> None:
    """SIGSTOP of everything in the sandbox: the time limit holds, and the next command runs."""
    box = limited(memory="100MiB", pids=64)
    result = box.run(["bash", "-c", "kill -STOP -1; kill -STOP $$; echo no"], timeout=1)
    assert result.outcome is Outcome.TIMED_OUT
    assert box.run(["echo", "on"]).stdout == "on\n"
