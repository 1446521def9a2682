"""What follows from the samples of one run: intervals, shares of success, and how backends compare.

All of it takes and gives what a report's JSON has, so that a report read back says what it said when it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lisrt.bench import stats

FLOOR = "floor"
"""The backend that is a small C program doing the same system calls."""
HOST = "host"
"""The bare host, which runs programs without any sandbox."""
YARDSTICKS = (FLOOR, HOST)
"""What a backend is held against; not runtimes that one could choose instead."""
DOCKER = "docker"
SUBJECTS = ("native", "lisrt")
"""The backend that a report is about: the first of these that the run has."""
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

_AT = re.compile(r"(.+), (\d[\d,]*)")


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the report with what it was made of."""

    backend: str
    workload: str
    metric: str
    row: Mapping[str, Any]
    ordered: tuple[float, ...] = ()
    """The samples, by size."""
    ended: tuple[float, ...] = ()
    concurrency: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What figures of several backends are compared at."""
        return self.workload, self.metric

    @property
    def family(self) -> str:
        """The workload whatever its concurrency: "all alive" of "all alive, 64"."""
        return split(self.workload)[0]

    @property
    def timed(self) -> bool:
        """A duration, not some other figure."""
        return bool(self.row["unit"] == "ms")

    @property
    def weight(self) -> bool:
        """Memory, of which less is better."""
        return not self.timed and "memory" in self.metric


def split(workload: str) -> tuple[str, int | None]:
    """The name of a workload without the concurrency at its end, and that."""
    found = _AT.fullmatch(workload)
    return (found[1], int(found[2].replace(",", ""))) if found else (workload, None)


def figures(document: Mapping[str, Any]) -> list[Figure]:
    """One for each row, in the report's order. Reports from before there were samples have rows alone."""
    samples = {(one["backend"], one["workload"], one["metric"]): one for one in document.get("samples", ())}
    found = []
    for row in document["rows"]:
        key = row["backend"], row["workload"], row["metric"]
        raw = samples.get(key, {})
        at = raw.get("concurrency") or split(row["workload"])[1]
        found.append(Figure(*key, row, tuple(sorted(raw.get("values", ()))), tuple(raw.get("ended_s", ())), at))
    return found


def subject(names: Iterable[str]) -> str | None:
    """Whom the report is about, of these backends: lisrt, else the first that is no yardstick."""
    present = list(dict.fromkeys(names))
    others = [name for name in present if name not in YARDSTICKS]
    return next((name for name in SUBJECTS if name in present), others[0] if others else None)


def intervals(found: Iterable[Figure], seed: int) -> list[dict[str, Any]]:
    """Of every quantile and rate that has enough samples for one."""
    made = []
    for figure in found:
        for of, q in QUANTILES.items():
            made.append(_interval(figure, of, stats.quantile_interval(figure.ordered, q)))
        made.append(_interval(figure, "rate", stats.percentile_interval(_resampled(figure, "rate", seed))))
    return [one for one in made if one is not None]


def _interval(figure: Figure, of: str, interval: stats.Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    named = {"backend": figure.backend, "workload": figure.workload, "metric": figure.metric, "of": of}
    return named | {"value": figure.row[of], "low": interval.low, "high": interval.high}


def success(found: Iterable[Figure]) -> list[dict[str, Any]]:
    """The share of attempts that ended as they should."""
    made = []
    for figure in found:
        successes, failures = figure.row["n"], figure.row["failures"]
        interval = stats.share_interval(successes, successes + failures)
        if figure.timed and interval is not None:
            named = {"backend": figure.backend, "workload": figure.workload, "metric": figure.metric}
            share = successes / (successes + failures)
            counts = {"attempts": successes + failures, "failures": failures, "share": share}
            made.append(named | counts | {"low": interval.low, "high": interval.high})
    return made


def ratios(found: list[Figure], seed: int) -> list[dict[str, Any]]:
    """Every backend against the floor, the bare host and docker, and the subject against every other.

    Against the floor or the host a ratio is what the backend has divided by what that has, of times and of rates. Against another
    backend it says how many times better: its time or memory divided by the backend's, the backend's rate divided by its best
    rate of that workload at any concurrency. "is" says which was divided by which.
    """
    return list(Ratios(found, seed).all())


class Ratios:
    """The figures of one run, by what they are compared at. Resamples are made once for each figure."""

    def __init__(self, found: list[Figure], seed: int) -> None:
        self._figures = found
        self._seed = seed
        self._at = {(figure.backend, *figure.place): figure for figure in found}
        self._resamples: dict[tuple[str, str, str, str], list[float] | None] = {}
        self._names = list(dict.fromkeys(figure.backend for figure in found))
        self._subject = subject(self._names)

    def all(self) -> Iterator[dict[str, Any]]:
        """In the order of the rows."""
        for figure in self._figures:
            if figure.backend in YARDSTICKS:
                continue
            for name in self._names:
                if name != figure.backend and (name in (*YARDSTICKS, DOCKER) or figure.backend == self._subject):
                    yield from self._against(figure, name)

    def _against(self, figure: Figure, name: str) -> Iterator[dict[str, Any]]:
        same = self._at.get((name, *figure.place))
        measured = name in YARDSTICKS
        if same is not None and (figure.timed or figure.weight) and same.row["unit"] == figure.row["unit"]:
            yield from self._ratio("p50", figure, same, inverted=not measured)
        best = same if measured else self._best(name, figure)
        if best is not None and figure.timed:
            yield from self._ratio("rate", figure, best, inverted=False)

    def _best(self, name: str, figure: Figure) -> Figure | None:
        """The other's best rate, whatever concurrency it takes to get there."""
        others = [
            one for one in self._figures
            if (one.backend, one.family, one.metric) == (name, figure.family, figure.metric) and one.row["rate"]
        ]  # fmt: skip
        return max(others, key=lambda one: float(one.row["rate"]), default=None)

    def _ratio(self, of: str, figure: Figure, other: Figure, *, inverted: bool) -> Iterator[dict[str, Any]]:
        over, under = (other, figure) if inverted else (figure, other)
        if not over.row[of] or not under.row[of]:
            return
        interval = stats.ratio_interval(self._resampled(over, of), self._resampled(under, of))
        yield {
            "backend": figure.backend,
            "reference": other.backend,
            "workload": figure.workload,
            "metric": figure.metric,
            "of": of,
            "is": f"{over.backend} / {under.backend}",
            "reference_workload": other.workload,
            "value": over.row[of] / under.row[of],
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "same_run": True,
        }

    def _resampled(self, figure: Figure, of: str) -> list[float] | None:
        key = figure.backend, figure.workload, figure.metric, of
        if key not in self._resamples:
            self._resamples[key] = _resampled(figure, of, self._seed)
        return self._resamples[key]


def _resampled(figure: Figure, of: str, seed: int) -> list[float] | None:
    """Each figure has a seed of its own, so that its interval does not depend on what else was measured."""
    own = "/".join((str(seed), figure.backend, figure.workload, figure.metric, of))
    if of == "rate":
        known = figure.row["rate"] and len(figure.ended) == len(figure.ordered)
        return stats.resampled_rate(figure.ended, figure.row["rate"], own) if known else None
    return stats.resampled_quantile(figure.ordered, QUANTILES[of], own)
