"""After pools have come and gone, everything is as it was before the first."""

from pathlib import Path

import pytest
from leaks.test_cycles import COUNT, assert_scratch_is_clean
from support.fresh import program, python
from support.procs import assert_gone, leftovers, sleeping
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.mark.slow
def test_pools_leak_nothing(tmp_path: Path, scratch: Path) -> None:
    """Sandboxes, descriptors, threads, tasks and locks: of pools that were used, closed with takers waiting, and interrupted."""
    source = """
from concurrent.futures import ThreadPoolExecutor
from lisrt import AsyncPool, Pool, PoolClosed, PoolTimeout

mounts_of = mounts

def mounts(pid):
    try:
        return mounts_of(pid)
    except OSError:  # EINVAL: it was just dying
        return 0

def used():
    with Pool(size=4) as pool, ThreadPoolExecutor(8) as threads:
        def use(number):
            with pool.take() as box:
                box.sh("sleep 1000 & (setsid sleep 1000 &)")
        list(threads.map(use, range(16)))

def closed_with_takers():
    pool = Pool(size=1)
    with ThreadPoolExecutor(3) as threads:
        def use(number):
            try:
                with pool.take() as box:
                    taken.set()
                    box.run(["sleep", "1000"])
            except Exception:
                pass
        taken = threading.Event()
        waiting = [threads.submit(use, number) for number in range(3)]
        taken.wait()
        pool.close()

def late():
    with Pool(size=1) as pool, pool.take():
        try:
            with pool.take(timeout=0.01):
                pass
        except PoolTimeout:
            pass

async def cancelled():
    async with AsyncPool(size=3) as pool:
        async def use():
            async with pool.take() as box:
                await box.run(["sleep", "1000"])
        tasks = [asyncio.create_task(use()) for _ in range(8)]
        for _ in range(20):
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

async def left_open():
    pool = await AsyncPool(size=3).__aenter__()
    async with pool.take() as box:
        await box.run(["true"])
    pools.append(pool)

pools = []

def cycle():
    used()
    closed_with_takers()
    late()
    asyncio.run(cancelled())
    asyncio.run(left_open())
    asyncio.run(pools.pop().close())

cycle()
before = settled()
for _ in range(8):
    cycle()
settles_to(before)
"""
    python(COUNT + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}, within=200)
    assert_scratch_is_clean(scratch)


ENDINGS = {"falls off the end": ("", 0), "an exception": ("raise SystemExit(3)", 3), "os._exit": ("os._exit(5)", 5)}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_program_that_closes_nothing(tmp_path: Path, scratch: Path, marker: str, how: str) -> None:
    """It ends at once, with its own status, and silently; nothing runs on."""
    ending, status = ENDINGS[how]
    source = f"""
import os
from lisrt import Pool

pool = Pool(size=8, min_warm=4)
taken = pool.take()
taken.__enter__().sh("(setsid sleep {marker} &)")
print("ready", flush=True)
input()
{ending}
"""
    with program(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}) as script:
        script.expect("ready")
        eventually(lambda: sleeping(marker), what="the daemon")
        script.tell("end")
        assert script.finish(within=10) == status
        assert script.stderr() == ""
        assert_gone(marker, within=5)
    eventually(lambda: not leftovers(scratch), within=10, what="an empty scratch directory")


@pytest.mark.slow
def test_exceptions_at_any_step_lose_nothing(tmp_path: Path, scratch: Path, name: str) -> None:
    """Thousands of exceptions from a signal handler, anywhere between two steps of take and its end: the figures are right
    afterwards, as many sandboxes run as they say, and as many slots are held."""
    source = """
import os, random, signal, time
from pathlib import Path
from lisrt import Admission, Pool
from support.procs import helpers, name_of
from support.waiting import eventually

class Ring(Exception):
    pass

def ring(number, frame):
    raise Ring

def alarm(seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)

signal.signal(signal.SIGALRM, ring)
rings, tries, chance = 0, 0, random.Random(1)
with Pool(size=3, min_warm=1, max_warm=2, admission=Admission(name=os.environ["NAME"])) as pool:
    until = time.monotonic() + 6
    while time.monotonic() < until:
        tries += 1
        try:
            alarm(chance.choice((chance.uniform(1e-5, 6e-3), chance.uniform(1e-5, 2e-4))))
            with pool.take(timeout=5):
                pass
            alarm(0)
        except Ring:
            rings += 1
        finally:
            try:
                alarm(0)
            except Ring:
                pass
    assert rings > 100 and pool.stats.timeouts == 0, (rings, pool.stats)
    stock = pool._stock
    slots = stock._party._ledger._slots

    def is_settled():
        first = [pid for pid in helpers(Path(os.environ["LISRT_SCRATCH"])) if name_of(pid) == "lisrt-init"]
        now = pool.stats
        return now.out == now.waiting == 0 and now.live == now.warm == len(slots.held) == len(first)

    eventually(is_settled, within=30, what="figures that are right")
    with pool.take(timeout=5) as one, pool.take(timeout=5) as two, pool.take(timeout=5) as three:
        assert one.run(["true"]).ok and two.run(["true"]).ok and three.run(["true"]).ok
assert pool.stats.live == 0 and not slots.held
"""
    python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch), "NAME": name}, within=120)
    assert_scratch_is_clean(scratch)
