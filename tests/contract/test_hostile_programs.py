"""Programs that fight back: against the kill, against PID 1, against the host's files by way of a mount."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.procs import assert_gone
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Mount, Outcome

# A zombie without living threads is dead: its parent is about to see to it.
ALONE = """
import os
def lives(pid):
    try:
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" or int(fields[17]) > 1
pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}
print(*sorted(pid for pid in pids if lives(pid)))
"""


def assert_alone(box: Box) -> None:
    """PID 1, and nothing else that lives."""
    assert box.python(ALONE).stdout.split() == ["1"]


# A main thread that exits leaves a zombie whose other threads live on.
HEADLESS = """
import ctypes, os, sys, threading
if sys.argv[1] == "child" and os.fork():
    threading.Event().wait()
threading.Thread(target=threading.Event().wait).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""


@pytest.mark.parametrize("who", ["the command", "child"])
def test_threads_without_their_first_one_are_killed(box: Box, who: str) -> None:
    """A process that looks like a zombie and is not one dies with its tree; the sandbox goes on."""
    with not_blocked():
        result = box.python(HEADLESS, who, timeout=1)
    assert result.outcome is Outcome.TIMED_OUT
    assert_alone(box)


# The next processes are stopped as soon as they are there, also between fork and exec.
STOPPER = """
import os, signal
print("ready", flush=True)
while True:
    newest = max(int(name) for name in os.listdir("/proc") if name.isdigit())
    for pid in range(max(newest, os.getpid()) + 1, newest + 8):
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            pass
"""


def test_a_stopped_start_is_no_stopped_pid_1(box: Box) -> None:
    """Whatever stops commands before they begin: time limits hold, and PID 1 answers on."""
    box.write("stopper.py", STOPPER)
    assert box.sh("python3 stopper.py > out & until [ -s out ]; do :; done").ok
    for _ in range(8):
        with not_blocked():
            assert box.run(["true"], timeout=0.5).outcome in (Outcome.EXITED, Outcome.TIMED_OUT)
    assert box.alive


# Chains that fork, leave their session and exit: hundreds of sessions compete with PID 1 for the processor.
CHAINS = """
import os
for _ in range(400):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
while True:
    pass
"""


@pytest.mark.slow
def test_a_fork_bomb_in_hundreds_of_sessions_is_killed(box: Box) -> None:
    """It ends at its time limit, all of it, and the sandbox is as good as new."""
    bystander = box.start("sh", "read line; echo $line", stdin="still here\n")
    with not_blocked():
        result = box.python(CHAINS, timeout=1)
    assert result.outcome is Outcome.TIMED_OUT
    assert bystander.result().stdout == "still here\n"
    assert_alone(box)


def test_hundreds_of_children_left_behind(box: Box, marker: str) -> None:
    """Each keeps a pipe of its command open; the six hundredth works like the first."""
    for _ in range(600):
        assert box.sh(f"sleep {marker} &").ok
    assert box.sh("ls /proc | grep -c '^[0-9]'").stdout.strip() > "600"
    box.close()
    assert_gone(marker)


def test_nothing_can_be_nested(box: Box) -> None:
    """Every kind of namespace is at its limit, the one for time, too."""
    limits = box.sh("cd /proc/sys/user && for name in max_*_namespaces; do echo $name $(cat $name); done").stdout
    found = dict(line.split() for line in limits.splitlines())
    assert {"max_user_namespaces", "max_mnt_namespaces", "max_net_namespaces"} <= set(found)
    assert set(found.values()) == {"0"}


def test_a_crash_starts_nothing_on_the_host(box: Box) -> None:
    """Where core_pattern names a program, only a limit of exactly 1 byte keeps the kernel from starting it (core(5))."""
    [line] = [line for line in box.read_text("/proc/self/limits").splitlines() if line.startswith("Max core")]
    assert line.split()[4:6] in (["1", "1"], ["0", "0"])


@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o755])
@pytest.mark.parametrize("writable", [True, False])
def test_a_hosts_directory_keeps_its_mode(
    open_box: Callable[..., Box], tmp_path: Path, mode: int, writable: bool
) -> None:
    """Also as the workdir: what is private stays private, and what is shared in a group stays shared."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(mode)
    box = open_box(mounts=[Mount(tmp_path / "work", "/work", writable=writable)], workdir="/work")
    assert box.run(["pwd"]).stdout == "/work\n"
    assert stat.S_IMODE((tmp_path / "work").stat().st_mode) == mode


def test_a_long_path_is_the_callers_mistake(box: Box) -> None:
    """ENAMETOOLONG, as the kernel says it for less: not a socket's EMSGSIZE."""
    for verb, arguments in (("read", ()), ("write", ("x",))):
        with pytest.raises(OSError, match="too long"):
            getattr(box, verb)("/" + "x/" * 150_000, *arguments)
    assert box.alive
