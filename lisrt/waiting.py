"""Waiting, written once.

All that talks to a sandbox is a generator, a *flow*: it makes system calls that do not block and yields what it must
wait for. `drive` waits with poll(2); `adrive` waits with the running asyncio loop. There are no other waits in lisrt.

An exception that arrives during a wait (KeyboardInterrupt, CancelledError) is thrown into the flow at its yield. A
flow may then yield again, to see its command dead, before it lets the exception go on; such waits have a deadline.
"""

from __future__ import annotations

import contextlib
import select
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ready:
    """Wait until one of the descriptors can be read or written, or the deadline (time.monotonic) has passed.

    The flow receives the set of descriptors that are ready; it is empty when the deadline has passed.
    """

    readers: tuple[int, ...] = ()
    writers: tuple[int, ...] = ()
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Offload:
    """Call a function that may block on a disk or a lock: here in a sync program, in a worker thread in an async one.

    A flow that is cancelled meanwhile goes on only when the function has ended: it may be using descriptors that the flow
    is about to close. `stop` asks it to end early.
    """

    function: Callable[[], Any]
    stop: Callable[[], Any] | None = None


Flow: TypeAlias = Generator[Ready | Offload, Any, T]


def drive(flow: Flow[T]) -> T:
    """Runs a flow to its end in this thread."""
    try:
        step = flow.send(None)
        while True:
            try:
                value = _poll(step) if isinstance(step, Ready) else step.function()
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result


_LONGEST = 2**31 - 1  # milliseconds that poll(2) takes: 24 days


def _poll(wait: Ready) -> frozenset[int]:
    poll = select.poll()
    for fd in wait.readers:
        poll.register(fd, select.POLLIN)
    for fd in wait.writers:
        poll.register(fd, select.POLLOUT)
    if wait.deadline is None:
        ready = poll.poll()
    else:
        # poll takes whole milliseconds: round up, or the last one is spent spinning
        milliseconds = int((wait.deadline - time.monotonic()) * 1000) + 1
        ready = poll.poll(min(max(0, milliseconds), _LONGEST))
        if not ready and milliseconds > _LONGEST:
            return _poll(wait)
    return frozenset(fd for fd, _ in ready)


async def adrive(flow: Flow[T]) -> T:
    """Runs a flow to its end on the running asyncio loop."""
    import asyncio  # only here: it is a third of what `import lisrt` would cost a sync program

    loop = asyncio.get_running_loop()
    try:
        step = flow.send(None)
        while True:
            try:
                if isinstance(step, Ready):
                    value: Any = await _ready(loop, step)
                else:
                    value = await _offloaded(loop, step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(value)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _offloaded(loop: asyncio.AbstractEventLoop, step: Offload) -> Any:
    import asyncio

    worker = loop.run_in_executor(None, step.function)
    interruption: BaseException | None = None
    while not worker.done():
        try:
            await asyncio.wait([worker])
        except asyncio.CancelledError as error:
            interruption = interruption or error
            if step.stop:
                step.stop()
    if interruption is None:
        return worker.result()
    worker.exception()  # looked at, so that the loop does not complain that nobody has
    raise interruption


class _Watch:
    """What flows of one loop wait for: an epoll of ours, which the loop watches as one descriptor. To have the loop watch each of
    a command's descriptors, and forget it again, took as long as all else that is done for a command."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._waits: dict[int, asyncio.Future[frozenset[int]]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def begin(self, wait: Ready, future: asyncio.Future[frozenset[int]]) -> None:
        """Each descriptor once: who it wakes has been told. OSError for one that can't be watched."""
        for fd in wait.readers:
            both = fd in wait.writers
            self._epoll.register(fd, select.EPOLLONESHOT | select.EPOLLIN | (select.EPOLLOUT if both else 0))
            self._waits[fd] = future
        for fd in wait.writers:
            if fd not in wait.readers:
                self._epoll.register(fd, select.EPOLLONESHOT | select.EPOLLOUT)
                self._waits[fd] = future

    def end(self, wait: Ready, future: asyncio.Future[frozenset[int]]) -> None:
        """Forgets those of a wait that `begin` has come to."""
        for fd in (*wait.readers, *wait.writers):
            if self._waits.get(fd) is future:
                del self._waits[fd]
                with contextlib.suppress(OSError):  # closed meanwhile: then the kernel has forgotten it
                    self._epoll.unregister(fd)

    def _wake(self) -> None:
        woken: dict[asyncio.Future[frozenset[int]], list[int]] = {}
        for fd, _ in self._epoll.poll(0):
            future = self._waits.get(fd)
            if future is not None:  # else closed here while somebody else has it open, too: the kernel goes by what is open
                woken.setdefault(future, []).append(fd)
        for future, fds in woken.items():
            if not future.done():
                future.set_result(frozenset(fds))


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_Watch]] = weakref.WeakKeyDictionary()
"""Loops keep theirs, as whom to call. Kept by us it would keep its loop, by way of who waits, after that was closed."""


async def _ready(loop: asyncio.AbstractEventLoop, wait: Ready) -> frozenset[int]:
    known = _watches.get(loop)
    watch = known() if known is not None else None
    if watch is None:
        watch = _Watch(loop)
        _watches[loop] = weakref.ref(watch)
    future: asyncio.Future[frozenset[int]] = loop.create_future()
    timer = None
    if wait.deadline is not None:
        timer = loop.call_later(max(0.0, wait.deadline - time.monotonic()), _run_out, future)
    try:
        watch.begin(wait, future)
        return await future
    finally:
        if timer is not None:
            timer.cancel()
        watch.end(wait, future)


def _run_out(future: asyncio.Future[frozenset[int]]) -> None:
    if not future.done():
        future.set_result(frozenset())
