"""Waiting in tests: for an event where the OS has one, with a deadline everywhere."""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Proves "did not wait for it": far above what the call needs, far below the sleep it must not wait for.
NOT_BLOCKED = 20.0


def eventually(predicate: Callable[[], T], *, within: float = 5.0, what: str = "the condition") -> T:
    """Ask until the answer is truthy, where the OS offers no event to wait for; fail at the deadline."""
    deadline = time.monotonic() + within
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s; the last answer was {answer!r}")
        time.sleep(0.005)


@contextlib.contextmanager
def not_blocked(within: float = NOT_BLOCKED) -> Iterator[None]:
    """The body must end long before the sleeps that its commands contain."""
    start = time.monotonic()
    yield
    elapsed = time.monotonic() - start
    assert elapsed < within, f"took {elapsed:.1f} s, so something waited that must not wait"


def await_deaths(pidfds: Iterable[int], *, within: float) -> list[int]:
    """Wait for processes to end, all of them in one deadline; return the descriptors of those that have not."""
    poll = select.poll()
    waiting = set(pidfds)
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + within
    while waiting:
        left = deadline - time.monotonic()
        events = poll.poll(max(0.0, left) * 1000)
        for fd, _ in events:
            poll.unregister(fd)
            waiting.discard(fd)
        if not events and left <= 0:
            break
    return sorted(waiting)


def open_pidfds(pids: Iterable[int]) -> dict[int, int]:
    """A pidfd for each process that still exists, by pid."""
    found = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found[pid] = os.pidfd_open(pid)
    return found
