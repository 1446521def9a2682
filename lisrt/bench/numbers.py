"""Figures as people read them: with their units, and with no more digits than they are worth."""

from __future__ import annotations

import math

NARROW = "\N{NARROW NO-BREAK SPACE}"
"""Between a number and its unit."""


def significant(value: float, digits: int = 3) -> str:
    """With so many significant digits, and whole numbers in full: 0.0244, 1.52, 164, 1,643."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "?"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)  # 9.996 is 10.0 then, which has a digit less behind the point
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded if places > 0 else value:,.{max(0, places)}f}".replace("-", "−")


def duration(milliseconds: float) -> str:
    """In the unit that it is said in: 223 µs, 1.52 ms, 2.90 s, 12.4 min."""
    for unit, size, below in (("µs", 0.001, 0.9995), ("ms", 1.0, 999.5), ("s", 1e3, 119_500)):
        if abs(milliseconds) < below:
            return f"{significant(milliseconds / size)}{NARROW}{unit}"
    return f"{significant(milliseconds / 60_000)}{NARROW}min"


def size(value: float, unit: str) -> str:
    """Of KiB and MiB whichever reads better, and any other unit as it is."""
    if unit == "KiB" and abs(value) >= 1023.5:
        return size(value / 1024, "MiB")
    if unit == "MiB" and abs(value) >= 1023.5:
        return f"{significant(value / 1024)}{NARROW}GiB"
    return f"{significant(value)}{NARROW}{unit}"


def figure(value: float, unit: str) -> str:
    """A duration, or a size."""
    return duration(value) if unit == "ms" else size(value, unit)


def tick(value: float) -> str:
    """A round number at an axis, with no digits that say nothing: 0.5, 2, 1,000."""
    return f"{value:,.10g}"


def duration_tick(milliseconds: float) -> str:
    """100 µs, 1 ms, 30 s."""
    unit, size = next((pair for pair in (("µs", 0.001), ("ms", 1.0)) if milliseconds < 999.5 * pair[1]), ("s", 1000.0))
    return f"{tick(round(milliseconds / size, 6))}{NARROW}{unit}"


def ratio(value: float) -> str:
    """1.40, 26, 1,310; below a tenth with two digits that count."""
    return f"{value:,.0f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.0995 else significant(value, 2)


def times(value: float) -> str:
    """The same with its sign: 1.40×."""
    return f"{ratio(value)}×"


def percent(share: float) -> str:
    """A share that is not whole never reads as if it were: 99.99 % of it, not 100 %."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", f"{NARROW}%")
    for places in range(1, 9):
        text = f"{100 * share:.{places}f}"
        if float(text) not in (0, 100):
            break
    return f"{text}{NARROW}%"


def span(low: float, high: float, digits: int = 3) -> str:
    """Both ends of an interval: 1.48–1.55."""
    return f"{significant(low, digits)}–{significant(high, digits)}"


def duration_span(low: float, high: float) -> str:
    """In one unit, which is that of the upper end: 837–974 µs."""
    number, unit = duration(high).split(NARROW)
    size = {"µs": 0.001, "ms": 1.0, "s": 1e3, "min": 60e3}[unit]
    return f"{significant(low / size)}–{number}{NARROW}{unit}"


def share(value: float) -> str:
    """62 %, 120 %, of something that may be more than the whole."""
    return f"{significant(100 * value, 3 if value < 0.995 else 2) if value < 0.0995 else f'{100 * value:,.0f}'}{NARROW}%"
