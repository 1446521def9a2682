"""The processes that watch: they survive being killed, and the host's own killer takes sandboxes first."""

import os
import signal
from pathlib import Path

import pytest
from support.fresh import program
from support.procs import assert_lives, descendants, init_of, new_marker, parent
from support.waiting import await_deaths, eventually

from lisrt import Limits, Outcome, Sandbox

from .bombs import DISK, MEMORY


def services(spawner: int) -> dict[str, int]:
    """The spawner's own children by name."""
    own = (pid for pid in descendants(spawner) if parent(pid) == spawner)
    return {(Path("/proc") / str(pid) / "comm").read_text().strip(): pid for pid in own}


def kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert await_deaths([pidfd], within=5) == []
    os.close(pidfd)


@pytest.mark.parametrize(
    ("name", "limits", "bomb", "exhausted"),
    [
        ("lisrt-watchdog", Limits(memory="64MiB", enforce="watchdog"), MEMORY["private"], "memory"),
        ("lisrt-disk", Limits(disk="20MiB"), DISK, "disk"),
    ],
)
def test_another_one_takes_over(working_host: None, name: str, limits: Limits, bomb: str, exhausted: str) -> None:
    """Killed, a watchdog is replaced, and the new one watches sandboxes that were there before it."""
    marker = new_marker()
    with Sandbox(limits=limits) as box:
        box.sh(f"setsid sleep {marker} > /dev/null 2>&1 &")
        spawner = parent(init_of(assert_lives(marker)))
        old = services(spawner)[name]
        kill(old)
        eventually(lambda: services(spawner).get(name, old) != old, what="another watchdog")
        result = box.run(["python3", "-c", bomb], timeout=40)
        assert exhausted in result.exhausted
        assert box.run(["echo", "on"]).stdout == "on\n"


def test_no_limit_no_watchdog(tmp_path: Path, scratch: Path) -> None:
    """A program that asks for no limits has no process that looks for them."""
    marker = new_marker()
    source = f"""
        from lisrt import Sandbox

        with Sandbox() as box:
            box.sh("setsid sleep {marker} > /dev/null 2>&1 &")
            print("ready")
            input()
    """
    with program(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}) as running:
        running.expect("ready")
        spawner = parent(init_of(assert_lives(marker)))
        assert not {"lisrt-watchdog", "lisrt-disk"} & set(services(spawner))


def test_sandboxes_go_first(working_host: None) -> None:
    """When the host runs out of memory, its own killer prefers what is in a sandbox to the program that made it."""
    marker = new_marker()
    with Sandbox() as box:
        box.sh(f"setsid sleep {marker} > /dev/null 2>&1 &")
        inside = int(Path(f"/proc/{assert_lives(marker)}/oom_score_adj").read_text())
        ours = int(Path("/proc/self/oom_score_adj").read_text())
        assert inside >= min(1000, ours + 400)
        refused = box.sh("echo 0 > /proc/self/oom_score_adj")
        assert not refused.ok and refused.outcome is Outcome.EXITED
