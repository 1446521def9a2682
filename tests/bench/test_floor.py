"""The floor measures what it says: sandboxes that are isolated as lisrt's are, no cheaper ones; and it leaves nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.procs import assert_lives, descendants, init_of, inner_pid, pids
from support.waiting import eventually

from lisrt import Sandbox, spawner
from lisrt.bench import floor as floor_module
from lisrt.bench.backend import BackendError, Unavailable
from lisrt.bench.floor import Floor


@pytest.fixture
def floor(working_host: None) -> Iterator[Floor]:
    """One; afterwards nothing of it runs or lies about."""
    with Floor() as made:
        pid, directory = made._process.pid, Path(made._directory)
        below = descendants(pid)
        yield made
        below |= descendants(pid)
    assert not directory.exists()
    eventually(lambda: not (below | {pid}) & set(pids()), what="the end of all its processes")


def init_of_floor(floor: Floor) -> int:
    """PID 1 of the sandbox that it has: of all below it the one that is PID 1 to itself, and is so deep."""
    return max((pid for pid in descendants(floor._process.pid) if inner_pid(pid) == 1), key=lambda pid: len(numbers(pid)))


def numbers(pid: int) -> list[str]:
    """Of a process in each pid namespace that it is in."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith("NSpid:"))


def privileges(pid: int) -> dict[str, str]:
    """What the kernel says of a process and its namespaces, where that should not differ."""
    wanted = "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return {name: lines[name] for name in wanted} | {"depth": str(len(numbers(pid)))}


def mounts(pid: int) -> list[tuple[str, str, frozenset[str]]]:
    """Where, what type, and whether read-only, nosuid, ...: of each mount."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        found.append((before.split()[4], after.split()[0], frozenset(before.split()[5].split(",")) - {"relatime"}))
    return sorted(found, key=str)


def test_its_sandboxes_are_what_lisrts_are(floor: Floor, marker: str) -> None:
    """The same mounts with the same flags, no capability, a filter, as deep a pid namespace: nothing was saved there."""
    floor.create()
    with Sandbox("host", launcher="native") as box:
        box.sh(f"sleep {marker} >/dev/null 2>&1 &").check()
        ours, theirs = init_of(assert_lives(marker)), init_of_floor(floor)
        assert privileges(theirs) == privileges(ours)
        assert mounts(theirs) == mounts(ours)
    floor.destroy()


def test_each_operation_takes_time(floor: Floor) -> None:
    """In the order of a life; and again with another one."""
    for _ in range(2):
        assert 0 < floor.create() < 10
        assert 0 < floor.exec() < 10
        assert 0 < floor.fork() < 10
        assert 0 < floor.exec() < 10
        assert 0 < floor.destroy() < 10


def test_many(floor: Floor) -> None:
    """As many figures as operations; each ended within the whole; more jobs than sandboxes will do."""
    for jobs in (1, 3, 50):
        times = floor.many(20, jobs, 3)
        assert {name: len(one.each) for name, one in times.items()} == {"create": 20, "exec": 60, "destroy": 20}
        for one in times.values():
            assert len(one.ended) == len(one.each)
            assert all(0 < took <= ended <= one.wall for took, ended in zip(one.each, one.ended, strict=True))
            assert max(one.ended) == one.wall


def test_many_scripts(floor: Floor) -> None:
    """By the bash of the sandbox, in the working directory; one that fails is told."""
    times = floor.many(3, 2, 2, 'test "$PWD" = /testbed && echo x >> notes && test -s notes')
    assert len(times["exec"].each) == 6
    assert all(took > 0 for took in times["exec"].each)
    with pytest.raises(BackendError):
        floor.many(1, 1, 1, "exit 3")
    with pytest.raises(ValueError):
        floor.many(1, 1, 1, "a\nb")
    assert floor.many(1, 1, 1)["exec"].each


def test_an_operation_out_of_order_is_an_error(floor: Floor) -> None:
    """What it does not know, it says; and it goes on."""
    with pytest.raises(BackendError, match="Invalid argument"):
        floor._ask("dance")
    assert floor.create() > 0
    floor.destroy()


def test_an_image_that_is_not_there(working_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason comes back, and its directory does not stay."""
    home = spawner.current("native")
    before = set(Path(home.scratch).parent.iterdir())
    monkeypatch.setattr(floor_module, "PROGRAM", Path("/nonexistent"))
    with pytest.raises(Unavailable, match="can't be started"):
        Floor()
    assert set(Path(home.scratch).parent.iterdir()) == before
