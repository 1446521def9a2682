"""Quantiles, and how sure one can be of them: intervals for quantiles, rates, shares, and ratios of two backends.

No figure here assumes a shape of the distribution: latencies have long tails, and means of them say little.
- A quantile's interval lies between two of the samples, which the binomial distribution names. It holds at least as often as it
  says, for every distribution, costs nothing, and says by itself when there are too few samples; the bootstrap's own interval
  of a p95 of 20 samples would end at the largest of them and be wrong a third of the time.
- A ratio of two quantiles has no such interval, so it is the percentile bootstrap, with the run's seed. A resample is not drawn
  sample by sample: the k-th smallest of n draws from n samples is the sample whose rank is n·U, where U is beta-distributed
  with (k, n + 1 - k). So one draw is one resample, exactly, and thousands of resamples of thousands of samples take no time.
- A rate is one number of a whole phase. Its interval comes from the gaps between completions, resampled in blocks, since
  operations that run side by side end together.

All of them take the samples for what the machine does in one state: they know nothing of another day.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEVEL = 0.95
"""Of all intervals."""
RESAMPLES = 2000
FEWEST_COMPLETIONS = 26
"""Of these there are 25 gaps, in five blocks: fewer say too little of how a rate varies."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies, at LEVEL; both ends in it."""

    low: float
    high: float


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The smallest sample that at least a share `q` of all do not exceed (nearest rank); None without samples."""
    if not ordered:
        return None
    return ordered[rank(len(ordered), q) - 1]


def rank(n: int, q: float) -> int:
    """Which of n ordered samples that is, from 1."""
    return max(1, math.ceil(q * n))


def quantile_interval(ordered: Sequence[float], q: float, level: float = LEVEL) -> Interval | None:
    """Two of the samples, with the true quantile between them in at least `level` of all runs. None where there are too few:
    below 6 for a median, 72 for a p95, 368 for a p99."""
    ranks = _interval_ranks(len(ordered), q, level)
    return Interval(ordered[ranks[0] - 1], ordered[ranks[1] - 1]) if ranks else None


@lru_cache(maxsize=1024)
def _interval_ranks(n: int, q: float, level: float) -> tuple[int, int] | None:
    """Of how many samples lie below the quantile, the binomial distribution cuts off an equal share at both ends."""
    tail = (1 - level) / 2
    low, high, below = 0, None, 0.0
    for count in range(n + 1):  # `below` is the probability of fewer than `count`
        if below <= tail:
            low = count
        if below >= 1 - tail:
            high = count
            break
        below += _binomial(n, count, q)
    return (low, high) if low >= 1 and high is not None and high <= n else None


def _binomial(n: int, k: int, p: float) -> float:
    """The probability of exactly k of n, each with probability p between 0 and 1."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def resampled_quantile(ordered: Sequence[float], q: float, seed: str, resamples: int = RESAMPLES) -> list[float] | None:
    """That quantile of each of so many resamples of the samples. None where the quantile has no interval either."""
    n, k = len(ordered), rank(len(ordered), q)
    if _interval_ranks(n, q, LEVEL) is None:
        return None
    beta = random.Random(seed).betavariate
    return [ordered[min(n - 1, int(n * beta(k, n + 1 - k)))] for _ in range(resamples)]


def resampled_rate(ended: Sequence[float], rate: float, seed: str, resamples: int = RESAMPLES) -> list[float] | None:
    """The rate of each of so many resamples of a phase: `rate` is what was measured, `ended` when its operations ended, in
    seconds from any moment. None below FEWEST_COMPLETIONS, or when all ended at once. With few completions the interval is
    somewhat short: it then holds in nine of ten runs."""
    ordered = sorted(ended)
    gaps = [after - before for before, after in zip(ordered, ordered[1:], strict=False)]
    n, total = len(gaps), sum(gaps)
    if n + 1 < FEWEST_COMPLETIONS or total <= 0:
        return None
    block = math.isqrt(n)
    sums, running = [], sum(gaps[:block])
    for first in range(n):  # blocks go round the end: each gap is then in as many of them
        sums.append(running)
        running += gaps[(first + block) % n] - gaps[first]
    blocks = round(n / block) - 1  # as many as there are would say too little of how a rate varies: the sample is its own mean
    expected = blocks * block * total / n
    choices = random.Random(seed).choices
    return [rate * expected / max(sum(choices(sums, k=blocks)), 1e-12) for _ in range(resamples)]


def percentile_interval(resampled: Sequence[float] | None, level: float = LEVEL) -> Interval | None:
    """What the middle of the resamples covers."""
    if not resampled:
        return None
    ordered, tail = sorted(resampled), (1 - level) / 2
    last = len(ordered) - 1
    return Interval(ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)])


def ratio_interval(over: Sequence[float] | None, under: Sequence[float] | None, level: float = LEVEL) -> Interval | None:
    """Of a ratio whose two sides were measured apart, from as many resamples of each."""
    if not over or not under:
        return None
    return percentile_interval([a / b if b else math.inf for a, b in zip(over, under, strict=True)], level)


def share_interval(successes: int, attempts: int) -> Interval | None:
    """Of a share (Wilson's score interval): of 512 successes in 512 attempts it begins at 99.3 %, which is what they show."""
    if attempts <= 0:
        return None
    z2 = 1.959963984540054**2
    share, n = successes / attempts, attempts
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach)))
