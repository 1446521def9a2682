"""What a pool says of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

REMEMBERED = 1024
"""Waits of takers that the quantiles are of."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment.

    size: most sandboxes at once. live: those that are warm, out, being made or being ended, never above `size`. warm: made
    ahead. out: with takers, or being ended by them. waiting: takers that wait for their turn. target: how many are to be warm
    at present. taken: handed out since the pool began, `hits` of them warm. created, closed: sandboxes. replaced_dead: warm
    ones that died, and were never handed out. failures: creations that failed, for takers and in the background; last_failure
    is the last one's message. timeouts: takers that got none in time. wait_p50, wait_p95: seconds that the last 1,024 takers
    waited for their turn, the median, and what 95 of 100 stayed below. held_back: why the next one is not being made, as
    admission had it last, or "". admission: what of it is held on this host, and how; and what is not.
    """

    size: int
    live: int
    warm: int
    out: int
    waiting: int
    target: int
    taken: int
    hits: int
    created: int
    closed: int
    replaced_dead: int
    failures: int
    last_failure: str
    timeouts: int
    wait_p50: float
    wait_p95: float
    held_back: str
    admission: Mapping[str, str]


class Tally:
    """What has happened in a pool. Not for several threads at once."""

    def __init__(self) -> None:
        self.taken = self.hits = self.created = self.closed = self.dead = self.failures = self.timeouts = 0
        self.last_failure = ""
        self._waits: deque[float] = deque(maxlen=REMEMBERED)

    def took(self, waited: float, *, is_hit: bool) -> None:
        """A taker's turn has come, after so many seconds."""
        self.taken += 1
        self.hits += is_hit
        self._waits.append(waited)

    def failed(self, error: Exception) -> None:
        """A creation, or what else is to be known."""
        self.failures += 1
        self.last_failure = f"{type(error).__name__}: {error}"

    def stats(
        self,
        *,
        size: int,
        live: int,
        warm: int,
        out: int,
        waiting: int,
        target: int,
        held_back: str,
        admission: Mapping[str, str],
    ) -> PoolStats:
        """Together with how the pool is now."""
        p50, p95 = self.waits()
        return PoolStats(
            size=size,
            live=live,
            warm=warm,
            out=out,
            waiting=waiting,
            target=target,
            taken=self.taken,
            hits=self.hits,
            created=self.created,
            closed=self.closed,
            replaced_dead=self.dead,
            failures=self.failures,
            last_failure=self.last_failure,
            timeouts=self.timeouts,
            wait_p50=p50,
            wait_p95=p95,
            held_back=held_back,
            admission=admission,
        )

    def waits(self) -> tuple[float, float]:
        """The median of the last ones, and what 95 of 100 stayed below; 0 when nobody has waited."""
        waits = sorted(self._waits)
        p50, p95 = (waits[min(len(waits) - 1, len(waits) * part // 100)] if waits else 0.0 for part in (50, 95))
        return p50, p95
