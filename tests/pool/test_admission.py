"""Admission: what one user's programs on one host may have together, and how they share it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.fresh import Program, environment, program, python
from support.procs import assert_gone, leftovers
from support.waiting import eventually

from lisrt import Admission, AsyncPool, Pool, PoolTimeout
from lisrt.admission import Party
from lisrt.admission import ledger as ledger_of
from lisrt.kernel.pressure import Meters
from lisrt.kernel.slots import Slots, shared

pytestmark = pytest.mark.usefixtures("working_host")

#: Takes as many as it is told to, with a process in each, and says when it has them.
HOLDER = """
import os, sys
from contextlib import ExitStack
from lisrt import Admission, Pool

rules = Admission(name=os.environ["NAME"], max_live=int(os.environ["MOST"]))
with Pool(size=64, min_warm=0, max_warm=0, admission=rules) as pool:
    with ExitStack() as boxes:
        for _ in range(int(os.environ["BOXES"])):
            boxes.enter_context(pool.take(timeout=30)).sh(f"(setsid sleep {os.environ['MARK']} &)")
        print("ready", flush=True)
        input()
    print("given back", flush=True)
    input()
"""


def others(name: str) -> int:
    """Slots that other processes hold."""
    return Slots(name, shared()).held_elsewhere()


@pytest.mark.parametrize("ending", ["given back", "SIGKILL", "closed stdin"])
def test_programs_share_slots(tmp_path: Path, name: str, marker: str, ending: str, scratch: Path) -> None:
    """What one program holds another can't have; when it gives it back, or dies in any way, the other has it."""
    env = {"NAME": name, "MOST": "4", "BOXES": "3", "MARK": marker, "LISRT_SCRATCH": str(scratch)}
    rules = Admission(name=name, max_live=4)
    with program(HOLDER, cwd=tmp_path, env=env) as script:
        script.expect("ready")
        assert others(name) == 3
        with Pool(size=8, min_warm=0, max_warm=0, admission=rules) as pool, pool.take(timeout=30) as box:
            assert box.run(["true"]).ok
            with pytest.raises(PoolTimeout, match="4 slots"), pool.take(timeout=0.2):
                pass
            if ending == "SIGKILL":
                os.kill(script.pid, signal.SIGKILL)
            elif ending == "given back":
                script.tell("")
                script.expect("given back")
            else:
                assert script.process.stdin is not None
                script.process.stdin.close()
            with pool.take(timeout=30), pool.take(timeout=30), pool.take(timeout=30) as last:
                assert last.run(["true"]).ok
                assert others(name) == 0
                assert_gone(marker)


def test_a_program_with_more_than_its_share_lets_others_in(tmp_path: Path, name: str) -> None:
    """One that always has takers who wait gives slots to another that comes later, to its share, and no fewer."""
    source = """
import asyncio, os
from lisrt import Admission, AsyncPool

async def main():
    async with AsyncPool(size=64, admission=Admission(name=os.environ["NAME"], max_live=4)) as pool:
        async def use():
            while True:
                async with pool.take() as box:
                    await box.run(["sleep", "0.02"])
        tasks = [asyncio.create_task(use()) for _ in range(20)]
        while pool.stats.out < 4:
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.to_thread(input)
        while pool.stats.taken < 30:
            await asyncio.sleep(0.01)
        assert pool.stats.failures == 0, pool.stats
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    print("done", flush=True)

asyncio.run(main())
"""
    with program(source, cwd=tmp_path, env={"NAME": name}) as script:
        script.expect("ready")
        with Pool(size=8, min_warm=0, max_warm=0, admission=Admission(name=name, max_live=4)) as pool:
            with pool.take(timeout=20) as one, pool.take(timeout=20) as two:
                assert one.run(["true"]).ok
                assert two.run(["true"]).ok
                assert others(name) == 2
        script.tell("")
        script.expect("done")
        assert script.finish() == 0


def test_warm_ones_make_room_for_who_waits(tmp_path: Path, name: str) -> None:
    """Sandboxes that a program has made ahead are given up when another one waits; pools of one program do so, too."""
    env = {"NAME": name, "MOST": "3", "BOXES": "3", "MARK": "1"}
    rules = Admission(name=name, max_live=3)
    with Pool(size=8, min_warm=3, admission=rules) as idle:
        eventually(lambda: idle.stats.warm == 3, what="three warm ones")
        with program(HOLDER.replace("(setsid", ": (setsid"), cwd=tmp_path, env=env) as script:
            script.expect("ready")
            assert idle.stats.live == 0
            eventually(lambda: "slots" in idle.stats.held_back, what="a reason")
        eventually(lambda: idle.stats.warm == 3, within=20, what="warm ones again")
        with Pool(size=8, min_warm=0, max_warm=0, admission=rules) as busy, busy.take(timeout=20), busy.take(timeout=20):
            assert idle.stats.warm <= 1


def test_a_program_has_one_whatever_memory_there_is(name: str) -> None:
    """The first is never refused: so all get on. The second waits, and is told for what."""
    rules = Admission(name=name, min_memory=1 << 60)
    with Pool(size=8, admission=rules) as pool, pool.take(timeout=30) as box:
        assert box.run(["true"]).ok
        with pytest.raises(PoolTimeout, match="memory is short"), pool.take(timeout=0.3):
            pass
        assert "memory is short" in pool.stats.held_back


def test_processes_that_are_used_up(name: str) -> None:
    """Likewise where no more processes can be started."""
    rules = Admission(name=name, min_processes=1 << 20)
    with Pool(size=8, admission=rules) as pool, pool.take(timeout=30):
        with pytest.raises(PoolTimeout, match="more processes"), pool.take(timeout=0.3):
            pass


def test_without_admission() -> None:
    """ "none" asks nobody, and the figures say so."""
    with Pool(size=2, admission="none") as pool, pool.take(timeout=30), pool.take(timeout=30):
        assert pool.stats.admission == {"admission": "none"}
    with pytest.raises(ValueError, match="admission"):
        Pool(admission="other")


def test_a_forked_child_has_no_slots_and_no_pool(tmp_path: Path, name: str) -> None:
    """A pool is closed in a child, whatever threads were doing; its own pools share with the parent; the parent's go on."""
    source = """
import os, threading
from lisrt import Admission, Pool, PoolClosed

rules = Admission(name=os.environ["NAME"], max_live=6)
done = threading.Event()
with Pool(size=3, admission=rules) as pool:
    def busy():
        while not done.is_set():
            with pool.take() as box:
                box.run(["true"])
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                try:
                    with pool.take(timeout=1):
                        pass
                except PoolClosed as error:
                    assert "forked" in str(error), error
                    status = 2
                pool.close()
                pool.stats
                with Pool(size=1, admission=rules) as mine, mine.take(timeout=30) as box:
                    assert box.run(["echo", "child"]).stdout == "child\\n"
                    status = 0 if status == 2 else 3
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    done.set()
    for thread in threads:
        thread.join()
    with pool.take(timeout=30) as box:
        assert box.run(["true"]).ok
"""
    python(source, cwd=tmp_path, env={"NAME": name})


@pytest.mark.slow
def test_ten_thousand_requests_for_512_slots(tmp_path: Path, scratch: Path, name: str) -> None:
    """All are served, in their order, by two programs at once; never are more than the slots taken, and nothing stays."""
    source = """
import asyncio, os
from lisrt import Admission, AsyncPool

REQUESTS, SLOTS = 5000, 512
order = []

async def main():
    most = 0
    async with AsyncPool(size=SLOTS, admission=Admission(name=os.environ["NAME"], max_live=SLOTS)) as pool:
        async def use(number):
            nonlocal most
            async with pool.take() as box:
                order.append(number)
                most = max(most, pool.stats.live)
                if number % 50 == 0:
                    assert (await box.run(["true"])).ok
        await asyncio.gather(*(use(number) for number in range(REQUESTS)))
        stats = pool.stats
    assert sorted(order) == list(range(REQUESTS))
    # in their order, but for as many as are being made at one time
    assert all(abs(place - number) <= SLOTS for place, number in enumerate(order)), "somebody has pushed in"
    assert most <= SLOTS and stats.failures == 0 and stats.taken == REQUESTS, stats
    print(most, flush=True)

asyncio.run(main())
"""
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    env = {"NAME": name, "LISRT_SCRATCH": str(scratch)}
    with program(source, cwd=directories[0], env=env) as one, program(source, cwd=directories[1], env=env) as two:
        peak = 0
        over = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not over.wait(0.01):
                peak = max(peak, others(name))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for script in (one, two):
                assert int(script.hear(within=200)) > 0
                assert script.finish() == 0
        finally:
            over.set()
            watcher.join()
    assert 0 < peak <= 512
    assert others(name) == 0
    # thousands of directories may be more than a program deletes at its end
    subprocess.run([sys.executable, "-m", "lisrt", "gc"], env=environment(**env), check=True, capture_output=True, timeout=60)
    assert leftovers(scratch) == []


# The parts


def test_slots_of_one_process(name: str) -> None:
    """Each is given once, to the number that there are, and again when it has been given back."""
    slots = Slots(name, shared())
    held = [slots.take(100) for _ in range(100)]
    assert sorted(slot for slot in held if slot is not None) == list(range(100))
    assert slots.take(100) is None
    for slot in (70, 3, 99):
        slots.give(slot)
    assert slots.take(50) == 3
    assert slots.take(50) is None
    assert {slots.take(100), slots.take(100)} == {70, 99}
    assert slots.take(100) is None
    for slot in range(100):
        slots.give(slot)


def test_slots_of_several_processes(tmp_path: Path, name: str) -> None:
    """No two have the same; what others hold, and that they wait, is seen; other names are apart."""
    source = """
import os, sys
from lisrt.kernel.slots import Slots, shared
slots = Slots(os.environ["NAME"], shared())
held = [slots.take(20) for _ in range(7)]
slots.give(held.pop(2))
print(*held, flush=True)
for line in sys.stdin:
    if line == "wait\\n":
        marks = [slots.wait(), slots.wait()]
    if line == "rest\\n":
        slots.rest(marks.pop())
    if line == "all\\n":
        while (slot := slots.take(20)) is not None:
            held.append(slot)
    print("done", flush=True)
"""
    mine = Slots(name, shared())
    held = [mine.take(20) for _ in range(5)]
    mine.give(1)

    def tell(script: Program, line: str) -> None:
        script.tell(line)
        script.expect("done")

    with program(source, cwd=tmp_path, env={"NAME": name}) as script:
        theirs = [int(word) for word in script.hear().split()]
        assert len(set(theirs) | {slot for slot in held if slot != 1}) == 10
        assert (mine.held_elsewhere(), mine.waiting_elsewhere()) == (6, 0)
        tell(script, "wait")
        assert mine.waiting_elsewhere() == 2
        tell(script, "rest")
        assert mine.waiting_elsewhere() == 1
        tell(script, "all")
        assert (mine.held_elsewhere(), mine.take(20)) == (16, None)
        assert Slots(name + "x", shared()).held_elsewhere() == 0
        os.kill(script.pid, signal.SIGKILL)
        script.finish()
        assert (mine.held_elsewhere(), mine.waiting_elsewhere()) == (0, 0)
        assert len({mine.take(20) for _ in range(16)}) == 16


def test_a_party_that_waits_for_its_own_size_is_in_nobodys_way(name: str) -> None:
    """Pools of one process take turns; one that has been let in, or gives up, does not count as one that waits."""
    rules, ledger = Admission(name=name, max_live=4), ledger_of(name)
    woken: list[str] = []
    one, two = (Party(rules, lambda who=who: woken.append(who)) for who in ("one", "two"))  # type: ignore[misc]
    for _ in range(4):
        assert ledger.enter(one, is_spare=False) == ""
    assert "slots" in ledger.enter(two, is_spare=False)
    assert ledger.others_wait(one) == 1
    ledger.leave(one)
    assert woken == ["two"]
    assert "share of 2" in ledger.enter(one, is_spare=False)
    assert "others wait" in ledger.enter(two, is_spare=True)
    assert ledger.enter(two, is_spare=False) == ""
    ledger.rest(one)
    ledger.rest(two)
    assert (ledger.others_wait(one), ledger.others_wait(two)) == (0, 0)
    for party, count in ((one, 3), (two, 1)):
        for _ in range(count):
            ledger.leave(party)


def fake_host(root: Path, files: dict[str, str]) -> Meters:
    """Meters of a host whose /proc and /sys have these files."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Meters(str(root))


def test_memory_of_the_tightest_group(tmp_path: Path) -> None:
    """Version 2, with a limit above our own group; files that can be dropped are not in use."""
    meters = fake_host(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n",
            "proc/self/cgroup": "0::/job/step\n",
            "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
            "sys/fs/cgroup/job/step/memory.max": "max\n",
            "sys/fs/cgroup/job/step/memory.current": "5\n",
            "sys/fs/cgroup/job/memory.max": "2048000\n",
            "sys/fs/cgroup/job/memory.current": "2000000\n",
            "sys/fs/cgroup/job/memory.stat": "anon 1\ninactive_file 100000\nactive_file 7\n",
            "sys/fs/cgroup/job/pids.max": "100\n",
            "sys/fs/cgroup/job/pids.current": "40\n",
        },
    )
    assert meters.memory() == 148_000
    assert meters.total_memory() == 2_048_000
    assert meters.processes() == 60
    assert meters.most_processes() is not None


def test_memory_of_a_group_of_version_1(tmp_path: Path) -> None:
    """Its files have other names, and no limit is a large number."""
    meters = fake_host(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 3000 kB\n",
            "proc/self/cgroup": "4:memory:/user/job\n3:cpu:/other\n0::/\n",
            "proc/self/mountinfo": "35 31 0:32 /user /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "400000\n",
            "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 50000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
        },
    )
    assert meters.memory() == 650_000


def test_pressure_is_read_where_there_is_any(tmp_path: Path) -> None:
    """Of memory "full", of CPUs "some"; a kernel without them says nothing."""
    some = "some avg10=81.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=12.25 avg60=0.00 avg300=0.00 total=1\n"
    seen = fake_host(tmp_path / "new", {"proc/pressure/memory": some, "proc/pressure/cpu": some}).read()
    assert (seen.memory_pressure, seen.cpu_pressure) == (12.25, 81.5)
    nothing = fake_host(tmp_path / "old", {"proc/version": "x"}).read()
    assert (nothing.memory, nothing.memory_pressure, nothing.cpu_pressure, nothing.processes) == (None, None, None, None)


def test_what_cant_be_read_is_told(tmp_path: Path, name: str) -> None:
    """It holds nobody back, and the guarantees say that it is not enforced."""
    rules, ledger = Admission(name=name, max_cpu_pressure=50), ledger_of(name)
    ledger._meters = fake_host(tmp_path, {"proc/version": "x"})
    told = ledger.describe(rules)
    assert {key for key, value in told.items() if value.startswith("NOT ENFORCED")} == {
        "memory", "memory_pressure", "cpu_pressure", "processes",
    }  # fmt: skip
    party = Party(rules, lambda: None)
    assert [ledger.enter(party, is_spare=False) for _ in range(3)] == ["", "", ""]
    for _ in range(3):
        ledger.leave(party)


def test_pressure_holds_back(tmp_path: Path, name: str) -> None:
    """All but a program's first; and when it is over, no longer than a moment."""
    rules, ledger = Admission(name=name, min_memory=0, min_processes=0), ledger_of(name)
    text = "full avg10={} avg60=0.00 avg300=0.00 total=1\n"
    ledger._meters = fake_host(tmp_path, {"proc/pressure/memory": text.format("30.00")})
    party = Party(rules, lambda: None)
    assert ledger.enter(party, is_spare=False) == ""
    assert "30 %" in ledger.enter(party, is_spare=False)
    (tmp_path / "proc/pressure/memory").write_text(text.format("0.00"))
    start = time.monotonic()
    eventually(lambda: not ledger.enter(party, is_spare=False), what="the second one")
    assert time.monotonic() - start < 5
    for _ in range(2):
        ledger.leave(party)


def test_no_place_for_locks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where nothing can be locked the number holds for this program, and the guarantees say that others don't count."""

    def refuse() -> int:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("lisrt.admission.shared", refuse)
    rules, ledger = Admission(name=name, max_live=2), ledger_of(name)
    assert ledger.describe(rules)["slots"] == "2 of this program; NOT SHARED with others: No locks available"
    party = Party(rules, lambda: None)
    assert [ledger.enter(party, is_spare=False)[:11] for _ in range(3)] == ["", "", "all 2 slots"]
    ledger.leave(party)
    assert ledger.enter(party, is_spare=False) == ""


@pytest.mark.parametrize(
    "wrong", [{"max_live": 0}, {"max_live": 1 << 21}, {"min_memory": -1}, {"max_memory_pressure": 0}, {"name": ""}]
)
def test_numbers_that_cant_be(wrong: dict[str, object]) -> None:
    """ValueError, at once."""
    with pytest.raises(ValueError):
        Admission(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Admission(max_live="4")  # type: ignore[arg-type]


def test_two_async_pools_of_one_program(name: str) -> None:
    """They share what there is, and both get on."""
    rules = Admission(name=name, max_live=3)

    async def main() -> None:
        async with AsyncPool(admission=rules) as one, AsyncPool(admission=rules) as two:

            async def use(pool: AsyncPool) -> bool:
                async with pool.take(timeout=60) as box:
                    return (await box.run(["true"])).ok

            assert all(await asyncio.gather(*(use(pool) for pool in (one, two) for _ in range(20))))
            assert one.stats.taken == two.stats.taken == 20

    asyncio.run(main())
