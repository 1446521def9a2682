"""What a run says in words: a sentence for each headline figure, the targets, and where another runtime is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lisrt.bench import compare
from lisrt.bench.compare import DOCKER, FLOOR, YARDSTICKS, Figure
from lisrt.bench.documents import Document
from lisrt.bench.numbers import (
    NARROW,
    duration,
    duration_span,
    figure,
    percent,
    ratio,
    share,
    significant,
    size,
    tick,
    times,
)

EXEC = ("exec", "exec true")
"""What workloads call a command that does nothing."""
VERBS = {
    ("create",): "Creating a sandbox",
    EXEC: "A command in a live one",
    ("fork",): "A fork",
    ("snapshot",): "A snapshot",
    ("destroy",): "Destroying one",
}
DONE = {("create",): "creates", EXEC: "runs", ("destroy",): "destroys"}
WEIGHT = "memory per idle sandbox, kernel included"
"""Of the two accounts the one that comes out alike in each run; MemAvailable has given from a tenth of it to as much."""
BY_AVAILABLE = "memory per idle sandbox, by MemAvailable"
WHAT = {("create",): "sandboxes", EXEC: "commands", ("destroy",): "sandboxes"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio should be."""

    name: str
    metrics: tuple[str, ...]
    of: str
    reference: str
    limit: float
    at_most: bool = False

    def words(self) -> str:
        """≤ 2 × the floor."""
        whose = {FLOOR: "the floor's", DOCKER: "Docker's"}[self.reference]
        what = "memory" if self.is_weight else {"p50": "time", "rate": "rate"}[self.of]
        if self.reference == DOCKER and self.of == "p50":
            return f"≥ {tick(self.limit)}× below {whose} {what}"
        return f"{'≤' if self.at_most else '≥'} {tick(self.limit)}× {whose} {what}"

    @property
    def is_weight(self) -> bool:
        """Whether it is one of memory, not of time."""
        return not {WEIGHT, BY_AVAILABLE}.isdisjoint(self.metrics)

    def fits(self, ratio: Mapping[str, Any]) -> bool:
        """Whether this ratio is what the target speaks of."""
        return (ratio["of"], ratio["reference"]) == (self.of, self.reference) and ratio["metric"] in self.metrics


TARGETS = (
    Target("create", ("create",), "p50", FLOOR, 2, at_most=True),
    Target("exec", EXEC, "p50", FLOOR, 2, at_most=True),
    Target("exec, all alive", EXEC, "rate", FLOOR, 0.7),
    Target("creates per second", ("create",), "rate", DOCKER, 50),
    Target("destroys per second", ("destroy",), "rate", DOCKER, 50),
    Target("commands per second", EXEC, "rate", DOCKER, 30),
    Target("memory per idle sandbox", (WEIGHT,), "p50", DOCKER, 10),
    Target("the same by MemAvailable", (BY_AVAILABLE,), "p50", DOCKER, 10),
    Target("episodes per minute", ("episode",), "rate", DOCKER, 10),
)


ALIVE = 512
"""Of these a second is enough."""
LIGHT = 500_000 / 1024
"""KiB that an idle sandbox may take."""


@dataclass(frozen=True, slots=True)
class Held:
    """A target and what was measured, in words: `held` is None where the interval has the limit in it."""

    name: str
    workload: str
    target: str
    measured: str
    interval: str
    held: bool | None
    limit: float
    ratio: Mapping[str, Any] | None = None
    """What it is a target of; None where it is no ratio."""


class Verdict:
    """One report, read for its headline."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.figures = compare.figures(document)
        self.subject = compare.subject(figure.backend for figure in self.figures)
        self.own = [one for one in self.figures if one.backend == self.subject]
        self._weights = {one.place for one in self.own if one.weight}
        self.ratios = [one for one in document["ratios"] if one["backend"] == self.subject]
        self._intervals = {
            (one["backend"], one["workload"], one["metric"], one["of"]): one for one in document["intervals"]
        }  # fmt: skip

    def interval(self, one: Figure, of: str) -> Mapping[str, Any] | None:
        """Of a figure of the report, where it has one."""
        return self._intervals.get((one.backend, *one.place, of))

    def sentences(self) -> list[str]:
        """The headline, the most telling first; no sentence where the run has no figure for it."""
        said = [self._latency(names, words) for names, words in VERBS.items()]
        said += [self._rate(names) for names in DONE]
        return [one for one in [*said, self._memory(), *self._failures(), self._ahead()] if one]

    def targets(self) -> list[Held]:
        """Those that this run has a figure for."""
        made = []
        for target in TARGETS:
            fitting = [one for one in self.ratios if target.fits(one)]
            if fitting:
                made.append(_held(target, self._choose(target, fitting)))
        return made + self._absolute()

    def _absolute(self) -> list[Held]:
        """What is to be had on any machine: 512 alive within a second, half a megabyte for each."""
        made = []
        many = [one for one in self.own if one.metric == "create" and one.row["rate"] and (one.concurrency or 0) >= ALIVE]
        if many:
            one = min(many, key=lambda one: one.concurrency or 0)
            interval, seconds = self.interval(one, "rate"), ALIVE / one.row["rate"]
            low, high = (ALIVE / interval["high"], ALIVE / interval["low"]) if interval else (seconds, seconds)
            words = duration_span(1000 * low, 1000 * high) if interval else ""
            held, took = _both(low <= 1, high <= 1), duration(1000 * seconds)
            made.append(Held(f"{ALIVE} alive", one.workload, f"within {duration(1000)}", took, words, held, 1))
        for metric, name in ((WEIGHT, "memory per idle sandbox"), (BY_AVAILABLE, "the same by MemAvailable")):
            weights = [one for one in self.own if one.metric == metric and (one.row["p50"] or 0) > 0]
            if weights:
                one = max(weights, key=lambda one: int(one.row["n"]))
                kib, limit = one.row["p50"], f"≤ 0.5{NARROW}MB"
                made.append(Held(name, one.workload, limit, size(kib, "KiB"), "", kib <= LIGHT, LIGHT))
        return made

    def _choose(self, target: Target, fitting: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Times are those of one at a time; rates are ours with the most alive, beside Docker's best at any number."""
        if target.of == "p50" and not target.is_weight:
            return min(fitting, key=lambda one: self._concurrency(one["workload"]))
        return max(fitting, key=lambda one: self._concurrency(one["workload"]))

    def _concurrency(self, workload: str) -> int:
        """1 where it is not said and no rate was taken: one at a time."""
        found = [one for one in self.own if one.workload == workload]
        said = [one.concurrency for one in found if one.concurrency]
        return max(said) if said else 1 + any(one.row["rate"] for one in found)

    def _latency(self, names: tuple[str, ...], words: str) -> str | None:
        own = [one for one in self.own if one.metric in names and one.timed and one.row["p50"] is not None]
        if not own:
            return None
        best = min(own, key=lambda one: self._concurrency(one.workload))
        said = f"{words} takes {figure(best.row['p50'], 'ms')} (median of {best.row['n']:,}"
        interval = self.interval(best, "p50")
        said += f", 95{NARROW}% interval {duration_span(interval['low'], interval['high'])})" if interval else ")"
        floor, docker = (self._ratio(best, "p50", name) for name in (FLOOR, DOCKER))
        if floor:
            said += f": {times(floor['value'])} the floor in C"
        if docker:
            said += f"; Docker takes {figure(docker['value'] * best.row['p50'], 'ms')}, {times(docker['value'])} as long"
        return f"{said}."

    def _rate(self, names: tuple[str, ...]) -> str | None:
        own = [one for one in self.own if one.metric in names and one.row["rate"]]
        if not own:
            return None
        best = max(own, key=lambda one: (self._concurrency(one.workload), float(one.row["rate"])))  # not the luckiest of a few
        said = f"It {DONE[names]} {significant(best.row['rate'])} {WHAT[names]} per second ({best.workload}"
        said += f"; {best.row['n']:,} within {duration(1000 * best.row['n'] / best.row['rate'])})"
        floor, docker = (self._ratio(best, "rate", name) for name in (FLOOR, DOCKER))
        if floor:
            said += f", {share(floor['value'])} of the floor's rate"
        if docker:
            theirs = significant(best.row["rate"] / docker["value"])
            said += f"; that is {times(docker['value'])} Docker's best, {theirs} per second ({docker['reference_workload']})"
        return f"{said}."

    def _memory(self) -> str | None:
        weights = [one for one in self.own if one.weight and (one.row["p50"] or 0) > 0]  # below 0 others gave memory back
        if not weights:
            return None
        name = WEIGHT if any(one.metric == WEIGHT for one in weights) else weights[0].metric
        own = max((one for one in weights if one.metric == name), key=lambda one: int(one.row["n"]))
        said = f"{own.metric[:1].upper()}{own.metric[1:]}: {figure(own.row['p50'], own.row['unit'])}, with {own.row['n']:,} alive"
        docker = self._ratio(own, "p50", DOCKER)
        if docker:
            theirs = figure(docker["value"] * own.row["p50"], own.row["unit"])
            said += f"; a Docker container takes {theirs}, {times(docker['value'])} as much"
        return f"{said}."

    def _failures(self) -> list[str]:
        said = []
        for name in dict.fromkeys(one.backend for one in self.figures):
            rows = [one.row for one in self.figures if one.backend == name and one.timed]
            failures = sum(row["failures"] for row in rows)
            attempts = failures + sum(row["n"] for row in rows)
            if name == self.subject and attempts:
                none = f"None of its {attempts:,} operations failed"
                said.append(f"Of its operations, {_count(failures, attempts)} failed." if failures else f"{none}.")
            elif failures:
                said.append(f"With {name}, {_count(failures, attempts)} failed.")
        return said

    def _ahead(self) -> str | None:
        """Where another runtime is certainly faster or lighter: more than its interval says could be chance."""
        others = [one for one in self.ratios if one["reference"] not in YARDSTICKS]
        if not others:
            return None
        ahead: dict[str, dict[str, list[float]]] = {}
        for one in others:
            too_few = one["of"] == "p50" and one["high"] is None and (one["workload"], one["metric"]) not in self._weights
            if (one["high"] or one["value"]) < 1 and not too_few:
                what = f"{one['metric']}{' per second' if one['of'] == 'rate' else ''}"
                ahead.setdefault(one["reference"], {}).setdefault(what, []).append(1 / one["value"])
        if not ahead:
            names = list(dict.fromkeys(one["reference"] for one in others))
            return f"No other runtime ({', '.join(names)}) is ahead in any row."
        said = (f"{name} in {', '.join(_by(what, by) for what, by in rows.items())}" for name, rows in ahead.items())
        return f"Others are ahead: {'; '.join(said)}."

    def _ratio(self, one: Figure, of: str, reference: str) -> Mapping[str, Any] | None:
        found = (own for own in self.ratios if (own["of"], own["reference"]) == (of, reference))
        return next((own for own in found if (own["workload"], own["metric"]) == one.place), None)


def _count(failures: int, attempts: int) -> str:
    return f"{failures:,} of {attempts:,} ({percent(failures / attempts)})"


def _by(what: str, by: Sequence[float]) -> str:
    """exec (1.08–1.16×, in 3 rows)."""
    return f"{what} ({ratio(min(by))}–{times(max(by))}, in {len(by)} rows)" if len(by) > 1 else f"{what} ({times(by[0])})"


def _held(target: Target, own: Mapping[str, Any]) -> Held:
    low, high = (own[end] if own[end] is not None else own["value"] for end in ("low", "high"))
    held = _both(*((end <= target.limit) if target.at_most else (end >= target.limit) for end in (low, high)))
    words = f"{ratio(low)}–{times(high)}" if own["low"] is not None else ""
    workload = str(own["workload"]) + ("" if own["same_run"] else " (two runs)")
    measured = times(own["value"])
    if measured == times(target.limit):  # 29.97 of 30 is missed, and must not read as 30
        measured = f"{own['value']:.4g}×"
    return Held(target.name, workload, target.words(), measured, words, held, target.limit, own)


def _both(low: bool, high: bool) -> bool | None:
    return low if low == high else None
