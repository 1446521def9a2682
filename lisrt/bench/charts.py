"""Which drawings a report has, and what is said beneath them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from lisrt.bench import plots
from lisrt.bench.compare import DOCKER, FLOOR, HOST, SUBJECTS, YARDSTICKS, Figure, split
from lisrt.bench.numbers import NARROW
from lisrt.bench.plots import Bar, Curve, Dot, Look, Strip, Trace
from lisrt.bench.stats import Interval
from lisrt.bench.svg import Canvas
from lisrt.bench.verdict import Verdict

FEWEST = 5
"""Samples that are worth a drawing."""
KNOWN = (*SUBJECTS[:1], DOCKER, "bwrap", "podman", "crun", "runsc")
"""Backends that look the same in every report; others take what looks are left, in their order."""
MEMORY_LIMIT = 500_000 / 1024
"""KiB for an idle sandbox."""


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A colour and a shape for each backend."""
    made = {FLOOR: Look(FLOOR, "s-floor", 3)}
    styles = {name: number for number, name in enumerate(KNOWN)} | {SUBJECTS[1]: 0, HOST: 7}
    taken = {styles[name] for name in names if name in styles}
    free = sorted((number for number in range(8) if number not in taken), key=lambda number: number in range(len(KNOWN)))
    unknown = [name for name in names if name not in styles and name != FLOOR]
    styles |= {name: (free or [6])[position % max(1, len(free))] for position, name in enumerate(unknown)}
    shapes = (0, 1, 2, 4, 1, 2, 0, 5)
    return made | {name: Look(name, f"s{styles[name]}", shapes[styles[name]]) for name in names if name != FLOOR}


def sections(verdict: Verdict) -> list[str]:
    """All that the report's figures allow, each with its number."""
    names = list(dict.fromkeys(one.backend for one in verdict.figures))
    names += [name for one in verdict.document.get("series", {}).values() for name in one if name not in names]
    order = sorted(names, key=lambda name: (name != FLOOR, name != verdict.subject))
    charts = Charts(verdict, looks(order), order)
    made = (
        charts.against_floor(), *charts.against_others(), charts.against_host(), charts.latency(), charts.scaling(),
        charts.memory(), charts.series(),
    )  # fmt: skip
    return [one for one in made if one]


class Charts:
    """Drawings of one report. Each is a section of the page, and empty where the report has nothing for it."""

    def __init__(self, verdict: Verdict, known: Mapping[str, Look], order: Sequence[str]) -> None:
        self._verdict = verdict
        self._looks = known
        self._order = order
        self._targets = verdict.targets()
        self._number = 0
        self._shown = _shown(verdict.figures)

    def latency(self) -> str:
        """A panel for each operation that several backends have, with a line for each of them; of one backend a panel for each
        workload, with a line for each operation. Of each workload at the most it has at once."""
        places: dict[tuple[str, str], list[Figure]] = {}
        for one in self._verdict.figures:
            if one.timed and len(one.ordered) >= FEWEST and one.workload == self._shown[one.family]:
                places.setdefault(one.place, []).append(one)
        shared = {place: found for place, found in places.items() if len(found) > 1}
        panels = []
        for number, (place, found) in enumerate(shared.items()):
            found.sort(key=lambda one: self._order.index(one.backend))
            strips = [self._strip(one, self._looks[one.backend]) for one in found]
            drawn = plots.latencies(f"latency-{number}", f"{place[1]}, {place[0]}", strips)
            panels.append(_panel(place[1], f"{place[0]} · {_counts(found)}", drawn))
        for number, workload in enumerate(dict.fromkeys(workload for workload, _ in places) if not shared else ()):
            found = [one for place, of in places.items() if place[0] == workload for one in of]
            looks = [replace(self._looks[one.backend], name=one.metric) for one in found]
            strips = [self._strip(one, look) for one, look in zip(found, looks, strict=True)]
            drawn = plots.latencies(f"latency-{number}", workload, strips)
            panels.append(_panel(workload, _counts(found), drawn))
        caption = (
            "Latency of each operation, on logarithmic axes; of a workload that was run at several concurrencies the one that "
            f"most backends share. Thin lines: single operations, of more than {plots.RUG} those at even steps of rank. Thick "
            f"line: the middle half. Mark: the median, with its 95{NARROW}% interval. Tall line: p99."
        )
        return self._section("Latency", _pair(panels), caption, tall=True) if panels else ""

    def _strip(self, one: Figure, look: Look) -> Strip:
        return Strip(look, one.ordered, one.row["p50"], one.row["p99"], _interval(self._verdict.interval(one, "p50")))

    def scaling(self) -> str:
        """A panel for each operation of which a backend has rates at more than one concurrency. What another has at one only is
        a level line: a rate to compare with, wherever that one belongs."""
        panels = []
        groups: dict[tuple[str, str], list[Figure]] = {}
        for one in self._verdict.figures:
            if one.timed and one.row["rate"]:
                groups.setdefault((one.family, one.metric), []).append(one)
        for number, ((family, metric), found) in enumerate(groups.items()):
            curves = [curve for name in self._order for curve in self._curves([one for one in found if one.backend == name])]
            if len({n for curve in curves for n, _, _ in curve.points}) > 1:
                panels.append(_panel(f"{metric} per second", family, plots.scaling(f"scaling-{number}", metric, curves)))
        caption = (
            f"Rates by how many there are at once, on logarithmic axes. Upright lines: 95{NARROW}% intervals. A broken line is "
            "the rate of a backend that was measured with one number of them only."
        )
        return self._section("Scaling", _pair(panels), caption) if panels else ""

    def _curves(self, own: Sequence[Figure]) -> list[Curve]:
        numbered = sorted((one for one in own if split(one.workload)[1]), key=lambda one: one.concurrency or 0)
        if numbered:
            intervals = [_interval(self._verdict.interval(one, "rate")) for one in numbered]
            points = [(one.concurrency or 0, one.row["rate"], known) for one, known in zip(numbered, intervals, strict=True)]
            return [Curve(self._looks[own[0].backend], points)]
        return [Curve(self._looks[one.backend], (), one.row["rate"]) for one in own[:1]]

    def memory(self) -> str:
        """A drawing for each figure of memory that more than one backend has, else for those there are."""
        places: dict[tuple[str, str], list[Figure]] = {}
        for one in self._verdict.figures:
            if one.weight and one.row["p50"] is not None and one.row["unit"] == "KiB":
                places.setdefault((one.family, one.metric), []).append(one)
        shared = {place: found for place, found in places.items() if len({one.backend for one in found}) > 1}
        drawn = []
        for number, (place, found) in enumerate((shared or places).items()):
            largest = {one.backend: one for one in sorted(found, key=lambda one: one.row["n"])}  # of several counts the largest
            rows = [Bar(self._looks[name], largest[name].row["p50"]) for name in self._order if name in largest]
            counts = ", ".join(f"{name} {largest[name].row['n']:,}" for name in self._order if name in largest)
            limit = (MEMORY_LIMIT, f"target: at most 0.5{NARROW}MB")
            bars = plots.bars(f"memory-{number}", place[1], rows, limit)
            title = f"<h3>{escape(place[1])} <span>{escape(place[0])}</span></h3>"
            drawn.append(f'{title}{bars}<p class="note">Alive at once: {escape(counts)}.</p>')
        return self._section("Memory", "".join(drawn), "Memory for each idle sandbox, of the whole machine.") if drawn else ""

    def against_floor(self) -> str:
        """Times, then rates, as multiples of the floor's."""
        return self._against(FLOOR, "the floor", "a C program that makes the same system calls and nothing else")

    def against_host(self) -> str:
        """What it costs to run the same program in a sandbox."""
        return self._against(HOST, "the bare host", "the same programs on the bare host, without any sandbox")

    def _against(self, reference: str, name: str, what: str) -> str:
        drawn, dots = "", []
        for of, title, axis in (
            ("p50", f"Median time, as a multiple of {name}'s", plots.TIMES),
            ("rate", f"Rate, as a share of {name}'s", plots.SHARE),
        ):
            found = [one for one in self._ratios(reference, of) if self._sure(one)]
            if found:
                groups = self._by_workload(found)
                drawn += f"<h3>{title}</h3>{plots.dots(f'{reference}-{of}', title, groups, replace(axis, one=name))}"
                dots += [dot for _, own in groups for dot in own]
        squares = " Orange squares: the target is missed." if any(dot.behind for dot in dots) else ""
        caption = f"{escape(self._verdict.subject or '')} against {what}. Bars: 95{NARROW}% intervals.{_triangles(dots)}{squares}"
        return self._section(f"Against {name}", drawn, caption) if drawn else ""

    def against_others(self) -> Iterator[str]:
        """One section for each other runtime, Docker first. Of rates the best of each workload."""
        others = [name for name in self._order if name not in (*YARDSTICKS, self._verdict.subject)]
        for name in sorted(others, key=lambda name: name != DOCKER):
            times = [one for one in self._ratios(name, "p50") if self._drawn(one) and self._sure(one)]
            weights = {one["metric"]: one for one in self._ratios(name, "p50") if one["metric"] in self._weights()}
            best: dict[tuple[str, str], Mapping[str, Any]] = {}
            for one in sorted(self._ratios(name, "rate"), key=lambda one: float(one["value"])):
                best[split(one["workload"])[0], one["metric"]] = one
            groups = self._by_workload(times, "median time, ")
            named = (("best rate", list(best.values())), ("memory", list(weights.values())))
            groups += [(heading, [self._dot(one, whole=True) for one in found]) for heading, found in named if found]
            if groups:
                title = f"How many times better than {name}"
                plot = plots.dots(f"other-{others.index(name)}", title, groups, plots.BETTER)
                dots = [dot for _, found in groups for dot in found]
                squares = " Orange squares: it is ahead, or the target is missed." if any(dot.behind for dot in dots) else ""
                caption = (
                    f"How many times better {escape(self._verdict.subject or '')} does than {escape(name)}: its median time or "
                    "memory divided by ours; our best rate divided by its best, at any. Bars: "
                    f"95{NARROW}% intervals.{_triangles(dots)}{squares}"
                )
                yield self._section(f"Against {escape(name)}", plot, caption)

    def series(self) -> str:
        """A panel for each gauge that was read while time went by."""
        panels = []
        for workload, found in self._verdict.document.get("series", {}).items():
            read = {name: one["samples"] for name, one in found.items() if isinstance(one, dict) and one.get("samples")}
            gauges = dict.fromkeys(gauge for samples in read.values() for gauge in samples[0] if gauge != "seconds")
            for number, gauge in enumerate(gauges):
                traces = [
                    Trace(self._looks[name], [(one["seconds"], one[gauge]) for one in read[name] if one.get(gauge) is not None])
                    for name in self._order if name in read
                ]  # fmt: skip
                drawn = plots.traces(f"series-{escape(workload)}-{number}", gauge, [one for one in traces if len(one.points) > 1])
                panels.append(_panel(f"{gauge}{_unit(found, gauge)}", workload, drawn))
        caption = "Gauges of this machine while sandboxes came and went. Upright axes do not begin at 0: they show what grows."
        return self._section("As time went by", _pair(panels), caption, tall=True) if panels else ""

    def _section(self, title: str, drawn: str, caption: str, *, tall: bool = False) -> str:
        """The next figure. `tall`: may be broken between pages."""
        self._number += 1
        look = ' class="tall"' if tall else ""
        caption = f"<figcaption><b>Figure {self._number}.</b> {caption}</figcaption>"
        return f"<section><h2>{title}</h2><figure{look}>{drawn}{caption}</figure></section>\n"

    def _drawn(self, one: Mapping[str, Any]) -> bool:
        """Of the workload that stands for its family."""
        workload = str(one["workload"])
        return workload == self._shown.get(split(workload)[0], workload)

    def _sure(self, one: Mapping[str, Any]) -> bool:
        """A rate; or a median of enough samples for an interval, where there are samples at all."""
        known = one["of"] == "rate" or one["low"] is not None or not self._verdict.document.get("samples")
        return known and one["metric"] not in self._weights()

    def _by_workload(self, found: Sequence[Mapping[str, Any]], before: str = "") -> list[tuple[str, list[Dot]]]:
        workloads = dict.fromkeys(one["workload"] for one in found)
        return [(before + name, [self._dot(one) for one in found if one["workload"] == name]) for name in workloads]

    def _weights(self) -> set[str]:
        return {one.metric for one in self._verdict.own if one.weight}

    def _ratios(self, reference: str, of: str) -> list[Mapping[str, Any]]:
        return [one for one in self._verdict.ratios if (one["reference"], one["of"]) == (reference, of)]

    def _dot(self, one: Mapping[str, Any], *, whole: bool = False) -> Dot:
        held = next((held for held in self._targets if held.ratio is one), None)
        surely = one["value"] if one["high"] is None else one["high"]  # what may be chance is nobody's lead
        behind = (held is not None and held.held is False) or (one["reference"] not in YARDSTICKS and surely < 1)
        label = f"{one['metric']}, {one['workload']}" if whole and one["metric"] not in self._weights() else one["metric"]
        return Dot(label, one["value"], _interval(one), held.limit if held else None, behind)


def _unit(found: Mapping[str, Any], gauge: str) -> str:
    """Of a gauge, where what was found of it says that."""
    trends = (one["trends"] for one in found.values() if isinstance(one, dict) and isinstance(one.get("trends"), dict))
    told = next((trend[gauge].get("gauge") for trend in trends if isinstance(trend.get(gauge), dict)), None)
    return f", {told['unit']}" if isinstance(told, dict) and told.get("unit") else ""


def _shown(figures: Sequence[Figure]) -> dict[str, str]:
    """Which workload stands for all of its family: one that several backends have, without a number, else with the highest."""
    backends: dict[str, set[str]] = {}
    for one in figures:
        backends.setdefault(one.workload, set()).add(one.backend)
    shown: dict[str, str] = {}
    for workload in sorted(backends, key=lambda name: (len(backends[name]) > 1, split(name)[1] or float("inf"))):
        shown[split(workload)[0]] = workload
    return shown


def key(look: Look) -> str:
    """The mark of a backend, for a table."""
    canvas = Canvas("", 12, 12, "", "")
    canvas.mark(6, 6, look.shape, f"dot {look.style}", 4.6)
    inner = canvas.render().partition("</desc>")[2]
    return f'<svg class="key" viewBox="0 0 12 12" aria-hidden="true">{inner}'


def _triangles(dots: Sequence[Dot]) -> str:
    return " Open triangles: targets." if any(dot.target for dot in dots) else ""


def _interval(one: Mapping[str, Any] | None) -> Interval | None:
    return Interval(one["low"], one["high"]) if one and one["low"] is not None else None


def _counts(found: Sequence[Figure]) -> str:
    counts = sorted({len(one.ordered) for one in found})
    return f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")


def _panel(title: str, beside: str, plot: str) -> str:
    return f'<div class="panel"><h3>{escape(title)} <span>{escape(beside)}</span></h3>{plot}</div>'


def _pair(panels: Sequence[str]) -> str:
    return f'<div class="pair">{"".join(panels)}</div>'
