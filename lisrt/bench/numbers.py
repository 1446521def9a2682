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
    return f"{rounded if places > 0 else value:,.{max(0, places)}f}"


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


def times(ratio: float) -> str:
    """1.40×, 26×, 1,310×."""
    return f"{significant(ratio, 2 if ratio >= 10 else 3)}×"


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
