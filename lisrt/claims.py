"""What takers of a pool wait with: a place in its queue, a bell for who works in the background, and a deadline."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from lisrt import spawner
from lisrt.box import Box
from lisrt.waiting import Flow, Ready, T

MOMENT = 0.05


class Turn:
    """The one lock of all pools of this process; their Ledgers are behind it, too.

    The garbage collector ends blocks that nobody can reach any more (`pool.take()` in a generator that was dropped), in whatever
    thread it comes to run, between any two steps. In one that has the lock, to wait for it would be for ever.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()

    @property
    def is_mine(self) -> bool:
        """Whether this thread has it already."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]  # what threading.Condition asks it


turn = Turn()


def _after_fork_in_child() -> None:
    turn.lock = threading.RLock()  # a thread that is not here may have it


os.register_at_fork(after_in_child=_after_fork_in_child)


class Claim:
    """A taker's place in the queue, and then what it has got: a sandbox, or leave to make one."""

    __slots__ = ("asked", "box", "is_settled", "is_used", "notify", "over_at")

    def __init__(self, notify: Callable[[], bool]) -> None:
        self.notify = notify
        """Wakes the taker; False when it can't be woken any more."""
        self.asked = time.monotonic()
        self.box: Box | None = None
        self.is_settled = False
        self.is_used = False
        """Its taker has it, or makes one: it is clean no more."""
        self.over_at: float | None = None
        """Since when the taker wants it no more."""


class Bell:
    """A descriptor that can be read when it has been rung; from any thread, and after it was closed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # see Turn
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        spawner.keep_from_children(self)

    def ring(self) -> None:
        """Wakes who waits, or the next one who does."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def heard(self, deadline: float | None) -> Flow[None]:
        """Waits for it, or for the deadline; without a descriptor to wait with, a moment."""
        try:
            if (yield Ready((self._fd,), (), deadline)):
                os.eventfd_read(self._fd)
        except BlockingIOError:
            pass  # woken by what had this number before
        except OSError:
            yield Ready(deadline=time.monotonic() + MOMENT)

    def end(self) -> None:
        """Closes it. Nobody is about to ring meanwhile: another file may get its number."""
        with self._lock:
            self.close()

    def close(self) -> None:
        """The same in a forked child, where the lock may be held by a thread that is not here."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def within(flow: Flow[T], deadline: float | None, late: Callable[[], Exception]) -> Flow[T]:
    """The flow, into which `late()` is thrown at the deadline; what it then does to clear up may take longer. A function that it
    has offloaded is not broken off."""
    step = next(flow)
    while True:
        try:
            try:
                if deadline is None or not isinstance(step, Ready):
                    value = yield step
                elif step.deadline is not None and step.deadline <= deadline:
                    value = yield step
                else:
                    value = yield replace(step, deadline=deadline)
                    if not value:
                        deadline = None
                        raise late()
            except GeneratorExit:
                flow.close()
                raise
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
