"""Memory: a bomb of any kind ends as out_of_memory, and the sandbox, its files and its neighbours stay."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.procs import assert_gone, new_marker

from lisrt import ExecResult, HostError, Limits, Outcome, Sandbox

from .bombs import MEMORY

LIMIT = 100 << 20


def blow(box: Sandbox, kind: str, timeout: float = 40) -> ExecResult:
    return box.run(["python3", "-c", MEMORY[kind]], timeout=timeout)


@pytest.mark.parametrize("kind", MEMORY)
def test_a_bomb_ends_as_out_of_memory(limited: Callable[..., Sandbox], kind: str) -> None:
    """The verdict, the peak that led to it, and a sandbox that works on."""
    box = limited(memory=LIMIT)
    box.write("kept.txt", "kept")
    result = blow(box, kind)
    assert (result.outcome, result.exhausted) == (Outcome.OUT_OF_MEMORY, ("memory",)), result.stderr
    assert result.exit_code is None and result.returncode == 137 and not result.ok
    assert result.usage.memory_peak >= LIMIT * 0.9
    assert "memory limit" in result.summary()
    assert box.read("kept.txt") == b"kept"
    assert box.run(["echo", "on"]).stdout == "on\n"


def test_below_the_limit_nothing_happens(limited: Callable[..., Sandbox]) -> None:
    """Eighty percent, shared by five forked processes, is not five times as much."""
    source = """
import os, time
kept = bytearray(80 << 20)
for at in range(0, len(kept), 4096): kept[at] = 1
for _ in range(5):
    if os.fork() == 0:
        time.sleep(1.5)
        os._exit(0)
for _ in range(5): os.wait()
print("fine")
"""
    result = limited(memory=LIMIT).run(["python3", "-c", source], timeout=40)
    assert (result.outcome, result.stdout, result.exhausted) == (Outcome.EXITED, "fine\n", ())


def test_sharers_that_end_together_do_not_count_twice(limited: Callable[..., Sandbox]) -> None:
    """What one lets go of falls to the others, and must not be added to what it had: twelve with sixty percent, many times."""
    source = """
import os
kept = bytearray(b"x") * (60 << 20)
for _ in range(12):
    reading, writing = os.pipe()
    for _ in range(12):
        if os.fork() == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    os.close(reading)
    os.close(writing)
    for _ in range(12): os.wait()
print("fine")
"""
    result = limited(memory=LIMIT).run(["python3", "-c", source], timeout=60)
    assert (result.outcome, result.stdout, result.exhausted) == (Outcome.EXITED, "fine\n", ())


def test_a_waiting_parent_does_not_count_twice(limited: Callable[..., Sandbox]) -> None:
    """Between vfork and exec two processes show the same memory: sixty percent is not a hundred and twenty."""
    source = """
import subprocess
kept = bytearray(b"x") * (60 << 20)
for _ in range(150): subprocess.run(["/bin/true"], check=True)
print("fine")
"""
    result = limited(memory=LIMIT).run(["python3", "-c", source], timeout=60)
    assert (result.outcome, result.stdout, result.exhausted) == (Outcome.EXITED, "fine\n", ())


def test_one_that_is_dear_to_look_at_makes_nobody_wait(limited: Callable[..., Sandbox]) -> None:
    """Twenty processes with ten thousand descriptors each, in one sandbox; a bomb in another is seen all the same."""
    source = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (11000, 11000))
kept = [os.dup(0) for _ in range(10000)]
for _ in range(20):
    if os.fork() == 0: time.sleep(1000)
print("ready", flush=True)
open("ready", "w").close()
time.sleep(1000)
"""
    dear, bomb = limited(memory="200MiB"), limited(memory=LIMIT)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(dear.run, ["python3", "-c", source], timeout=8)
        dear.sh("until [ -e ready ]; do sleep 0.05; done", timeout=30).check()
        for kind in ("private", "shared"):
            assert blow(bomb, kind).outcome is Outcome.OUT_OF_MEMORY
        assert running.result(timeout=30).outcome in (Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)


def test_the_page_cache_does_not_count(limited: Callable[..., Sandbox]) -> None:
    """Writing and reading files larger than the limit is no use of memory that kills."""
    box = limited(memory="64MiB")
    result = box.sh("head -c 200M /dev/zero > big && cat big big > /dev/null && echo fine", timeout=40)
    assert (result.outcome, result.stdout) == (Outcome.EXITED, "fine\n")


def test_files_in_dev_shm_are_bounded(limited: Callable[..., Sandbox]) -> None:
    """/dev/shm holds half of the limit, so that what is left there does not end the next command."""
    box = limited(memory="64MiB")
    assert box.sh("head -c 100M /dev/zero > /dev/shm/x").exit_code == 1
    assert box.run(["stat", "-c", "%s", "/dev/shm/x"]).stdout == f"{32 << 20}\n"
    assert box.sh("sleep 0.3; echo on", timeout=20).stdout == "on\n"


def test_everything_in_the_sandbox_goes(limited: Callable[..., Sandbox]) -> None:
    """A daemon of an earlier command, and a command that runs at the same time, are killed with the bomb."""
    box, mark = limited(memory=LIMIT), new_marker()
    box.sh(f"setsid sleep {mark} > /dev/null 2>&1 &")
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(box.run, ["sleep", mark])
        assert blow(box, "private").outcome is Outcome.OUT_OF_MEMORY
        assert other.result(timeout=20).outcome is Outcome.OUT_OF_MEMORY
    assert_gone(mark)


def test_the_next_command_is_innocent(limited: Callable[..., Sandbox]) -> None:
    """Right after a bomb, many times: the verdict never spills over."""
    box = limited(memory="32MiB")
    for kind in [*MEMORY, *MEMORY]:
        assert blow(box, kind).outcome is Outcome.OUT_OF_MEMORY
        box.run(["rm", "-f", "/dev/shm/x"]).check()
        after = box.run(["python3", "-c", "print(1)"])
        assert (after.outcome, after.stdout, after.exhausted) == (Outcome.EXITED, "1\n", ())


def test_the_peak_is_that_of_the_command(limited: Callable[..., Sandbox]) -> None:
    """Of 40 MiB that are held for a while about 40 MiB are reported, and a small command after it reports less."""
    box = limited(memory="200MiB")
    source = "import time\nkept = bytearray(b'x') * (40 << 20)\ntime.sleep(1)"
    large = box.run(["python3", "-c", source], timeout=40).usage.memory_peak
    assert 40 << 20 <= large <= 90 << 20
    if "version 2" not in box.guarantees["memory"]:  # its peak can't be set back before Linux 6.12
        assert box.run(["sleep", "0.1"]).usage.memory_peak < 40 << 20


def test_a_limit_is_reported(limited: Callable[..., Sandbox], enforce: str) -> None:
    """The guarantees name the amount and who enforces it."""
    words = limited(memory=LIMIT).guarantees["memory"]
    expected = {"watchdog": "watchdog", "cgroup1": "version 1", "cgroup2": "version 2", "scope": "version 2"}[enforce]
    assert words.startswith("100 MiB") and expected in words


@pytest.mark.parametrize("wanted", ["cgroup1", "cgroup2"])
def test_a_way_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str, working_host: None) -> None:
    """Asked for by name, a control group that there is none of is a HostError with a fix, not another way."""
    with pytest.raises(HostError) as caught:
        from lisrt.enforcement import choose

        choose(Limits(memory=LIMIT, enforce=wanted), {})
    assert caught.value.check == "memory" and "watchdog" in caught.value.fix


@pytest.mark.slow
def test_sixty_four_bombs_at_once(enforce: str) -> None:
    """64 bombs of 100 MiB among 512 sandboxes: 64 verdicts, and the other 448 answer meanwhile and afterwards."""
    from contextlib import ExitStack

    with ExitStack() as stack, ThreadPoolExecutor(80) as threads:
        make = lambda: Sandbox(limits=Limits(memory=LIMIT, enforce=enforce))  # noqa: E731
        boxes = [stack.enter_context(box) for box in threads.map(lambda _: make(), range(512))]
        bombs = [threads.submit(blow, box, list(MEMORY)[number % 4], 200) for number, box in enumerate(boxes[:64])]
        rounds = 0
        while not all(bomb.done() for bomb in bombs) or rounds == 0:
            for box in boxes[64::16]:
                assert box.run(["echo", "here"], timeout=30).stdout == "here\n"
            rounds += 1
        assert {bomb.result().outcome for bomb in bombs} == {Outcome.OUT_OF_MEMORY}
        assert all(answer == "here\n" for answer in threads.map(lambda box: box.run(["echo", "here"]).stdout, boxes))


def test_freezing_gives_memory_back(limited: Callable[..., Sandbox], enforce: str) -> None:
    """Where a group counts it, what the kernel has cached of files; and the programs' own, if there is swap. Elsewhere it
    says that nobody was asked."""
    box = limited(memory=LIMIT)
    assert box._box.home is not None
    kind = subprocess.run(["stat", "-f", "-c", "%T", box._box.home.scratch], capture_output=True, text=True, check=True)
    box.sh("head -c 50000000 /dev/zero > data && sync data && cat data > /dev/null; sleep 1000 & sleep 0").check()
    found = box.freeze()
    assert found.processes == 1
    if enforce == "watchdog":
        assert found.reclaimed is None
    else:
        # version 2 does not wait for what is not on disk yet, and fsync of a sandbox's file does nothing
        least = 40 << 20 if enforce == "cgroup1" and kind.stdout != "tmpfs\n" else 0
        assert found.reclaimed is not None and found.reclaimed >= least
    assert box.sh("wc -c < data").stdout == "50000000\n"
