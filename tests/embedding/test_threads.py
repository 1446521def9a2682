"""Many threads, many event loops, one lisrt."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fresh import python

from lisrt import AsyncSandbox, ExecResult, Sandbox

pytestmark = pytest.mark.usefixtures("working_host")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in so many threads, released at the same moment; the first failure is raised."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_32_threads_create_and_run_at_once() -> None:
    """Each thread has its sandboxes, and what it reads is its own."""

    def work(number: int) -> None:
        for round_ in range(3):
            with Sandbox() as box:
                box.write("/testbed/mine", f"{number} {round_}")
                assert box.run(["cat", "mine"]).stdout == f"{number} {round_}"
                assert box.sh(f"ls -A; exit {number}").exit_code == number

    in_threads(32, work)


def test_32_threads_share_one_sandbox() -> None:
    """All use the same one at the same time."""
    with Sandbox() as box:

        def work(number: int) -> None:
            for _ in range(5):
                result = box.run(["sh", "-c", f"cat; exit {number}"], stdin=str(number))
                assert (result.stdout, result.exit_code) == (str(number), number)

        in_threads(32, work)


def test_the_first_use_may_be_from_many_threads(tmp_path: Path, scratch: Path) -> None:
    """A fresh program whose threads all start with a Sandbox starts one helper, not one per thread."""
    source = """
        import os, threading
        from lisrt import Sandbox
        from pathlib import Path
        from support.procs import helpers, parent
        from support.waiting import eventually

        scratch = Path(os.environ["LISRT_SCRATCH"])
        barrier = threading.Barrier(16)
        results = []

        def work():
            barrier.wait()
            with Sandbox() as box:
                results.append(box.run(["echo", "x"]).stdout)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert results == ["x\\n"] * 16, results

        def tops():
            all_helpers = helpers(scratch)
            return {pid for pid in all_helpers if parent(pid) not in all_helpers}

        eventually(lambda: len(tops()) == 1, what="one helper for all threads")
    """
    python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)})


def test_a_sandbox_outlives_the_thread_that_made_it() -> None:
    """Threads come and go (a pool's workers, an executor's); the sandboxes they made stay."""
    boxes: list[Sandbox] = []
    thread = threading.Thread(target=lambda: boxes.extend([Sandbox(), Sandbox()]))
    thread.start()
    thread.join()
    for box in boxes:
        with box:
            assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_the_first_sandbox_may_be_made_by_a_short_lived_thread(tmp_path: Path) -> None:
    """Also where that thread was the one that started lisrt's helper."""
    source = """
        import threading
        from lisrt import Sandbox

        boxes = []
        thread = threading.Thread(target=lambda: boxes.append(Sandbox()))
        thread.start()
        thread.join()
        for _ in range(3):
            assert boxes[0].run(["true"]).ok
        with Sandbox() as other:
            assert other.run(["true"]).ok
        boxes[0].close()
    """
    python(source, cwd=tmp_path)


def test_several_event_loops_in_several_threads() -> None:
    """Six loops in six threads, five sandboxes each, all at once."""

    async def one(number: int) -> str:
        async with AsyncSandbox() as box:
            await box.write("file", str(number))
            results = await asyncio.gather(*(box.run(["cat", "file"], timeout=50) for _ in range(3)))
            timed_out = await box.run(["sleep", "1000"], timeout=0.05)
            assert timed_out.outcome == "timed_out"
            return "".join(result.stdout for result in results)

    async def loop(number: int) -> None:
        assert await asyncio.gather(*(one(10 * number + n) for n in range(5))) == [str(10 * number + n) * 3 for n in range(5)]

    in_threads(6, lambda number: asyncio.run(loop(number)))


def test_one_async_sandbox_per_loop_while_sync_ones_run() -> None:
    """Sync threads and async threads mix."""

    async def loop() -> None:
        async with AsyncSandbox() as box:
            for _ in range(10):
                assert (await box.run(["echo", "async"])).stdout == "async\n"

    def work(number: int) -> None:
        if number % 2:
            asyncio.run(loop())
        else:
            with Sandbox() as box:
                for _ in range(10):
                    assert box.run(["echo", "sync"]).stdout == "sync\n"

    in_threads(8, work)


@pytest.mark.slow
def test_512_live_at_once() -> None:
    """Five hundred and twelve sandboxes, opened by sixteen threads, live side by side; every one serves, none fails."""
    boxes: list[Sandbox] = []

    def work(number: int) -> None:
        for round_ in range(32):
            box = Sandbox()
            boxes.append(box)
            box.write("name", f"{number} {round_}")

    in_threads(16, work)
    try:
        assert len(boxes) == 512
        said: list[str] = []
        in_threads(16, lambda number: said.extend(box.run(["cat", "name"]).stdout for box in boxes[number::16]))
        assert sorted(said) == sorted(f"{number} {round_}" for number in range(16) for round_ in range(32))
    finally:
        for box in boxes:
            box.close()


def test_sync_calls_in_an_executor() -> None:
    """A program that pushes the sync face to asyncio's threads gets what it expects."""

    async def scenario() -> list[ExecResult]:
        with Sandbox() as box:
            return await asyncio.gather(*(asyncio.to_thread(box.run, ["sh", "-c", f"exit {n}"]) for n in range(20)))

    assert [result.exit_code for result in asyncio.run(scenario())] == list(range(20))
