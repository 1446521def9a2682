"""What a run is told."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Think:
    """How long a model thinks before each tool call: nothing, or drawn from a lognormal distribution."""

    median: float = 0.0
    """Seconds; 0 for no thinking at all."""
    sigma: float = 0.0
    """Of the logarithm: with 1, two of three draws lie between the median divided by 2.7 and times 2.7."""

    @classmethod
    def parse(cls, text: str) -> Think:
        """`none`, or `lognormal:MEDIAN:SIGMA`. ValueError."""
        if text == "none":
            return cls()
        kind, *numbers = text.split(":")
        try:
            median, sigma = (float(number) for number in numbers)
        except ValueError:
            median = sigma = math.nan
        if kind != "lognormal" or not (0 < median < math.inf and 0 <= sigma < math.inf):
            raise ValueError(f"think time is none, or lognormal:MEDIAN:SIGMA with a median above 0 seconds, not {text!r}")
        return cls(median, sigma)

    def draws(self, random: Random) -> Iterator[float]:
        """Seconds, for ever."""
        while True:
            yield random.lognormvariate(math.log(self.median), self.sigma) if self.median else 0.0

    def __str__(self) -> str:
        return f"lognormal:{self.median:g}:{self.sigma:g}" if self.median else "none"


@dataclass(frozen=True, slots=True)
class Config:
    """What to do."""

    concurrency: int = 512
    """Sandboxes alive at once."""
    commands: int = 4
    """Commands that each of them runs."""
    image: str | None = None
    memory: int | None = None
    """Bytes that each sandbox may use, of every runtime; None for no limit."""
    jobs: int = field(default_factory=lambda: 2 * len(os.sched_getaffinity(0)))
    """Threads that drive them, so operations in flight at once."""
    serial: int = 50
    """Rounds of what is done one at a time."""
    seed: int = 1
    """Of every order and every think time."""
    rivals: int = 64
    """Instances of another runtime that are alive at once, at most."""
    think: Think = Think()
    minutes: float = 60.0
    """Of `soak`."""
    ramp: float = 0.0
    """rollout: seconds over which episodes begin. Those of a training job do not all begin at one moment."""
    interval: float = 0.2
    """Seconds between the arrivals of `staggered`."""
    ceiling: int | None = None
    """Where `density` stops, whatever there is room for."""
    episodes: str | None = None
    """Directory of recorded episodes; None for those of the repository."""
    suite: str | None = None
    """An sdist, whose own tests `steady` runs."""

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {**asdict(self), "think": str(self.think)}
