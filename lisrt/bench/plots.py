"""The report's drawings. Each takes plain figures and gives one SVG element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lisrt.bench.numbers import NARROW, duration, duration_tick, share, significant, size, tick, times
from lisrt.bench.stats import Interval, quantile
from lisrt.bench.svg import Canvas, Scale, fitting, linear, linear_ticks, logarithmic, spread, width

WIDTH = 456
"""Of a drawing that stands beside another one."""
WIDE = 760
"""Of one that stands alone."""
RUG = 160
"""Samples that are drawn of more than so many: those at even steps of rank, so the shape is the same."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a backend is drawn, everywhere on the page."""

    name: str
    style: str
    """A class that sets the colour."""
    shape: int


@dataclass(frozen=True, slots=True)
class Strip:
    """The latencies of one backend at one operation, in milliseconds."""

    look: Look
    ordered: Sequence[float]
    p50: float
    p99: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The rates of one backend by concurrency: (n, per second, interval)."""

    look: Look
    points: Sequence[tuple[int, float, Interval | None]]
    level: float | None = None
    """Instead of points: one rate, drawn all across."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One gauge over time: (seconds, value)."""

    look: Look
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure of one backend."""

    look: Look
    value: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A ratio."""

    label: str
    value: float
    interval: Interval | None
    target: float | None = None
    """Where it should lie, or beyond."""
    behind: bool = False
    """It is drawn as one that is not as it should be."""


def latencies(name: str, title: str, strips: Sequence[Strip]) -> str:
    """A line for each backend: its samples, the middle half, the median with its interval, p99; on a logarithmic axis."""
    left = min(150.0, max(64.0, *(width(one.look.name) + 12 for one in strips)))
    right, row, top = 112, 27, 22
    height = top + row * len(strips) + 26
    said = "; ".join(
        f"{one.look.name}: median {duration(one.p50)}, p99 {duration(one.p99)}, n = {len(one.ordered)}" for one in strips
    )
    canvas = Canvas(name, WIDTH, height, f"Latency of {title}", said)
    ends = [value for one in strips for value in (one.ordered[0], one.ordered[-1])]
    scale = logarithmic(ends, left, WIDTH - right - 6)
    bottom = top + row * len(strips) + 2
    _axis(canvas, scale, top - 6, bottom, duration_tick)
    canvas.text(WIDTH - right + 8, top - 9, "p50", "tick")
    canvas.text(WIDTH - 4, top - 9, "p99", "tick", "end")
    for number, one in enumerate(strips):
        _strip(canvas, scale, one, top + row * (number + 0.5), left, right)
    return canvas.render()


def _strip(canvas: Canvas, scale: Scale, one: Strip, y: float, left: float, right: float) -> None:
    n, style = len(one.ordered), one.look.style
    drawn = one.ordered if n <= RUG else [one.ordered[(2 * step + 1) * n // (2 * RUG)] for step in range(RUG)]
    canvas.text(left - 8, y + 4, fitting(one.look.name, left - 10), "label", "end")
    canvas.ticks([scale(value) for value in drawn], y - 6, y + 6, f"rug {style}")
    low, high = quantile(one.ordered, 0.25), quantile(one.ordered, 0.75)
    if low is not None and high is not None:
        canvas.line(scale(low), y, scale(high), y, f"half {style}")
    if one.interval is not None:
        _whisker(canvas, scale(one.interval.low), scale(one.interval.high), y, "interval")
    canvas.ticks([scale(one.p99)], y - 8, y + 8, f"far {style}")
    canvas.mark(scale(one.p50), y, one.look.shape, f"dot {style}")
    canvas.text(WIDTH - right + 8, y + 4, duration(one.p50), "value")
    canvas.text(WIDTH - 4, y + 4, duration(one.p99), "tick", "end")


def scaling(name: str, title: str, curves: Sequence[Curve]) -> str:
    """Rates over the number at once, both logarithmic: a straight line is a power of it, a level one a limit."""
    left, right, top, height = 58, 96, 14, 268
    bottom = height - 40
    said = "; ".join(
        f"{one.look.name}: "
        + (", ".join(f"{significant(rate)} per second at {n:,}" for n, rate, _ in one.points) or significant(one.level or 0))
        for one in curves
    )
    canvas = Canvas(name, WIDTH, height, f"{title} per second by concurrency", said)
    points = [point for one in curves for point in one.points]
    ns = sorted({n for n, _, _ in points})
    across = logarithmic(ns, left, WIDTH - right, least=2)
    rates = [end for _, rate, interval in points for end in (rate, *_ends(interval))]
    up = logarithmic([*rates, *(one.level for one in curves if one.level)], bottom, top, least=10)
    for value in up.major():
        canvas.line(left, up(value), WIDTH - right, up(value), "grid")
        canvas.text(left - 7, up(value) + 4, tick(value), "tick", "end")
    canvas.line(left, bottom, WIDTH - right, bottom, "axis")
    shown = float("-inf")
    for n in ns:
        canvas.ticks([across(n)], bottom, bottom + 4, "axis")
        if across(n) - width(f"{n:,}") / 2 > shown:  # of those that stand too close only the first
            canvas.text(across(n), bottom + 17, f"{n:,}", "tick", "middle")
            shown = across(n) + width(f"{n:,}") / 2 + 4
    canvas.text((left + WIDTH - right) / 2, height - 6, "at once", "tick", "middle")
    for one in curves:
        _curve(canvas, one, across, up)
    lasts = [(one.points[-1][0], one.points[-1][1]) if one.points else (across.high, one.level or up.low) for one in curves]
    ends = [(across(n), up(rate)) for n, rate in lasts]
    _named(canvas, [one.look for one in curves], ends, (top + 4, bottom - 2), WIDTH - right)
    return canvas.render()


def _named(
    canvas: Canvas, looks: Sequence[Look], ends: Sequence[tuple[float, float]], room: tuple[float, float], at: float
) -> None:
    """The names of lines at where they end, kept apart."""
    for look, (x, y), label in zip(looks, ends, spread([y for _, y in ends], 15, *room), strict=True):
        canvas.path([(x + 6, y), (at + 8, label), (at + 12, label)], "leader")
        canvas.text(at + 15, label + 4, fitting(look.name, WIDTH - at - 17))


def _curve(canvas: Canvas, one: Curve, across: Scale, up: Scale) -> None:
    if one.level is not None:
        canvas.line(across.start, up(one.level), across.end, up(one.level), f"curve broken {one.look.style}")
    if len(one.points) > 1:
        canvas.path([(across(n), up(y)) for n, y, _ in one.points], f"curve {one.look.style}")
    for n, y, interval in one.points:
        if interval is not None:
            canvas.ticks([across(n)], up(interval.low), up(interval.high), f"error {one.look.style}")
        canvas.mark(across(n), up(y), one.look.shape, f"dot {one.look.style}", 3.8)


def traces(name: str, title: str, lines: Sequence[Trace]) -> str:
    """A gauge over time. The upright axis begins where the values do, but a fifth of the highest is its least height: so what
    grows is seen, and noise is not made large."""
    left, right, top, height = 64, 96, 12, 150
    bottom = height - 30
    values = [value for one in lines for _, value in one.points] or [0.0]
    low, high = min(values), max(values)
    middle, reach = (low + high) / 2, max((high - low) / 2 * 1.1, 0.1 * abs(high), 0.5)
    up = Scale(max(0.0, middle - reach) if low >= 0 else middle - reach, middle + reach, bottom, top)
    last = max((at for one in lines for at, _ in one.points), default=1.0)
    unit, of = ("h", 3600) if last > 7200 else ("min", 60) if last > 120 else ("s", 1)
    across = Scale(0, max(last, 1e-9) / of, left, WIDTH - right)
    said = "; ".join(
        f"{one.look.name}: {significant(one.points[0][1])} at first, {significant(one.points[-1][1])} at last" for one in lines
    )
    canvas = Canvas(name, WIDTH, height, f"{title} over time", said or "nothing was read")
    for value in linear_ticks(up.low, up.high, 4):
        canvas.line(left, up(value), WIDTH - right, up(value), "grid")
        canvas.text(left - 7, up(value) + 4, tick(value), "tick", "end")
    _axis(canvas, across, bottom, bottom, lambda value: f"{tick(value)}{NARROW}{unit}")
    for one in lines:
        step = max(1, len(one.points) // 400)
        canvas.path([(across(at / of), up(value)) for at, value in one.points[::step]], f"curve {one.look.style}")
    ends = [(across(one.points[-1][0] / of), up(one.points[-1][1])) for one in lines]
    _named(canvas, [one.look for one in lines], ends, (top, bottom - 2), WIDTH - right)
    return canvas.render()


def bars(name: str, title: str, rows: Sequence[Bar], target: tuple[float, str] | None = None) -> str:
    """One for each backend, from 0, in KiB, the figure at its end. The target is a line across, said above."""
    left, right, row = 92, 84, 26
    top = 26 if target else 10
    height = top + row * len(rows) + 26
    said = "; ".join(f"{one.look.name}: {size(one.value, 'KiB')}" for one in rows)
    canvas = Canvas(name, WIDE, height, title, said)
    values = [*(one.value for one in rows), *([target[0]] if target else [])]
    unit, of = ("MiB", 1024) if max(values) >= 1024 else ("KiB", 1)  # so that the ticks are round in what they are written in
    scale = linear([value / of for value in values], left, WIDE - right)
    bottom = top + row * len(rows) + 2
    _axis(canvas, scale, top - 4, bottom, lambda value: f"{tick(value)}{NARROW}{unit}" if value else "0")
    for number, one in enumerate(rows):
        y = top + row * (number + 0.5)
        canvas.text(left - 8, y + 4, fitting(one.look.name, left - 10), "label", "end")
        canvas.rect(left, y - 8, scale(max(0.0, one.value / of)) - left, 16, f"bar {one.look.style}")
    if target is not None:
        x = scale(target[0] / of)
        canvas.line(x, top - 8, x, bottom, "target")
        _beside(canvas, x, top - 13, target[1], WIDE)
    for number, one in enumerate(rows):  # above the target's line, which would else strike them out
        canvas.text(max(left, scale(one.value / of)) + 6, top + row * (number + 0.5) + 4, size(one.value, "KiB"), "value halo")
    return canvas.render()


@dataclass(frozen=True, slots=True)
class Axis:
    """How ratios are drawn: `one` names the line at 1, `unit` writes a ratio, `marks` a tick."""

    one: str
    unit: Callable[[float], str] = times
    marks: Callable[[float], str] = lambda value: f"{tick(value)}×"
    log: bool = True


TIMES = Axis("the floor")
SHARE = Axis("the floor", share, share, log=False)
BETTER = Axis("the same")


def dots(name: str, title: str, groups: Sequence[tuple[str, Sequence[Dot]]], axis: Axis) -> str:
    """A line for each ratio with its interval, below the headings of their groups. An open triangle shows a target."""
    left, right, row, top = 272, 64, 22, 26
    rows = [dot for _, found in groups for dot in found]
    height = top + row * (len(rows) + sum(bool(heading) for heading, _ in groups)) + 28
    canvas = Canvas(name, WIDE, height, title, "; ".join(f"{dot.label}: {axis.unit(dot.value)}" for dot in rows))
    values = [end for dot in rows for end in (dot.value, dot.target, *_ends(dot.interval)) if end]
    scale = (logarithmic if axis.log else linear)([*values, 1.0], left, WIDE - right)
    _axis(canvas, scale, top - 4, height - 26, axis.marks)
    canvas.line(scale(1), top - 8, scale(1), height - 26, "unity")
    _beside(canvas, scale(1), top - 13, axis.one, WIDE)
    y = top - row / 2
    for heading, found in groups:
        if heading:
            y += row
            canvas.text(left - 12, y + 4, fitting(heading, left - 14), "heading", "end")
        for dot in found:
            y += row
            _dot(canvas, scale, dot, y, left)
            canvas.text(WIDE - 4, y + 4, axis.unit(dot.value), "value", "end")
    return canvas.render()


def _dot(canvas: Canvas, scale: Scale, dot: Dot, y: float, left: float) -> None:
    canvas.text(left - 12, y + 4, fitting(dot.label, left - 14), "label", "end")
    if dot.target is not None:
        canvas.mark(scale(dot.target), y, 4, "aim", 4.6)
    if dot.interval is not None:
        _whisker(canvas, scale(dot.interval.low), scale(dot.interval.high), y, "interval")
    canvas.mark(scale(dot.value), y, 1 if dot.behind else 0, f"dot {'s-miss' if dot.behind else 's-main'}")


def _ends(interval: Interval | None) -> tuple[float, ...]:
    return (interval.low, interval.high) if interval else ()


def _axis(canvas: Canvas, scale: Scale, top: float, bottom: float, words: Callable[[float], str]) -> None:
    """Along the bottom, with a grid."""
    canvas.ticks([scale(value) for value in scale.minor()], bottom, bottom + 3, "axis")
    for value in scale.major(words):
        x = scale(value)
        canvas.line(x, top, x, bottom, "grid")
        canvas.ticks([x], bottom, bottom + 5, "axis")
        canvas.text(x, bottom + 18, words(value), "tick", "middle")
    canvas.line(scale.start, bottom, scale.end, bottom, "axis")


def _whisker(canvas: Canvas, low: float, high: float, y: float, look: str) -> None:
    canvas.line(low, y, high, y, look)
    canvas.ticks([low, high], y - 4, y + 4, look)


def _beside(canvas: Canvas, x: float, y: float, words: str, room: float) -> None:
    """Words over a line, and within the drawing."""
    half = width(words, 11) / 2
    canvas.text(min(max(x, half + 2), room - half - 2), y, words, "tick", "middle")
