"""Samples, and what is reported of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lisrt.errors import LisrtError


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


@dataclass(slots=True)
class Timing:
    """Whether the timed block came to its end."""

    ok: bool = False


class Recorder:
    """Collects durations and failures by (workload, metric), from many threads."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._samples: dict[tuple[str, str], list[float]] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._walls: dict[tuple[str, str], float] = {}
        self._values: list[Row] = []
        self._first: dict[tuple[object, ...], str] = {}
        self.errors: dict[str, int] = {}
        """The first message of each kind of failure, and how often that kind came: names and paths differ each time."""

    @contextmanager
    def timed(self, workload: str, metric: str) -> Iterator[Timing]:
        """Times the block. A fault of the sandbox or the host counts as a failure, and goes no further than this."""
        timing = Timing()
        started = time.perf_counter()
        try:
            yield timing
        except (LisrtError, OSError) as error:
            kind = (metric, type(error), *(getattr(error, name, None) for name in ("errno", "stage", "check")))
            self.failed(workload, metric, self._first.setdefault(kind, f"{metric}: {type(error).__name__}: {error}"))
            return
        timing.ok = True
        self.sample(workload, metric, time.perf_counter() - started)

    def sample(self, workload: str, metric: str, seconds: float) -> None:
        """Adds a duration that was measured elsewhere."""
        with self._lock:
            self._samples.setdefault((workload, metric), []).append(seconds)

    def failed(self, workload: str, metric: str, message: str) -> None:
        """Counts one failure."""
        with self._lock:
            self._failures[workload, metric] = self._failures.get((workload, metric), 0) + 1
            self.errors[message] = self.errors.get(message, 0) + 1

    def took(self, workload: str, metric: str, seconds: float) -> None:
        """The wall-clock time that a metric's rate is taken over."""
        self._walls[workload, metric] = seconds

    def value(self, workload: str, metric: str, unit: str, n: int, value: float | None) -> None:
        """A figure that is not a duration."""
        self._values.append(Row(self._backend, workload, metric, unit, n, value, None, None, None, 0))

    @property
    def failures(self) -> int:
        """All failures so far."""
        return sum(self._failures.values())

    def rows(self) -> list[Row]:
        """Durations in milliseconds, in the order in which they were first seen; then the other figures."""
        keys = list(dict.fromkeys([*self._samples, *self._failures]))
        return [self._row(key) for key in keys] + self._values

    def _row(self, key: tuple[str, str]) -> Row:
        milliseconds = sorted(1000 * sample for sample in self._samples.get(key, []))
        wall = self._walls.get(key)
        return Row(
            backend=self._backend,
            workload=key[0],
            metric=key[1],
            unit="ms",
            n=len(milliseconds),
            p50=quantile(milliseconds, 0.50),
            p95=quantile(milliseconds, 0.95),
            p99=quantile(milliseconds, 0.99),
            rate=len(milliseconds) / wall if wall else None,
            failures=self._failures.get(key, 0),
        )


def quantile(ordered: list[float], q: float) -> float | None:
    """The smallest sample that at least a share `q` of all do not exceed (nearest rank); None without samples."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
