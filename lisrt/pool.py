"""Pool: warm sandboxes of one image. What `AsyncPool` (aiopool.py) awaits is in stock.py, as this."""

from __future__ import annotations

import atexit
import contextlib
import math
import queue
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from lisrt.admission import Admission, whole
from lisrt.box import Box
from lisrt.claims import Claim
from lisrt.demand import Demand
from lisrt.limits import Limits
from lisrt.poolstats import PoolStats
from lisrt.publish import AnyPorts
from lisrt.sandbox import Sandbox
from lisrt.snapshot import Image
from lisrt.spec import Mount, seconds
from lisrt.stock import Stock
from lisrt.uplink import AnyNetwork
from lisrt.waiting import drive

CLOSE_TIMEOUT = 10.0
"""Seconds for which whoever closes a pool waits for what works in the background, which ends all. Then it does so itself."""
EXIT_TIMEOUT = 1.0
"""The same at the end of a program that has not closed its pool."""

_open: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """Sandboxes that are all alike, some of them made ahead. Close it, or use `with`.

        with Pool(size=64) as pool:
            with pool.take(timeout=30) as box:
                box.run(["make", "test"])

    Each taker gets a clean one, which is closed at the end of its block and replaced, never used again. There are `size` at most,
    warm ones included; who finds none waits, and those who wait are served in their order. One thread makes them ahead: the
    pool keeps `min_warm` ready; each taker that finds none, though there is room, has it keep one more, to `max_warm`; and what
    lay unused for all of `max_idle` seconds is closed.

    Args:
        image, limits, network, mounts, env, workdir, user, hostname, launcher, writable, idmap, ports: see Sandbox. `ports` is a
            list here: the ports of the host that lead there differ, see `box.ports`.
        size: most at once, 64 by default.
        min_warm, max_warm: bounds of those that are kept ready, 1 and a quarter of `size` by default.
        max_idle: seconds, 30 by default.
        admission: "shared", the default, is Admission(): all of this user's pools on this host start sandboxes only while there
            are memory, processes and slots for them, and wait as long as there are not. An Admission says how much; "none" asks
            nobody.

    Raises ValueError and TypeError as Sandbox does. What else making a sandbox raises, `take` raises, in the taker that it is
    made for; in the background it is tried again after 0.1 s, then ever later, after 10 s at most.

    May be used from many threads at once. In a forked child it is closed, and the sandboxes are the parent's.
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
        self._stock.begin()
        # a daemon: a program that ends without closing its pool ends all the same, and the kernel sees to the rest
        self._thread = threading.Thread(target=self._work, name="lisrt-pool", daemon=True)
        self._thread.start()
        _open.add(self)

    def _work(self) -> None:
        drive(self._stock.refill())

    @contextlib.contextmanager
    def take(self, *, timeout: float | None = None) -> Iterator[Sandbox]:
        """A clean sandbox for the length of a block. At its end everything in it is dead, however the block ends.

        Args:
            timeout: seconds until PoolTimeout, 0 for not waiting; None, the default, waits for ever.

        Raises:
            PoolTimeout: none had come free by then, or it could not be made by then.
            PoolClosed: the pool is closed, or was while this waited. Sandboxes that are out at that moment are closed, too.
            HostError, ImageError, SetupError, SandboxGone, OSError: one could not be made.
        """
        deadline = deadline_of(timeout)
        turn: queue.SimpleQueue[None] = queue.SimpleQueue()  # not an Event, which an exception from a signal handler may break
        claim = Claim(partial(_ring, turn))
        try:
            try:
                self._stock.ask(claim)
                if not claim.is_settled:
                    with contextlib.suppress(queue.Empty):
                        turn.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
                yield Sandbox._of(drive(self._stock.collect(claim, deadline)))
            finally:
                drive(self._stock.release(claim))
        finally:
            claim.over_at = claim.over_at or time.monotonic()  # a signal handler's exception may have come before

    def close(self) -> None:
        """Closes all sandboxes, those that are out, too; takers that wait get PoolClosed. Again is allowed, from any thread."""
        self._stock.close()
        self._thread.join(CLOSE_TIMEOUT)
        drive(self._stock.rest())
        _open.discard(self)

    @property
    def stats(self) -> PoolStats:
        """Figures of this moment."""
        return self._stock.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._stock!r}>"


def stock(
    new: partial[Box],
    ports: AnyPorts,
    size: int,
    min_warm: int,
    max_warm: int | None,
    max_idle: float,
    admission: Admission | str,
) -> Stock:
    """What is behind a pool. TypeError, ValueError."""
    new()  # what can't be right is said here, not to each taker
    if isinstance(ports, Mapping) and any(ports.values()):
        raise ValueError("only one sandbox could have that port of the host: ports of a pool are a list")
    whole(size, 1, "size")
    whole(min_warm, 0, "min_warm", size)
    most = max(min_warm, size // 4) if max_warm is None else whole(max_warm, min_warm, "max_warm", size)
    period = seconds(max_idle, what="max_idle")
    if period is None:
        raise TypeError("max_idle is a number of seconds")
    if admission not in ("shared", "none") and not isinstance(admission, Admission):
        raise ValueError(f'admission is "shared", "none" or an Admission: {admission!r}')
    rules = admission if isinstance(admission, Admission) else Admission() if admission == "shared" else None
    return Stock(new, size, Demand(min_warm, most, period), rules)


def deadline_of(timeout: float | None) -> float | None:
    """The moment until which a taker waits. TypeError, ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError("a timeout is a number of seconds, or None")
    if not math.isfinite(timeout) or timeout < 0:
        raise ValueError(f"a timeout is 0 seconds or more, and finite, or None for no limit: {timeout!r}")
    return time.monotonic() + min(float(timeout), 10.0**9)


def _stop_at_exit() -> None:
    # A daemon thread stops wherever it is when the interpreter ends. It would keep a lock that the end of a block, which Python
    # then sees to (`pool.take().__enter__()`), waits for.
    for pool in list(_open):
        if not pool._stock.is_foreign:
            pool._stock.abandon()
            pool._thread.join(EXIT_TIMEOUT)


atexit.register(_stop_at_exit)


def _ring(turn: queue.SimpleQueue[None]) -> bool:
    turn.put(None)
    return True
