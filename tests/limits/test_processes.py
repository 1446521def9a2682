"""Processes, threads and CPUs."""

import os
import time
from collections.abc import Callable

import pytest

from lisrt import HostError, Limits, Outcome, Sandbox

from .bombs import FORK, THREADS

#: Waits, without a process of its own, until there are 62.
FULL = "until set -- /proc/[0-9]*; [ $# -ge 62 ]; do :; done"


def test_a_fork_bomb_is_contained(limited: Callable[..., Sandbox]) -> None:
    """It hits the limit, which the result says, and what it leaves is killed: the sandbox is as good as new."""
    box = limited(pids=64)
    results = [box.sh(f"( {FORK} ) & {FULL}; echo over", timeout=30)]
    while not results[-1].exhausted and len(results) < 4:  # it can end just as the bomb is between two forks
        results.append(box.sh(f"{FULL}; echo over", timeout=30))
    assert (results[-1].stdout, results[-1].exhausted) == ("over\n", ("pids",))
    assert box.sh("ls / | wc -l", timeout=20).ok
    assert int(box.sh("ls -d /proc/[0-9]* | wc -l", timeout=20).stdout) < 10


def test_a_fork_bomb_at_the_time_limit(limited: Callable[..., Sandbox]) -> None:
    """One that never ends is killed at the time limit, in time."""
    box = limited(pids=200)
    started = time.monotonic()
    result = box.sh(f"( {FORK} ) & {FULL.replace('62', '195')}; : > full; sleep 1000", timeout=6)
    assert result.outcome is Outcome.TIMED_OUT
    assert "pids" in result.exhausted or not box.sh("test -e full").ok
    assert time.monotonic() - started < 15
    assert box.run(["echo", "on"]).stdout == "on\n"


def test_a_thread_bomb(limited: Callable[..., Sandbox]) -> None:
    """Threads count as processes do."""
    box = limited(pids=64)
    result = box.run(["python3", "-c", THREADS], timeout=2)
    assert result.outcome is Outcome.TIMED_OUT and "pids" in result.exhausted
    assert 50 <= int(result.stdout) <= 64
    assert box.run(["echo", "on"]).stdout == "on\n"


def test_one_sandbox_does_not_count_for_another(limited: Callable[..., Sandbox]) -> None:
    """Each has its own number, whatever else this user runs."""
    boxes = [limited(pids=8) for _ in range(6)]
    assert [box.sh("sleep 0.2 & sleep 0.2 & sleep 0.2 & wait; echo fine", timeout=20).stdout for box in boxes] == ["fine\n"] * 6


def test_a_full_sandbox_still_runs_a_command(limited: Callable[..., Sandbox]) -> None:
    """One that needs no child of its own: there is a reserve for that."""
    box = limited(pids=16)
    box.sh("for i in $(seq 13); do setsid sleep 1000 > /dev/null 2>&1 & done")
    assert box.run(["bash", "-c", "kill -9 -1"], timeout=10).ok  # all but itself
    assert box.sh("ls / | wc -l", timeout=20).ok


def test_no_limit_by_name(limited: Callable[..., Sandbox]) -> None:
    """None is none."""
    box = limited(pids=None)
    assert box.guarantees["pids"] == "not limited"
    assert box.run(["bash", "-c", "ulimit -u"]).stdout.strip() in ("unlimited", str(_own_limit()))


def _own_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NPROC)[0]


def test_whole_cpus(limited: Callable[..., Sandbox]) -> None:
    """Two busy processes on one CPU's worth use about one CPU."""
    box = limited(cpus=1)
    source = """
import os, time
def spin():
    end = time.monotonic() + 1.5
    while time.monotonic() < end: pass
child = os.fork()
spin()
if child: os.waitpid(child, 0)
"""
    result = box.run(["python3", "-c", source], timeout=60)
    assert result.outcome is Outcome.EXITED
    assert result.usage.cpu <= result.duration * 1.25 + 0.1


def test_cpu_affinity_is_kept(working_host: None) -> None:
    """Where CPUs are held by affinity no program can widen its set."""
    cpus = sorted(os.sched_getaffinity(0))
    with Sandbox(limits=Limits(cpus=1, enforce="watchdog")) as box:
        source = f"import os\nprint(len(os.sched_getaffinity(0)))\nos.sched_setaffinity(0, {cpus})"
        result = box.run(["python3", "-c", source])
        assert result.stdout == "1\n" and "PermissionError" in result.stderr


def test_part_of_a_cpu(working_host: None) -> None:
    """Affinity can't hold half a CPU: refused by name, with the way out."""
    with pytest.raises(HostError) as caught:
        Sandbox(limits=Limits(cpus=0.5, enforce="watchdog"))
    assert caught.value.check == "cpus" and "whole" in caught.value.fix
