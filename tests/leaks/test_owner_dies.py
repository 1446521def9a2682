"""The program that owns the sandboxes ends, by any way there is: nothing is left."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fresh import Program, program, python, sweep
from support.procs import descendants, helpers, leftovers, marked, mounts_naming, sleeping, tree
from support.waiting import await_deaths, eventually, open_pidfds

pytestmark = pytest.mark.usefixtures("working_host")

#: Opens sandboxes, each with a plain daemon and one that got away from its session, and says when all of them run.
OWNER = """
import os, sys
from lisrt import Sandbox

mark = os.environ["MARK"]
boxes = [Sandbox() for _ in range(int(os.environ["BOXES"]))]
for box in boxes:
    box.sh(f"(setsid sleep {mark} &); trap '' TERM HUP; sleep {mark} & echo x > file").check()
print("ready", flush=True)
"""


@contextlib.contextmanager
def owner(ending: str, *, boxes: int, marker: str, scratch: Path, cwd: Path) -> Iterator[Program]:
    """A program that holds sandboxes, is ready, and goes on with `ending` when told."""
    env = {"MARK": marker, "BOXES": str(boxes), "LISRT_SCRATCH": str(scratch)}
    with program(OWNER + ending, cwd=cwd, env=env) as script:
        script.expect("ready")
        eventually(lambda: len(sleeping(marker)) == 2 * boxes, within=20, what="every daemon")
        yield script


def everything_of(script: Program, marker: str, scratch: Path) -> set[int]:
    """All processes that have to do with a program's sandboxes, however they are related."""
    return (descendants(script.pid) | marked(marker) | helpers(scratch)) - {script.pid}


def assert_all_die(pids: set[int], pidfds: dict[int, int], *, within: float) -> None:
    """Each of the processes ends before the deadline."""
    left = await_deaths(pidfds.values(), within=within)
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid, fd in pidfds.items() if fd in left}
    for fd in pidfds.values():
        os.close(fd)
    assert not left, f"alive after {within} s: {names}"


def assert_nothing_runs(marker: str, scratch: Path) -> None:
    """No process of the sandboxes, and no mount of theirs anywhere on this host."""
    assert marked(marker) == set()
    assert mounts_naming(str(scratch)) == {}


def assert_next_start_sweeps(scratch: Path, cwd: Path) -> None:
    """The next program that uses lisrt removes what a killed one could not."""
    sweep(scratch, cwd)
    eventually(lambda: leftovers(scratch) == [], within=10, what="an empty scratch directory")


@pytest.mark.slow
def test_sigkill_of_an_owner_of_64(tmp_path: Path, scratch: Path, marker: str) -> None:
    """SIGKILL: within one second no process and no mount of 64 sandboxes is left, and the next start removes the directories."""
    with owner("input()", boxes=64, marker=marker, scratch=scratch, cwd=tmp_path) as script:
        pids = everything_of(script, marker, scratch)
        assert len(pids) >= 64 * 3
        pidfds = open_pidfds(pids)
        os.kill(script.pid, signal.SIGKILL)
        start = time.monotonic()
        assert_all_die(pids, pidfds, within=1.0)
        assert time.monotonic() - start < 1.5
        assert_nothing_runs(marker, scratch)
    assert_next_start_sweeps(scratch, tmp_path)


#: The ways a Python program ends without closing, and the status that must come of it.
ENDINGS = {
    "falls off the end": ("input()", 0),
    "sys.exit": ("input(); sys.exit(3)", 3),
    "an exception": ("input(); raise ValueError('mine')", 1),
    "os._exit": ("input(); os._exit(5)", 5),
    "sys.exit in with": ("\nwith Sandbox() as another:\n    input(); sys.exit(4)", 4),
    "abort": ("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); input(); os.abort()", -signal.SIGABRT),
    "SIGTERM": ("import signal; input(); os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGHUP": ("import signal; input(); os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
    "exec": ("input(); os.execv('/bin/sh', ['sh', '-c', 'exit 6'])", 6),
    "exec that goes on": ("input(); os.execv('/bin/sh', ['sh', '-c', 'read line; exit 7'])", 7),
    "a daemon thread waits": (
        "import threading; threading.Thread(target=boxes[0].run, args=(['sleep', '1000'],), daemon=True).start(); input()",
        0,
    ),
    "gc collects": ("import gc; input(); del boxes, box; gc.collect(); sys.exit(8)", 8),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_an_end_without_close(tmp_path: Path, scratch: Path, marker: str, how: str) -> None:
    """However the program ends, its status is its own, and no process, mount or directory of its sandboxes stays."""
    ending, status = ENDINGS[how]
    with owner(ending, boxes=3, marker=marker, scratch=scratch, cwd=tmp_path) as script:
        pids = everything_of(script, marker, scratch)
        pidfds = open_pidfds(pids)
        script.tell("end")
        if how == "exec that goes on":
            assert_all_die(pids, pidfds, within=5)
            script.tell("end")
            assert script.finish() == status
        else:
            assert script.finish() == status
            assert_all_die(pids, pidfds, within=5)
        assert_nothing_runs(marker, scratch)
        if how == "an exception":
            assert script.stderr().strip().endswith("ValueError: mine")
        elif status >= 0 and how != "a daemon thread waits":  # its call did fail
            assert script.stderr() == ""
    assert_next_start_sweeps(scratch, tmp_path)


def test_a_normal_end_cleans_up_at_once(tmp_path: Path, scratch: Path, marker: str) -> None:
    """A program that just ends leaves no directory for the next start to sweep."""
    with owner("input()", boxes=2, marker=marker, scratch=scratch, cwd=tmp_path) as script:
        script.tell("end")
        assert script.finish() == 0
    eventually(lambda: leftovers(scratch) == [], within=10, what="an empty scratch directory")


@pytest.mark.slow
def test_sigkill_in_the_middle_of_creation(tmp_path: Path, scratch: Path, marker: str) -> None:
    """A program killed while it creates and closes sandboxes from several threads leaves nothing either."""
    source = """
        import os, threading
        from lisrt import Sandbox

        def churn():
            while True:
                with Sandbox() as box:
                    box.sh("sleep $M & (setsid sleep $M &)", env={"M": os.environ["MARK"]})

        for _ in range(8):
            threading.Thread(target=churn, daemon=True).start()
        print("ready", flush=True)
        input()
    """
    for round_ in range(5):
        with program(source, cwd=tmp_path, env={"MARK": marker, "LISRT_SCRATCH": str(scratch)}) as script:
            script.expect("ready")
            eventually(lambda: sleeping(marker), what="the first daemon")
            for _ in range(round_):
                tree(scratch)
            os.kill(script.pid, signal.SIGKILL)
            eventually(lambda: not marked(marker), within=5, what="the end of every daemon")
            eventually(lambda: not mounts_naming(str(scratch)), within=5, what="the end of every helper")
    assert_next_start_sweeps(scratch, tmp_path)


def test_the_sweep_spares_the_living(tmp_path: Path, scratch: Path, marker: str) -> None:
    """Several programs share a scratch base: the start of one takes nothing from another that lives."""
    ending = """
for line in sys.stdin:
    print(*[box.sh("cat file").stdout.strip() for box in boxes], flush=True)
"""
    with owner(ending, boxes=3, marker=marker, scratch=scratch, cwd=tmp_path) as script:
        other = tmp_path / "other"
        other.mkdir()
        for _ in range(3):
            sweep(scratch, other)
            script.tell("still there?")
            script.expect("x x x")


def test_the_sweep_follows_no_link(tmp_path: Path, scratch: Path, marker: str) -> None:
    """Links that a sandbox of a killed program left in its layer are removed, never followed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("stays")
    lay = f"ln -s {precious} dir; ln -s {precious}/file file2; mkdir d; ln -s {precious} d/e; chmod 0 d"
    ending = f"\nfor box in boxes: box.sh({lay!r})\nprint('laid', flush=True)\ninput()"
    with owner(ending, boxes=3, marker=marker, scratch=scratch, cwd=tmp_path) as script:
        script.expect("laid")
        os.kill(script.pid, signal.SIGKILL)
        script.finish()
    assert_next_start_sweeps(scratch, tmp_path)
    assert (precious / "file").read_text() == "stays"


def test_a_stopped_owner_keeps_its_sandboxes(tmp_path: Path, scratch: Path, marker: str) -> None:
    """A program that is stopped and continued (Ctrl-Z, a debugger) finds its sandboxes as they were."""
    ending = "input(); print(boxes[0].sh('cat file').stdout, end='')"
    with owner(ending, boxes=1, marker=marker, scratch=scratch, cwd=tmp_path) as script:
        os.kill(script.pid, signal.SIGSTOP)
        python("from lisrt import Sandbox\nSandbox().close()", cwd=scratch.parent, env={"LISRT_SCRATCH": str(scratch)})
        os.kill(script.pid, signal.SIGCONT)
        script.tell("go on")
        script.expect("x")
        assert script.finish() == 0
