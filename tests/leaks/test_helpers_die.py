"""The helper processes die under the program: it learns of it at once, and nothing else is harmed."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fresh import program, python, sweep
from support.procs import (
    assert_gone,
    assert_lives,
    init_of,
    leftovers,
    marked,
    mounts_naming,
    new_marker,
    parent,
)
from support.subjects import Box
from support.waiting import await_deaths, eventually, not_blocked

from lisrt import SandboxGone


def kill_init_of(marker: str) -> None:
    """SIGKILL, from the host, to PID 1 of the sandbox in which `sleep MARKER` runs."""
    init = init_of(assert_lives(marker))
    pidfd = os.pidfd_open(init)
    os.kill(init, signal.SIGKILL)
    assert await_deaths([pidfd], within=5) == []
    os.close(pidfd)


def test_the_death_of_pid_1_is_told_at_once(box: Box, marker: str) -> None:
    """A command in flight and every later verb raise SandboxGone, promptly; close works; nothing is left."""
    pending = [box.start("sh", f"sleep {marker} & wait") for _ in range(3)]
    eventually(lambda: len([pid for pid in marked(marker)]) >= 6)
    one = new_marker()
    box.sh(f"sleep {one} &").check()
    start = time.monotonic()
    kill_init_of(one)
    for call in pending:
        assert isinstance(call.exception(timeout=20), SandboxGone)
    calls = (("run", (["true"],)), ("read", ("/etc/passwd",)), ("write", ("f", "x")), ("download", ("/etc", "/nowhere")))
    for verb, arguments in calls:
        with pytest.raises(SandboxGone):
            box.start(verb, *arguments).result(timeout=20)
    assert time.monotonic() - start < 5
    assert not box.alive
    box.close()
    assert_gone(marker)
    assert_gone(one)


def test_other_sandboxes_go_on(open_box: Callable[..., Box], marker: str) -> None:
    """The death of one PID 1 is that sandbox's affair."""
    boxes = [open_box() for _ in range(4)]
    boxes[0].sh(f"sleep {marker} &").check()
    boxes[1].sh("mkfifo gate").check()
    pending = boxes[1].start("sh", "read word < gate; echo $word")
    kill_init_of(marker)
    with pytest.raises(SandboxGone):
        boxes[0].run(["true"])
    boxes[1].sh("echo on > gate").check()
    assert pending.result().stdout == "on\n"
    assert all(box.alive for box in boxes[1:])
    assert open_box().run(["echo", "new"]).stdout == "new\n"


def test_an_idle_sandbox_knows_that_it_died(box: Box, marker: str) -> None:
    """`alive` tells the truth without a command being tried."""
    box.sh(f"sleep {marker} &").check()
    assert box.alive
    kill_init_of(marker)
    eventually(lambda: not box.alive, what="the knowledge of the death")


def test_death_in_the_middle_of_a_transfer(box: Box, marker: str, tmp_path: Path) -> None:
    """A read, a write or a long stdin under way is SandboxGone too, never a short file in silence."""
    box.sh(f"sleep {marker} & head -c 300000000 /dev/zero > big").check()
    calls = [
        box.start("download", "big", tmp_path / "big"),
        box.start("run", ["sleep", "1000"], stdin=b"x" * (50 << 20)),
    ]
    kill_init_of(marker)
    with not_blocked():
        assert isinstance(calls[1].exception(), SandboxGone)
        error = calls[0].exception()
    assert isinstance(error, SandboxGone) or (error is None and (tmp_path / "big").stat().st_size == 300_000_000)


def test_the_death_of_the_spawner(tmp_path: Path, scratch: Path, marker: str) -> None:
    """SandboxGone for what is in flight and what comes later, nothing left running, and a new Sandbox works."""
    source = """
        import os, threading, time
        from lisrt import Sandbox, SandboxGone

        mark = os.environ["MARK"]
        boxes = [Sandbox() for _ in range(3)]
        boxes[1].sh(f"(setsid sleep {mark} &)")
        answers = []

        def wait():
            try:
                boxes[0].run(["sleep", mark + "9"])
            except SandboxGone:
                answers.append("gone")

        thread = threading.Thread(target=wait)
        thread.start()
        print("ready", flush=True)
        thread.join(20)
        print(*answers, flush=True)
        for box in boxes:
            try:
                box.run(["true"])
            except SandboxGone:
                print("gone", box.alive, flush=True)
            box.close()
        with Sandbox() as box:
            print(box.run(["echo", "new"]).stdout, end="", flush=True)
        input()
        with Sandbox() as box:
            print(box.run(["echo", "newer"]).stdout, end="", flush=True)
    """
    with program(source, cwd=tmp_path, env={"MARK": marker, "LISRT_SCRATCH": str(scratch)}) as script:
        script.expect("ready")
        pid = assert_lives(marker)
        assert_lives(marker + "9")
        os.kill(parent(init_of(pid)), signal.SIGKILL)
        script.expect("gone", within=10)
        for _ in range(3):
            script.expect("gone False", within=10)
        assert_gone(marker)
        script.expect("new")
        script.tell("go on")
        script.expect("newer")
        assert script.finish() == 0
        assert script.stderr() == ""
    assert mounts_naming(str(scratch)) == {}
    sweep(scratch, tmp_path)
    eventually(lambda: leftovers(scratch) == [], within=10, what="an empty scratch directory")


def test_the_death_of_the_spawner_costs_no_new_sandbox(tmp_path: Path, scratch: Path) -> None:
    """Killed at any moment: what comes next starts another one, every time."""
    source = """
        import os, signal
        from pathlib import Path
        from lisrt import Sandbox, SandboxGone
        from support.procs import helpers, _read

        scratch = Path(os.environ["LISRT_SCRATCH"])
        killed = set()  # the one before may still be dying
        for _ in range(20):
            box = Sandbox()
            [spawner] = [pid for pid in helpers(scratch) - killed if _read(pid, "comm") == b"lisrt-spawner\\n"]
            os.kill(spawner, signal.SIGKILL)
            killed.add(spawner)
            with Sandbox() as new:
                assert new.run(["echo", "new"]).stdout == "new\\n"
            box.close()
        print("fine")
    """
    assert python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}).stdout == "fine\n"


def test_the_death_of_the_one_who_deletes(tmp_path: Path, scratch: Path) -> None:
    """Another one takes over: what is closed later is deleted while the program lives."""
    source = """
        import os, signal
        from pathlib import Path
        from lisrt import Sandbox, spawner
        from support.procs import helpers, _read
        from support.waiting import eventually

        scratch = Path(os.environ["LISRT_SCRATCH"])
        boxes = [Sandbox() for _ in range(4)]
        for _ in range(3):
            [trash] = [pid for pid in helpers(scratch) if _read(pid, "comm") == b"lisrt-trash\\n"]
            os.kill(trash, signal.SIGKILL)
            boxes.pop().close()
            eventually(lambda: trash not in helpers(scratch))
            boxes.append(Sandbox())
            boxes.pop().close()
            own = Path(spawner.current().scratch)
            eventually(lambda: len([name for name in os.listdir(own) if name.startswith("b")]) <= len(boxes) + 1)
        for box in boxes:
            box.close()
        print("fine")
    """
    assert python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}).stdout == "fine\n"
