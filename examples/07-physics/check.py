"""A thrown ball with drag. The range comes from the hodograph here: with drag that grows as the square of the speed, the
horizontal speed is a known function of the path's slope, and what is left are two integrals over that. Time has no part in it."""

import csv
import itertools
import math
import re
from pathlib import Path

G, HEIGHT, SPEED, ANGLE = 9.81, 1.5, 40.0, math.radians(35)
DRAG = 1.2 * 0.35 * math.pi * (0.074 / 2) ** 2 / 2 / 0.145  # of the speed's square, per metre


def hodograph() -> tuple[float, float]:
    """Range and greatest height, in metres."""

    def arc(slope: float) -> float:
        return slope * math.hypot(1, slope) + math.asinh(slope)

    first = math.tan(ANGLE)
    x, y, top, step = 0.0, HEIGHT, HEIGHT, 1e-4
    slope = first
    while y > 0:
        middle = slope - step / 2
        square = 1 / (1 / (SPEED * math.cos(ANGLE)) ** 2 + DRAG / G * (arc(first) - arc(middle)))
        along = square / G * step
        x, y, slope = x + along, y + middle * along, slope - step
        top = max(top, y)
    return x - y / slope, top


def check(answer: str | None, files: Path) -> None:
    distance, top = hodograph()
    boxed = re.findall(r"\\boxed\{\s*([\d.]+)\s*\}", answer or "")
    assert boxed, f"there is no \\boxed{{number}} in the answer {answer!r}"
    assert abs(float(boxed[-1]) / distance - 1) < 0.005, f"the range is {distance:.2f} m, not {boxed[-1]}"
    with (files / "path.csv").open(encoding="utf-8", newline="") as file:
        rows = [(float(row["t"]), float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    assert len(rows) >= 50, f"the path has {len(rows)} points"
    assert all(after > before for (before, *_), (after, *_) in itertools.pairwise(rows)), "the times do not rise"
    assert math.dist(rows[0], (0, 0, HEIGHT)) < 0.01, f"the path begins at {rows[0]}"
    assert abs(rows[-1][2]) < 0.1, f"the path ends at a height of {rows[-1][2]:.2f} m"
    assert abs(rows[-1][1] / distance - 1) < 0.005, f"the path ends after {rows[-1][1]:.2f} m"
    highest = max(y for _, _, y in rows)
    assert abs(highest / top - 1) < 0.01, f"the path rises to {highest:.2f} m, not {top:.2f}"
