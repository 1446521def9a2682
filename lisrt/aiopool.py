"""AsyncPool: the verbs of Pool, awaited. tests/pool holds the two signatures together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lisrt.admission import Admission
from lisrt.aio import AsyncSandbox
from lisrt.box import Box
from lisrt.claims import Claim
from lisrt.limits import Limits
from lisrt.pool import CLOSE_TIMEOUT, deadline_of, stock
from lisrt.poolstats import PoolStats
from lisrt.publish import AnyPorts
from lisrt.snapshot import Image
from lisrt.spec import Mount
from lisrt.uplink import AnyNetwork
from lisrt.waiting import adrive

if TYPE_CHECKING:
    import asyncio


class AsyncPool:
    """As Pool, for asyncio: works when entered with `async with`. What works in the background is a task of that event loop, not
    a thread; takers may be tasks of other loops, too, as long as that one runs. Cancelling one that waits lets the next one in.
    """

    def __init__(
        self,
        image: str | Image | None = None,
        *,
        size: int = 64,
        min_warm: int = 1,
        max_warm: int | None = None,
        max_idle: float = 30.0,
        admission: Admission | str = "shared",
        limits: Limits | None = None,
        network: AnyNetwork = "none",
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: int | str | None = None,
        hostname: str | None = None,
        launcher: str = "auto",
        writable: str = "disk",
        idmap: str = "single",
        ports: AnyPorts = (),
    ) -> None:
        new = partial(Box, image, limits, network, mounts, env, workdir, user, hostname, launcher, writable, idmap, ports)
        self._stock = stock(new, ports, size, min_warm, max_warm, max_idle, admission)
        self._ended: Future[None] = Future()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def take(self, *, timeout: float | None = None) -> AsyncIterator[AsyncSandbox]:  # noqa: ASYNC109 - of the queue
        """See Pool.take."""
        import asyncio  # only here, as in waiting.py

        deadline = deadline_of(timeout)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        claim = Claim(partial(_ring, loop, turn))
        try:
            self._stock.ask(claim)
            if not claim.is_settled:
                await asyncio.wait([turn], timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            yield AsyncSandbox._of(await adrive(self._stock.collect(claim, deadline)))
        finally:
            await adrive(self._stock.release(claim))

    async def close(self) -> None:
        """See Pool.close."""
        import asyncio

        self._stock.close()
        try:
            if self._task is not None and not self._stock.is_foreign:
                await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=CLOSE_TIMEOUT)
        finally:
            await adrive(self._stock.rest())

    @property
    def stats(self) -> PoolStats:
        """See Pool.stats."""
        return self._stock.stats()

    async def _work(self) -> None:
        await adrive(self._stock.refill())

    async def __aenter__(self) -> Self:
        import asyncio

        if self._task is None:
            self._stock.begin()
            self._task = asyncio.get_running_loop().create_task(self._work(), name="lisrt-pool")
            self._task.add_done_callback(self._work_ended)
        return self

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        self._ended.set_result(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._stock!r}>"


def _ring(loop: asyncio.AbstractEventLoop, turn: asyncio.Future[None]) -> bool:
    def set_it() -> None:
        if not turn.done():
            turn.set_result(None)

    try:
        loop.call_soon_threadsafe(set_it)
    except RuntimeError:
        return False  # it is closed
    return True
