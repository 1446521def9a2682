"""Pool and AsyncPool: a clean sandbox for each taker, in their order; what goes wrong is told; nothing stays."""

import asyncio
import gc
import inspect
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.procs import assert_gone, sleeping
from support.waiting import eventually

from lisrt import (
    Admission,
    AsyncPool,
    AsyncSandbox,
    LisrtError,
    Mount,
    Pool,
    PoolClosed,
    PoolTimeout,
    Sandbox,
    SandboxGone,
    stock,
)

pytestmark = pytest.mark.usefixtures("working_host")


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_both_faces_have_the_same_signatures() -> None:
    """Verbs, parameters, defaults and types; and the options of a sandbox are those of Sandbox."""
    assert public(Pool) == public(AsyncPool)
    for name in ["__init__", *sorted(public(Pool))]:
        mine, theirs = (inspect.getattr_static(kind, name) for kind in (Pool, AsyncPool))
        if inspect.isfunction(mine):
            assert inspect.signature(mine).parameters == inspect.signature(theirs).parameters, name
    options = inspect.signature(Sandbox.__init__).parameters
    assert {name: option for name, option in inspect.signature(Pool.__init__).parameters.items() if name in options} == options


def test_each_taker_gets_a_clean_one(rules: Admission, marker: str) -> None:
    """No file and no process of one is in the next, which is another sandbox; those that are out are apart."""
    with Pool(size=2, admission=rules) as pool:
        seen = set()
        for _ in range(5):
            with pool.take(timeout=30) as box:
                assert box.sh(f"ls -A; echo mine > file; (setsid sleep {marker} &)").stdout == ""
                seen.add(box.id)
            assert not box.alive
            assert_gone(marker)
        assert len(seen) == 5
        with pool.take() as one, pool.take() as other:
            one.write("x", "y")
            assert other.sh("ls -A").stdout == ""
        assert pool.stats.taken == 7


def test_async(rules: Admission, marker: str) -> None:
    """The same awaited, with many at once."""

    async def attempt(pool: AsyncPool, number: int) -> str:
        async with pool.take(timeout=60) as box:
            assert isinstance(box, AsyncSandbox)
            await box.write("file", str(number))
            return (await box.sh(f"cat file; ls -A; (setsid sleep {marker} &)")).stdout

    async def main() -> None:
        async with AsyncPool(size=4, admission=rules) as pool:
            found = await asyncio.gather(*(attempt(pool, number) for number in range(20)))
            assert found == [f"{number}file\n" for number in range(20)]
            assert pool.stats.taken == 20
        assert pool.stats.live == 0

    asyncio.run(main())
    assert_gone(marker)


def test_the_options_are_each_sandboxs(rules: Admission, tmp_path: Path) -> None:
    """Environment, mounts, workdir and host name are those that were asked for; a wrong one is told at once."""
    (tmp_path / "file").write_text("data")
    options = {"env": {"A": "b"}, "mounts": [Mount(tmp_path, "/data")], "workdir": "/work", "hostname": "inside"}
    with Pool(size=2, admission=rules, **options) as pool:  # type: ignore[arg-type]
        for _ in range(3):
            with pool.take() as box:
                assert box.sh("echo $A $PWD $(cat /data/file) $(uname -n)").stdout == "b /work data inside\n"
    for wrong in ({"env": {"A=B": "x"}}, {"network": "bogus"}, {"ports": {80: 8080}}, {"size": 0}, {"min_warm": 65}):
        with pytest.raises(ValueError):
            Pool(**wrong)  # type: ignore[arg-type]
    for odd in ({"size": "4"}, {"max_idle": None}, {"limits": 3}):
        with pytest.raises(TypeError):
            AsyncPool(**odd)  # type: ignore[arg-type]
    with pytest.raises(ValueError), Pool(admission=rules) as pool, pool.take(timeout=-1):
        pass


def test_warm_ones_are_handed_out_and_replaced(rules: Admission) -> None:
    """What was made ahead is what a taker gets; another takes its place."""
    with Pool(size=8, min_warm=2, max_warm=2, admission=rules) as pool:
        for _ in range(3):
            eventually(lambda: pool.stats.warm == 2, what="two warm ones")
            made = pool.stats.created
            with pool.take(timeout=0) as one, pool.take(timeout=0) as two:
                assert one.run(["true"]).ok
                assert two.run(["true"]).ok
            eventually(lambda made=made: pool.stats.created == made + 2, what="two more")  # type: ignore[misc]
        assert (pool.stats.taken, pool.stats.hits) == (6, 6)


def test_the_number_of_warm_ones_follows_demand(rules: Admission) -> None:
    """Takers who find none have more kept, to the maximum; when nobody comes, they go, to the minimum."""
    with Pool(size=16, min_warm=1, max_warm=4, max_idle=0.2, admission=rules) as pool:
        with ThreadPoolExecutor(8) as threads:
            gate = threading.Barrier(8)

            def use() -> None:
                with pool.take():
                    gate.wait(30)

            for done in [threads.submit(use) for _ in range(8)]:
                done.result()
        assert pool.stats.target > 1
        eventually(lambda: pool.stats.target == 1 and pool.stats.warm == 1, within=20, what="a pool that has shrunk")
        eventually(lambda: pool.stats.closed == pool.stats.created - 1, what="the end of the others")


def test_first_come_first_served(rules: Admission) -> None:
    """Takers that wait get their turn in the order in which they came; one that came and gave up is passed over."""
    order: list[int] = []
    with Pool(size=1, admission=rules) as pool, ThreadPoolExecutor(8) as threads:

        def use(number: int) -> None:
            with pool.take(timeout=0.01 if number == 3 else 60):
                order.append(number)

        with pool.take():
            begun = []
            for number in range(8):
                begun.append(threads.submit(use, number))
                if number == 3:
                    with pytest.raises(PoolTimeout):
                        begun.pop().result(30)
                eventually(lambda: pool.stats.waiting == len(begun), what="one more that waits")
        for one in begun:
            one.result(30)
    assert order == [0, 1, 2, 4, 5, 6, 7]


def test_no_more_than_its_size(rules: Admission) -> None:
    """However many ask, so many are live, warm ones counted."""

    async def main() -> None:
        most = 0
        async with AsyncPool(size=3, min_warm=3, admission=rules) as pool:

            async def use() -> None:
                nonlocal most
                async with pool.take() as box:
                    most = max(most, pool.stats.live)
                    await box.run(["true"])

            await asyncio.gather(*(use() for _ in range(30)))
        assert most == 3

    asyncio.run(main())


def test_a_timeout_has_the_figures(rules: Admission) -> None:
    """PoolTimeout says how many there are; the pool goes on."""
    with Pool(size=2, min_warm=0, admission=rules) as pool:
        with pool.take(), pool.take():
            for timeout in (0, 0.05):
                with pytest.raises(PoolTimeout, match=r"2 of 2 are there or being made, 2 are out"), pool.take(timeout=timeout):
                    pass
        assert pool.stats.timeouts == 2
        assert pool.stats.waiting == 0
        with pool.take(timeout=30) as box:
            assert box.run(["true"]).ok


def test_thousands_that_give_up_leave_nothing_in_the_queue(rules: Admission) -> None:
    """Who does not wait does not stay, even behind one who waits for long."""
    with Pool(size=1, admission=rules) as pool, ThreadPoolExecutor(1) as thread:
        with pool.take():
            patient = thread.submit(lambda: pool.take(timeout=60).__enter__().id)
            eventually(lambda: pool.stats.waiting == 1, what="the one who waits")
            for _ in range(3000):
                with pytest.raises(PoolTimeout), pool.take(timeout=0):
                    pass
            assert len(pool._stock._queue) < 10
        assert patient.result(30)


def test_closing_ends_all(rules: Admission, marker: str) -> None:
    """Those that wait get PoolClosed, those that are out are dead, a second close does nothing, from whichever thread."""
    pool = Pool(size=2, admission=rules)
    with ThreadPoolExecutor(4) as threads:

        def wait() -> None:
            with pool.take(timeout=60):
                raise AssertionError("there was none")

        with pool.take() as one, pool.take() as two:
            one.sh(f"setsid sleep {marker} > /dev/null 2>&1 &")
            waiting = [threads.submit(wait) for _ in range(2)]
            running = threads.submit(two.sh, f"sleep {marker}")
            eventually(lambda: pool.stats.waiting == 2 and len(sleeping(marker)) == 2, what="all of them")
            threads.submit(pool.close).result(30)
            for one_waiting in waiting:
                with pytest.raises(PoolClosed):
                    one_waiting.result(30)
            with pytest.raises(SandboxGone):
                running.result(30)
            assert_gone(marker)
            assert not one.alive
            pool.close()
    with pytest.raises(PoolClosed), pool.take():
        pass
    assert pool.stats.live == 0
    assert "lisrt-pool" not in {thread.name for thread in threading.enumerate()}


def test_closing_an_async_pool(rules: Admission) -> None:
    """The same there; and before it is entered it is closed, too."""

    async def main() -> None:
        pool = AsyncPool(size=1, admission=rules)
        with pytest.raises(PoolClosed, match="not entered"):
            async with pool.take():
                pass
        async with pool, pool.take() as box:

            async def wait() -> None:
                async with pool.take():
                    raise AssertionError("there was none")

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            await pool.close()
            await pool.close()
            with pytest.raises(PoolClosed):
                await waiting
            with pytest.raises(SandboxGone):
                await box.run(["true"])
        assert [task for task in asyncio.all_tasks() if task.get_name() == "lisrt-pool"] == []

    asyncio.run(main())


def test_a_warm_one_that_died_is_replaced(rules: Admission) -> None:
    """It is not handed out, and counted; the pool has others."""
    with Pool(size=4, min_warm=2, max_warm=2, admission=rules) as pool:
        eventually(lambda: pool.stats.warm == 2, what="two warm ones")
        dead = list(pool._stock._warm)
        for box in dead:
            box.channel.kill()
        eventually(lambda: not any(box.alive for box in dead), what="their end")
        with pool.take(timeout=30) as box:
            assert box.run(["true"]).ok
        eventually(lambda: pool.stats.replaced_dead == 2 and pool.stats.warm == 2, what="two others")
        assert pool.stats.live == 2


def test_who_asks_is_told_why_there_is_none(rules: Admission, tmp_path: Path) -> None:
    """What making one raises, take raises. In the background it is not tried again and again; when it works, all goes on."""
    data = tmp_path / "data"
    data.mkdir()
    with Pool(size=4, min_warm=3, mounts=[Mount(data, "/data")], admission=rules) as pool:
        eventually(lambda: pool.stats.warm == 3, what="three warm ones")
        shutil.rmtree(data)
        with pool.take() as box:
            assert box.run(["true"]).ok
        eventually(lambda: pool.stats.failures > 0, what="a failure in the background")
        start, before = time.monotonic(), pool.stats.failures
        time.sleep(0.5)
        assert pool.stats.failures - before <= 3, "0.1 s, 0.2 s, 0.4 s"
        assert time.monotonic() - start < 20
        while pool.stats.warm:
            with pool.take():
                pass
        with pytest.raises((LisrtError, OSError)) as told, pool.take():
            pass
        assert "/data" in str(told.value) or str(data) in str(told.value)
        assert str(told.value) in pool.stats.last_failure
        data.mkdir()
        with pool.take(timeout=30) as box:
            assert box.run(["ls", "/data"]).ok
        eventually(lambda: pool.stats.warm == 3, what="warm ones again")
        assert pool.stats.live == 3


def test_an_exception_in_the_block(rules: Admission) -> None:
    """It goes on as it is, and the sandbox is dead."""
    with Pool(size=1, admission=rules) as pool:
        with pytest.raises(KeyError, match="mine"), pool.take() as box:
            raise KeyError("mine")
        assert not box.alive
        with pool.take(timeout=30) as box:
            assert box.run(["true"]).ok


def test_a_block_may_close_or_fork_its_sandbox(rules: Admission) -> None:
    """What is done with it beforehand harms nobody; what was forked off is the taker's own."""
    with Pool(size=1, admission=rules) as pool:
        with pool.take() as box:
            box.write("file", "x")
            twin = box.fork()
            box.close()
        with twin, pool.take(timeout=30) as other:
            assert twin.read_text("file") == "x"
            assert other.sh("ls -A").stdout == ""


def test_a_snapshot_as_the_image(rules: Admission) -> None:
    """A pool of sandboxes that begin with a snapshot's files, each with its own."""
    with Sandbox() as first:
        first.write("prepared", "x")
        image = first.snapshot()
    with Pool(image, size=2, admission=rules) as pool:
        for _ in range(3):
            with pool.take() as box:
                assert box.sh("cat prepared; echo y >> prepared").stdout == "x"


def test_cancelled_takers(rules: Admission) -> None:
    """Who is cancelled while it waits, while its sandbox is made, or in its block, takes nobody's place."""

    async def use(pool: AsyncPool) -> None:
        async with pool.take() as box:
            await box.run(["sleep", "1000"])

    async def main() -> None:
        async with AsyncPool(size=2, min_warm=0, admission=rules) as pool:
            for turns in range(25):
                tasks = [asyncio.create_task(use(pool)) for _ in range(4)]
                for _ in range(turns):  # each time a bit further on
                    await asyncio.sleep(0.0005)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert all(task.cancelled() for task in tasks)
                assert (pool.stats.live, pool.stats.waiting) == (pool.stats.warm, 0)
            async with pool.take(timeout=30) as box:
                assert (await box.run(["true"])).ok

    asyncio.run(main())


def test_when_the_background_task_is_cancelled_nobody_waits_for_ever(rules: Admission) -> None:
    """By a sweep over all tasks, say: the pool is closed, and who waits is told."""

    async def main() -> None:
        async with AsyncPool(size=1, admission=rules) as pool:

            async def wait() -> None:
                async with pool.take(timeout=60):
                    pytest.fail("there is no second one")

            async with pool.take() as box:
                waiting = asyncio.create_task(wait())
                await asyncio.sleep(0)
                assert pool.stats.waiting == 1
                [work] = [task for task in asyncio.all_tasks() if task.get_name() == "lisrt-pool"]
                work.cancel()
                with pytest.raises(PoolClosed):
                    await waiting
                assert box.alive
            with pytest.raises(PoolClosed):
                async with pool.take(timeout=0):
                    pass
            assert pool.stats.live == 0

    asyncio.run(main())


def test_one_that_was_cancelled_when_its_turn_had_come(rules: Admission) -> None:
    """The next one gets what it had."""

    async def use(pool: AsyncPool) -> str:
        async with pool.take() as box:
            return (await box.run(["echo", "served"])).stdout

    async def main() -> None:
        async with AsyncPool(size=1, min_warm=0, admission=rules) as pool:
            async with pool.take():
                first, second = asyncio.create_task(use(pool)), asyncio.create_task(use(pool))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            first.cancel()
            assert await asyncio.wait_for(second, 30) == "served\n"
            with pytest.raises(asyncio.CancelledError):
                await first

    asyncio.run(main())


def test_takers_in_other_event_loops(rules: Admission) -> None:
    """They may come from any loop, in any thread, while the pool's own runs. One whose loop has ended is passed over."""

    async def use(pool: AsyncPool) -> bool:
        async with pool.take(timeout=60) as box:
            return (await box.run(["true"])).ok

    def abandon(pool: AsyncPool) -> None:
        loop = asyncio.new_event_loop()
        loop.create_task(use(pool))
        loop.call_soon(lambda: loop.call_soon(loop.stop))
        loop.run_forever()
        loop.close()

    async def main() -> None:
        async with AsyncPool(size=2, admission=rules) as pool:
            done = await asyncio.gather(*(asyncio.to_thread(asyncio.run, use(pool)) for _ in range(6)), use(pool))
            assert done == [True] * 7
            async with pool.take(), pool.take():
                await asyncio.to_thread(abandon, pool)
                assert pool.stats.waiting == 1
                after = asyncio.create_task(use(pool))
                await asyncio.sleep(0)
            assert await asyncio.wait_for(after, 30)

    asyncio.run(main())


def test_interrupted_while_it_waits(rules: Admission) -> None:
    """An exception from a signal handler ends the wait, and the place in the queue."""
    import signal

    class Ring(Exception):
        pass

    def ring(_number: int, _frame: object) -> None:
        raise Ring

    with Pool(size=1, admission=rules) as pool:
        with pool.take():
            before = signal.signal(signal.SIGUSR1, ring)
            try:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                with pytest.raises(Ring), pool.take():
                    pass
            finally:
                signal.signal(signal.SIGUSR1, before)
            assert pool.stats.waiting == 0
        with pool.take(timeout=30) as box:
            assert box.run(["true"]).ok


def test_an_image_that_is_not_there(rules: Admission) -> None:
    """The pool is made, as it may come to be there; each taker is told."""

    async def main() -> None:
        async with AsyncPool("no-such-image", size=1, admission=rules) as pool:
            for _ in range(2):
                with pytest.raises(LisrtError, match="no-such-image"):
                    async with pool.take():
                        pass
            assert pool.stats.live == 0

    asyncio.run(main())


def test_a_block_that_the_garbage_collector_ends(rules: Admission, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
    """In a thread that is in the middle of a pool's own work, this one's or another's: it waits for nothing, and the sandbox ends
    later."""
    monkeypatch.setattr(stock, "FORGOTTEN", 0.05)
    with Pool(size=1, admission=rules) as pool, Pool(size=1, min_warm=0, admission="none") as other:
        for busy in (pool, other):
            taken = pool.take()
            taken.__enter__().sh(f"sleep {marker} & sleep 0").check()
            dropped: list[object] = [taken]
            dropped.append(dropped)  # a cycle: its end comes when it comes
            with busy._stock._lock:
                del taken, dropped
                gc.collect()
            assert_gone(marker, within=20)
        with pool.take(timeout=20) as box:
            assert box.run(["echo", "on"]).stdout == "on\n"


def test_one_that_was_made_before_a_fork_is_entered_in_the_child() -> None:
    """While another thread of the parent was in the middle of a pool's work, which is not in the child."""
    pool = AsyncPool(size=1, admission="none")

    async def use() -> str:
        async with pool, pool.take(timeout=20) as box:
            return (await box.run(["echo", "on"])).stdout

    locked, over = threading.Event(), threading.Event()

    def work() -> None:
        with pool._stock._lock:
            locked.set()
            over.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    locked.wait()
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if asyncio.run(use()) == "on\n" else 1)
        except BaseException:
            os._exit(2)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        over.set()
        thread.join()


def test_a_signals_handler_in_the_middle_of_a_pools_work_is_told(rules: Admission) -> None:
    """It would change what the code that it has interrupted is at."""
    with Pool(size=1, admission=rules) as pool:
        with pool._stock._lock:
            with pytest.raises(RuntimeError, match="signal"), pool.take():
                pass
            assert pool.stats.out == 0
        with pool.take(timeout=20) as box:
            assert box.alive
