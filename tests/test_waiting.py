"""The two drivers of a flow: what they wait for, what they throw into it, what they leave behind."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeAlias

import pytest
from support.waiting import eventually, not_blocked

from lisrt import waiting
from lisrt.waiting import Flow, Offload, Ready, adrive, drive

Driver: TypeAlias = Callable[[Flow[Any]], Any]


def driven_by_asyncio(flow: Flow[Any]) -> Any:
    """The async driver, called from sync code, on a loop in debug mode."""
    with asyncio.Runner(debug=True) as runner:
        return runner.run(adrive(flow))


@pytest.fixture(params=[drive, driven_by_asyncio], ids=["drive", "adrive"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each driver in turn."""
    return request.param  # type: ignore[no-any-return]


@contextlib.contextmanager
def pipes(count: int = 1) -> Iterator[list[tuple[int, int]]]:
    """Some pipes, closed at the end."""
    made = [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(count)]
    try:
        yield made
    finally:
        for fd in (fd for pair in made for fd in pair):
            with contextlib.suppress(OSError):
                os.close(fd)


def fill(fd: int) -> None:
    """Write until the pipe is full."""
    with contextlib.suppress(BlockingIOError):
        while os.write(fd, b"x" * 65536):
            pass


# What a flow gets back


def test_the_result_is_the_flows(driver: Driver) -> None:
    """Also when it never waits."""

    def flow() -> Flow[str]:
        return "done"
        yield Ready()

    assert driver(flow()) == "done"


def test_a_reader_that_is_ready_is_named(driver: Driver) -> None:
    """Of several descriptors, the one that can be read."""
    with pipes(3) as ends:

        def flow() -> Flow[frozenset[int]]:
            os.write(ends[1][1], b"x")
            return (yield Ready(readers=tuple(pair[0] for pair in ends)))

        assert driver(flow()) == {ends[1][0]}


def test_end_of_file_is_ready_to_read(driver: Driver) -> None:
    """A closed writer wakes the reader."""
    with pipes() as [(read_end, write_end)]:

        def flow() -> Flow[frozenset[int]]:
            os.close(write_end)
            return (yield Ready(readers=(read_end,)))

        assert driver(flow()) == {read_end}


def test_a_writer_that_is_ready_is_named(driver: Driver) -> None:
    """A full pipe is not ready, an empty one is, and one that nobody reads any more is, too."""
    with pipes(3) as ends:

        def flow() -> Flow[tuple[frozenset[int], frozenset[int]]]:
            fill(ends[0][1])
            first = yield Ready(writers=(ends[0][1], ends[1][1]))
            fill(ends[2][1])
            os.close(ends[2][0])
            second = yield Ready(readers=(ends[1][0],), writers=(ends[2][1],))
            return first, second

        assert driver(flow()) == ({ends[1][1]}, {ends[2][1]})


def test_a_wait_ends_with_the_event(driver: Driver) -> None:
    """Another thread writes while the flow waits."""
    with pipes(2) as [(read_end, write_end), (started, start)]:

        def flow() -> Flow[frozenset[int]]:
            os.write(start, b"x")
            return (yield Ready(readers=(read_end,), deadline=time.monotonic() + 50))

        def write() -> None:
            eventually(lambda: os.read(started, 1) if is_readable(started) else b"")
            os.write(write_end, b"x")

        writer = threading.Thread(target=write)
        writer.start()
        with not_blocked():
            assert driver(flow()) == {read_end}
        writer.join()


def is_readable(fd: int) -> bool:
    return bool(drive(iter_once(Ready(readers=(fd,), deadline=0.0))))


def iter_once(step: Ready | Offload) -> Flow[Any]:
    """A flow of one step."""
    return (yield step)


def test_many_steps_in_one_flow(driver: Driver) -> None:
    """A thousand bytes there and back, one at a time."""
    with pipes() as [(read_end, write_end)]:

        def flow() -> Flow[bytes]:
            received = b""
            for number in range(1000):
                yield Ready(writers=(write_end,))
                os.write(write_end, bytes([number % 256]))
                yield Ready(readers=(read_end,))
                received += os.read(read_end, 10)
            return received

        assert driver(flow()) == bytes(number % 256 for number in range(1000))


# Deadlines


def test_nothing_ready_at_the_deadline_is_an_empty_set(driver: Driver) -> None:
    """Not before the deadline, and not long after."""
    with pipes() as [(read_end, _)]:
        deadline = time.monotonic() + 0.02
        assert driver(iter_once(Ready(readers=(read_end,), deadline=deadline))) == frozenset()
        assert deadline - 0.001 <= time.monotonic() < deadline + 5


@pytest.mark.parametrize("deadline", [0.0, -1e9])
def test_a_deadline_in_the_past_only_looks(driver: Driver, deadline: float) -> None:
    """What is ready by then is told by poll; nothing is waited for."""
    with pipes() as [(read_end, _)], not_blocked():
        assert driver(iter_once(Ready(readers=(read_end,), deadline=deadline))) == frozenset()


def test_a_deadline_without_descriptors_is_a_timer(driver: Driver) -> None:
    """Nothing to watch, only the time."""
    deadline = time.monotonic() + 0.01
    assert driver(iter_once(Ready(deadline=deadline))) == frozenset()
    assert time.monotonic() >= deadline - 0.001


def test_what_is_ready_beats_a_deadline_far_away(driver: Driver) -> None:
    """No wait at all."""
    with pipes() as [(_, write_end)], not_blocked():
        step = Ready(writers=(write_end,), deadline=time.monotonic() + 1e6)
        assert driver(iter_once(step)) == {write_end}


# Offload


def test_offload_returns_the_functions_value(driver: Driver) -> None:
    """As the value of the yield."""
    assert driver(iter_once(Offload(lambda: 6 * 7))) == 42


def test_offload_runs_here_or_in_a_worker_thread() -> None:
    """A sync program calls the function itself; an event loop must not be held up by it."""
    here = threading.get_ident()
    assert drive(iter_once(Offload(threading.get_ident))) == here
    assert driven_by_asyncio(iter_once(Offload(threading.get_ident))) != here


def test_what_an_offloaded_function_raises_is_thrown_into_the_flow(driver: Driver) -> None:
    """The flow may catch it and go on."""

    def fail() -> None:
        raise OSError(5, "the disk is gone")

    def flow() -> Flow[str]:
        try:
            yield Offload(fail)
        except OSError as error:
            number = error.errno
            return (yield Offload(lambda: f"caught {number}"))
        return "not reached"

    assert driver(flow()) == "caught 5"
    with pytest.raises(OSError, match="the disk is gone"):
        driver(iter_once(Offload(fail)))


def test_what_a_flow_raises_comes_out(driver: Driver) -> None:
    """Unchanged, before and after a wait."""

    def flow() -> Flow[None]:
        yield Offload(int)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        driver(flow())


def assert_unwatched(*fds: int) -> None:
    """The running loop, and what flows have it watch, know nothing of them."""
    loop = asyncio.get_running_loop()
    assert not any(loop.remove_reader(fd) or loop.remove_writer(fd) for fd in fds)
    watch = waiting._watches[loop]()
    assert watch is not None and not watch._waits
    for fd in fds:
        with pytest.raises(FileNotFoundError):
            watch._epoll.unregister(fd)


def test_a_descriptor_that_can_not_be_watched() -> None:
    """A closed one either counts as ready or raises in the flow; neither waits for ever nor stays registered."""
    with pipes(2) as [(read_end, _), (gone, _)]:
        os.close(gone)

        def flow() -> Flow[str]:
            try:
                ready = yield Ready(readers=(read_end, gone), deadline=time.monotonic() + 50)
            except (OSError, ValueError):
                return "raised"
            return "ready" if gone in ready else "overlooked"

        async def asynchronous() -> None:
            assert await adrive(flow()) == "raised"
            assert_unwatched(read_end)

        with not_blocked():
            assert drive(flow()) == "ready"
            asyncio.run(asynchronous())


# Interruption


class Interrupt(BaseException):
    """What the tests' signal handler raises, once."""


@contextlib.contextmanager
def interrupted_in_poll() -> Iterator[None]:
    """Has a signal handler raise Interrupt in this thread as soon as it waits in the sync driver's poll."""
    main = threading.get_ident()
    stop = threading.Event()

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise Interrupt

    def ring() -> None:
        while not stop.is_set():
            if sys._current_frames()[main].f_code.co_name == "_poll":
                signal.pthread_kill(main, signal.SIGUSR1)  # we hold the GIL: it is still there when the signal comes
                return

    before = signal.signal(signal.SIGUSR1, handler)
    ringer = threading.Thread(target=ring)
    ringer.start()
    try:
        yield
    finally:
        stop.set()
        ringer.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_exception_from_a_signal_handler_is_thrown_into_the_flow() -> None:
    """The flow sees it at its yield, may wait for something else first, and then lets it go on."""
    seen: list[object] = []
    with pipes(2) as [(silent, _), (read_end, write_end)]:

        def flow() -> Flow[None]:
            try:
                yield Ready(readers=(silent,))
            except Interrupt:
                os.write(write_end, b"x")
                seen.append((yield Ready(readers=(read_end, silent), deadline=time.monotonic() + 50)))
                seen.append((yield Offload(lambda: "offloaded")))
                raise
            finally:
                seen.append("finally")

        with interrupted_in_poll(), pytest.raises(Interrupt):
            drive(flow())
        assert seen == [{read_end}, "offloaded", "finally"]


def test_a_flow_may_get_over_an_interruption() -> None:
    """When it swallows the exception, its result counts."""
    with pipes() as [(silent, _)]:

        def flow() -> Flow[str]:
            try:
                yield Ready(readers=(silent,))
            except Interrupt:
                return "got over it"
            return "not reached"

        with interrupted_in_poll():
            assert drive(flow()) == "got over it"


async def started(flow: Flow[Any]) -> asyncio.Task[Any]:
    """A task that drives the flow and has come to its first wait."""
    task = asyncio.create_task(adrive(flow))
    await asyncio.sleep(0)  # one turn of the loop: the task has run until it waits
    assert not task.done()
    return task


def test_cancelling_is_thrown_into_the_flow() -> None:
    """CancelledError arrives at the yield; the flow waits again, with a deadline, and then the task ends cancelled."""
    seen: list[object] = []
    with pipes(2) as [(silent, _), (read_end, write_end)]:

        def flow() -> Flow[None]:
            try:
                yield Ready(readers=(silent,))
            except asyncio.CancelledError:
                seen.append((yield Ready(readers=(silent, read_end), deadline=time.monotonic() + 50)))
                seen.append((yield Ready(readers=(silent,), deadline=time.monotonic() + 0.01)))
                seen.append((yield Offload(lambda: "offloaded")))
                raise

        async def main() -> None:
            task = await started(flow())
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done(), "it waits for what it must see done"
            os.write(write_end, b"x")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

        asyncio.run(main())
        assert seen == [{read_end}, frozenset(), "offloaded"]


def test_cancelling_twice_reaches_the_second_wait() -> None:
    """An impatient caller cuts the clean-up short; the flow still gets to its end in order."""
    seen = []
    with pipes() as [(silent, _)]:

        def flow() -> Flow[None]:
            try:
                yield Ready(readers=(silent,))
            except asyncio.CancelledError:
                seen.append("first")
                try:
                    yield Ready(readers=(silent,))
                except asyncio.CancelledError:
                    seen.append("second")
                    raise

        async def main() -> None:
            task = await started(flow())
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert seen == ["first", "second"]


def test_a_timeout_of_asyncio_is_a_cancellation() -> None:
    """asyncio.timeout raises TimeoutError once the flow has cleaned up."""
    seen = []
    with pipes() as [(silent, _)]:

        def flow() -> Flow[None]:
            try:
                yield Ready(readers=(silent,))
            finally:
                seen.append((yield Ready(deadline=time.monotonic() + 0.01)))

        async def main() -> None:
            async with asyncio.timeout(0.01):
                await adrive(flow())

        with pytest.raises(TimeoutError):
            asyncio.run(main())
        assert seen == [frozenset()]


def says_finally(silent: int, seen: list[str]) -> Flow[None]:
    """Waits for what never comes, and notes that it was closed."""
    try:
        yield Ready(readers=(silent,))
    finally:
        seen.append("finally")


def test_a_flow_that_is_never_driven_to_its_end_is_closed() -> None:
    """When the loop ends with a flow under way, its `finally` runs."""
    seen: list[str] = []
    with pipes() as [(silent, _)]:

        async def main() -> None:
            await started(says_finally(silent, seen))

        asyncio.run(main())
        assert seen == ["finally"]


def test_a_closed_loop_takes_its_flows_along() -> None:
    """One that is closed while a flow waits, and forgotten: the flow is closed, its descriptors are not kept by ours."""
    seen: list[str] = []
    with pipes() as [(silent, _)]:

        def begin() -> weakref.ref[asyncio.AbstractEventLoop]:
            loop = asyncio.new_event_loop()
            task = loop.create_task(adrive(says_finally(silent, seen)))
            loop.run_until_complete(asyncio.sleep(0))
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's complaint is not what is tested
            loop.close()
            return weakref.ref(loop)

        loop = begin()
        gc.collect()
        assert loop() is None and seen == ["finally"]


# What stays behind


def endings() -> dict[str, Callable[[int, int], Flow[None]]]:
    """Flows that end while two descriptors were watched, each in its way."""

    def event(read_end: int, write_end: int) -> Flow[None]:
        yield Ready(readers=(read_end,), writers=(write_end,))

    def deadline(read_end: int, write_end: int) -> Flow[None]:
        fill(write_end)
        os.read(read_end, 1 << 20)
        yield Ready(readers=(read_end,), deadline=time.monotonic() + 0.01)

    def raising(read_end: int, write_end: int) -> Flow[None]:
        yield Ready(readers=(read_end,), writers=(write_end,))
        raise LookupError

    return {"event": event, "deadline": deadline, "raising": raising}


@pytest.mark.parametrize("how", endings())
def test_no_watcher_stays_on_the_loop(how: str) -> None:
    """After a flow, its descriptors are not watched any more, however it ended: their numbers may be taken again."""
    with pipes() as [(read_end, write_end)]:

        async def main() -> None:
            with contextlib.suppress(LookupError):
                await adrive(endings()[how](read_end, write_end))
            assert_unwatched(read_end, write_end)

        asyncio.run(main())


def test_no_watcher_stays_after_a_cancellation() -> None:
    """The same when the wait was cut short."""
    with pipes() as [(silent, full)]:
        fill(full)
        os.read(silent, 1 << 20)

        async def main() -> None:
            task = await started(iter_once(Ready(readers=(silent,), deadline=time.monotonic() + 50)))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert_unwatched(silent)

        asyncio.run(main())


def test_an_async_wait_does_not_hold_up_the_loop() -> None:
    """While one flow waits, others run: fifty wait for each other's bytes in a ring."""
    with pipes(50) as ends:

        def flow(number: int) -> Flow[int]:
            yield Ready(readers=(ends[number][0],))
            if number + 1 < len(ends):
                os.write(ends[number + 1][1], b"x")
            return number

        async def main() -> list[int]:
            tasks = [asyncio.create_task(adrive(flow(number))) for number in range(len(ends))]
            await asyncio.sleep(0)
            os.write(ends[0][1], b"x")
            return await asyncio.gather(*tasks)

        assert asyncio.run(main()) == list(range(50))
