"""`python bench/check.py REPORT.json`: fails when a ratio of a run of `lisrt bench` is grossly worse than it has ever been.

Two noisy CPUs move a ratio by a quarter; what is caught here is a factor: a sleep, a lost wake-up, a scan of everything.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from lisrt.bench import load


@dataclass(frozen=True)
class Bound:
    """`at_most`: of time, beside the floor's. `at_least`: of the rate or time, how many times better than Docker."""

    workload: str
    metric: str
    of: str
    reference: str
    at_most: float | None = None
    at_least: float | None = None

    def judge(self, ratios: dict[tuple[str, str, str, str], float]) -> str:
        """What is wrong; empty when nothing is."""
        name = f"{self.metric}, {self.workload}, {self.of}, beside {self.reference}"
        value = ratios.get((self.workload, self.metric, self.of, self.reference))
        if value is None:
            return f"{name}: not measured"
        if self.at_most is not None and value > self.at_most:
            return f"{name}: {value:.2f}, and at most {self.at_most} is allowed"
        if self.at_least is not None and value < self.at_least:
            return f"{name}: {value:.1f}, and at least {self.at_least} is demanded"
        print(f"{name}: {value:.2f}")
        return ""


BOUNDS = (
    Bound("one at a time", "create", "p50", "floor", at_most=4),
    Bound("one at a time", "exec", "p50", "floor", at_most=4),
    Bound("one at a time", "fork", "p50", "floor", at_most=5),
    Bound("one at a time", "destroy", "p50", "floor", at_most=8),
    Bound("all alive", "exec", "rate", "floor", at_least=0.35),
    Bound("one at a time", "create", "p50", "docker", at_least=15),
    Bound("one at a time", "exec", "p50", "docker", at_least=8),
    Bound("one at a time", "destroy", "p50", "docker", at_least=15),
)


def main(path: str) -> int:
    """1 when a bound is broken, or an operation of lisrt has failed."""
    report = load(path)
    ratios = {
        (one["workload"], one["metric"], one["of"], one["reference"]): float(one["value"])
        for one in report["ratios"]
        if one["backend"] == "native"
    }
    wrong = [words for words in (bound.judge(ratios) for bound in BOUNDS) if words]
    wrong += [
        f"native: {row['failures']} of {row['metric']}, {row['workload']} failed"
        for row in report["rows"]
        if row["backend"] == "native" and row["failures"]
    ]
    for words in wrong:
        print(words, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
