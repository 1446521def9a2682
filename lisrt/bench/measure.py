"""Samples, and what is reported of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lisrt.bench.backend import BackendError
from lisrt.bench.stats import quantile
from lisrt.errors import LisrtError

__all__ = ["Recorder", "Row", "Samples", "Timing", "quantile"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report; the form of `lisrt bench --json` rows."""

    backend: str
    workload: str
    metric: str
    unit: str
    n: int
    p50: float | None
    p95: float | None
    p99: float | None
    rate: float | None
    """Successes per second of wall-clock time, over the whole phase."""
    failures: int


@dataclass(frozen=True, slots=True)
class Samples:
    """All durations of one metric, raw."""

    backend: str
    workload: str
    metric: str
    unit: str
    """"ms"."""
    values: tuple[float, ...]
    """In the order in which they were taken."""
    ended: tuple[float, ...]
    """When each of them ended, in seconds after the first; empty where that is not known of all."""
    wall: float | None
    """Seconds that the rate is taken over; None where there is no rate."""
    concurrency: int | None
    """Sandboxes alive at once, or operations in flight: what a workload is repeated with more of. None where it is not said."""
    failures: int


@dataclass(slots=True)
class Timing:
    """Whether the timed block came to its end."""

    ok: bool = False
    is_void: bool = False
    """It came to its end, but did not do what it should, which is counted elsewhere: no sample."""
    seconds: float | None = None
    """What it took by somebody else's clock, where that is to count: a rival in a process of its own, without the way there."""


class Recorder:
    """Collects one backend's durations and failures by (workload, metric), from many threads."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        """As in the rows. "floor" is the C program that the others are measured against."""
        self._lock = threading.Lock()
        self._samples: dict[tuple[str, str], list[tuple[float, float | None]]] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._walls: dict[tuple[str, str], float] = {}
        self._concurrency: dict[str, int] = {}
        self._values: list[Row] = []
        self._first: dict[tuple[object, ...], str] = {}
        self.errors: dict[str, int] = {}
        """The first message of each kind of failure, and how often that kind came: names and paths differ each time."""

    @contextmanager
    def timed(self, workload: str, metric: str) -> Iterator[Timing]:
        """Times the block. A fault of the sandbox, its backend or the host counts as a failure, and goes no further than this;
        so a block that finds a wrong answer raises BackendError, and it is no sample."""
        timing = Timing()
        started = time.perf_counter()
        try:
            yield timing
        except (LisrtError, BackendError, OSError) as error:
            kind = (metric, type(error), *(getattr(error, name, None) for name in ("errno", "stage", "check")))
            self.failed(workload, metric, self._first.setdefault(kind, f"{metric}: {type(error).__name__}: {error}"))
            return
        ended = time.perf_counter()
        timing.ok = not timing.is_void
        if timing.is_void:
            return
        self._add(workload, metric, ended - started if timing.seconds is None else timing.seconds, ended)

    def sample(self, workload: str, metric: str, seconds: float, ended: float | None = None) -> None:
        """Adds a duration that was measured elsewhere. `ended`: when, by any one clock; without it a rate has no interval."""
        self._add(workload, metric, seconds, ended)

    def failed(self, workload: str, metric: str, message: str) -> None:
        """Counts one failure: an attempt beside those that have a sample."""
        with self._lock:
            self._failures[workload, metric] = self._failures.get((workload, metric), 0) + 1
            self.errors[message] = self.errors.get(message, 0) + 1

    def took(self, workload: str, metric: str, seconds: float) -> None:
        """The wall-clock time that a metric's rate is taken over."""
        self._walls[workload, metric] = seconds

    def concurrency(self, workload: str, n: int) -> None:
        """How many are alive or in flight at once in this workload: the report draws rates over it. The name says it too
        ("all alive, 64"): what comes before the last comma is the same workload at another n."""
        self._concurrency[workload] = n

    def value(self, workload: str, metric: str, unit: str, n: int, value: float | None) -> None:
        """A figure that is not a duration."""
        self._values.append(Row(self.backend, workload, metric, unit, n, value, None, None, None, 0))

    @property
    def failures(self) -> int:
        """All failures so far."""
        return sum(self._failures.values())

    def rows(self) -> list[Row]:
        """Durations in milliseconds, in the order in which they were first seen; then the other figures."""
        return [_row(samples) for samples in self.samples()] + self._values

    def samples(self) -> list[Samples]:
        """What the rows of durations are made of; those of which there are only failures have no values."""
        with self._lock:
            return [self._of(key) for key in dict.fromkeys([*self._samples, *self._failures])]

    def _add(self, workload: str, metric: str, seconds: float, ended: float | None) -> None:
        with self._lock:
            self._samples.setdefault((workload, metric), []).append((seconds, ended))

    def _of(self, key: tuple[str, str]) -> Samples:
        pairs = self._samples.get(key, [])
        known = [ended for _, ended in pairs if ended is not None]
        first = min(known, default=0.0)
        return Samples(
            backend=self.backend,
            workload=key[0],
            metric=key[1],
            unit="ms",
            values=tuple(1000 * seconds for seconds, _ in pairs),
            ended=tuple(ended - first for ended in known) if len(known) == len(pairs) else (),
            wall=self._walls.get(key),
            concurrency=self._concurrency.get(key[0]),
            failures=self._failures.get(key, 0),
        )


def _row(samples: Samples) -> Row:
    ordered, n = sorted(samples.values), len(samples.values)
    return Row(
        backend=samples.backend,
        workload=samples.workload,
        metric=samples.metric,
        unit=samples.unit,
        n=n,
        p50=quantile(ordered, 0.50),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        rate=n / samples.wall if samples.wall else None,
        failures=samples.failures,
    )
