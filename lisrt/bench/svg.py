"""Small parts of drawings: a canvas, scales with ticks that people can read, and labels that keep out of each other's way."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARKS = 6
"""Shapes of marks: with them series can be told apart without their colours."""


class Canvas:
    """An SVG image with a title and a description for those who do not see it. Lengths are CSS pixels, looks are classes."""

    def __init__(self, name: str, width: float, height: float, title: str, description: str) -> None:
        self._head = (
            f'<svg class="plot" role="img" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" height="{_n(height)}" '
            f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{html.escape(title)}</title>'
            f'<desc id="{name}-d">{html.escape(description)}</desc>'
        )
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str) -> None:
        """A straight one."""
        self._parts.append(f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{look}"/>')

    def text(self, x: float, y: float, words: str, look: str = "label", anchor: str = "start") -> None:
        """One line of text, escaped; y is its base line."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}" class="{look}"{where}>{html.escape(words)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, look: str) -> None:
        """Never of a negative size."""
        size = f'width="{_n(max(0.0, width))}" height="{_n(max(0.0, height))}"'
        self._parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" {size} class="{look}"/>')

    def path(self, points: Sequence[tuple[float, float]], look: str) -> None:
        """Straight from point to point."""
        steps = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._parts.append(f'<path d="M{steps}" class="{look}"/>')

    def ticks(self, places: Sequence[float], y1: float, y2: float, look: str) -> None:
        """Many short upright lines, as one element."""
        steps = "".join(f"M{_n(x)} {_n(y1)}V{_n(y2)}" for x in places)
        self._parts.append(f'<path d="{steps}" class="{look}"/>')

    def mark(self, x: float, y: float, shape: int, look: str, size: float = 4.2) -> None:
        """A dot in one of MARKS shapes, all of about the same area."""
        kind = shape % MARKS
        if kind == 0:
            self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}" class="{look}"/>')
            return
        wide = size * 1.3
        corners = {
            1: ((-0.72, -0.72), (0.72, -0.72), (0.72, 0.72), (-0.72, 0.72)),
            2: ((0, -1), (1, 0), (0, 1), (-1, 0)),
            3: ((0, -0.95), (0.95, 0.75), (-0.95, 0.75)),
            4: ((0, 0.95), (0.95, -0.75), (-0.95, -0.75)),
            5: ((-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1), (-0.35, 0.35),
                (-1, 0.35), (-1, -0.35), (-0.35, -0.35)),
        }[kind]  # fmt: skip
        steps = "L".join(f"{_n(x + wide * dx)} {_n(y + wide * dy)}" for dx, dy in corners)
        self._parts.append(f'<path d="M{steps}Z" class="{look}"/>')

    def render(self) -> str:
        """The element."""
        return f"{self._head}{''.join(self._parts)}</svg>"


def _n(value: float) -> str:
    """A hundredth of a pixel is enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Beyond its ends it goes on; a value that a logarithm can't have lies at the low end."""
        if self.log:
            value = max(value, self.low * 1e-3)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def major(self, words: Callable[[float], str] | None = None, size: float = 11.0) -> list[float]:
        """Values to write beside the axis; with `words` for them no more than can stand side by side."""
        for most in range(7, 0, -1):
            found = log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)
            if words is None or not self._collide([(self(value), width(words(value), size)) for value in found]):
                break
        return found

    @staticmethod
    def _collide(labels: Sequence[tuple[float, float]]) -> bool:
        pairs = zip(labels, labels[1:], strict=False)
        return any(left + half / 2 + 5 > right - other / 2 for (left, half), (right, other) in pairs)

    def minor(self) -> list[float]:
        """Values to mark between: of a logarithmic axis 2 to 9 of each decade."""
        if not self.log:
            return []
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [digit * 10.0**decade for decade in decades for digit in range(1, 10) if self._has(digit * 10.0**decade)]

    def _has(self, value: float) -> bool:
        return self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


def linear(values: Sequence[float], start: float, end: float) -> Scale:
    """From 0 to a round number above all of them: bars must begin at nothing."""
    highest = max([*values, 0.0]) or 1.0
    step = _step(highest * 1.02, 5)
    return Scale(0, step * math.ceil(highest * 1.02 / step), start, end)


def logarithmic(values: Sequence[float], start: float, end: float, *, least: float = 4.0) -> Scale:
    """A little wider than the values, which are above 0, and at least `least` times from end to end."""
    positive = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low, high = min(positive) / 1.12, max(positive) * 1.12
    if high / low < least:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(least), middle * math.sqrt(least)
    return Scale(low, high, start, end, log=True)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about so many."""
    step = _step(high - low, about)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """As many as there is room for: of each decade 1, 2 and 5, or 1 and 3, or 1 alone, or of every second decade."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        found = [digit * 10.0**decade for decade in range(first, last + 1, every) for digit in digits]
        shown = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(shown) <= most:
            break
    return shown


def _step(span: float, about: int) -> float:
    rough = span / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, as near to the wanted ones as can be (least squares), in the same order, between low and high.
    Where that is too little room for all of them they stand closer, evenly."""
    n = len(wanted)
    if n == 0:
        return []
    gap = min(gap, (high - low) / max(1, n - 1))
    order = sorted(range(n), key=lambda index: wanted[index])
    groups: list[list[float]] = []  # of those that touch: the sum of where they want the group to begin, and how many
    for position, index in enumerate(order):
        groups.append([wanted[index] - position * gap, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] >= groups[-1][0] / groups[-1][1]:
            last = groups.pop()
            groups[-1][0] += last[0]
            groups[-1][1] += last[1]
    starts = [total / count for total, count in groups for _ in range(int(count))]
    places = [0.0] * n
    for position, index in enumerate(order):
        room = high - gap * (n - 1)
        places[index] = min(max(starts[position], low), room) + position * gap
    return places


def width(words: str, size: float = 12.0) -> float:
    """About how wide a text is in a sans-serif face; rather too wide."""
    narrow = sum(letter in "iljtfI.,:;'|!()[] " for letter in words)
    return size * (0.6 * (len(words) - narrow) + 0.34 * narrow)


def fitting(words: str, room: float, size: float = 12.0) -> str:
    """The text, or as much of it as there is room for."""
    if width(words, size) <= room:
        return words
    while words and width(words + "…", size) > room:
        words = words[:-1]
    return words.rstrip() + "…"
