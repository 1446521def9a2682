"""An end that comes from outside: the time is up, or the caller wants no more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["Stopped", "TimeIsUp", "until"]


class Stopped(Exception):
    """The caller has set `stop`."""


class TimeIsUp(Exception):
    """The seconds are over."""


@asynccontextmanager
async def until(stop: asyncio.Event, seconds: float | None) -> AsyncIterator[None]:
    """What is done in here is cancelled as soon as `stop` is set or the seconds are over. Raises Stopped and TimeIsUp then."""
    loop = asyncio.get_running_loop()
    clock = asyncio.timeout(seconds)
    watcher = loop.create_task(stop.wait())
    stopped = False

    def end_now(task: asyncio.Task[Any]) -> None:
        nonlocal stopped
        if not task.cancelled():
            with contextlib.suppress(RuntimeError):  # the time ended a moment before
                clock.reschedule(loop.time())
                stopped = True

    watcher.add_done_callback(end_now)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():
            raise
        failed = watcher.exception() if watcher.done() and not watcher.cancelled() else None
        if failed is not None:  # an event of another loop, say
            raise failed from None
        raise (Stopped if stopped else TimeIsUp)(str(error)) from error
    finally:
        watcher.remove_done_callback(end_now)
        watcher.cancel()
