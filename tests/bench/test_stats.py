"""Intervals that hold as often as they say, and ratios that are right; the randomness has seeds, so these never flicker."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisrt.bench import stats
from lisrt.bench.stats import (
    Interval,
    percentile_interval,
    quantile,
    quantile_interval,
    ratio_interval,
    share_interval,
)

SAMPLES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300)


@given(SAMPLES, st.sampled_from([0.5, 0.95, 0.99]))
def test_an_interval_of_a_quantile_has_the_quantile_in_it(samples: list[float], q: float) -> None:
    """Its ends are samples; it says nothing where it can't."""
    ordered = sorted(samples)
    interval = quantile_interval(ordered, q)
    if interval is not None:
        assert interval.low <= (quantile(ordered, q) or 0) <= interval.high
        assert interval.low in ordered and interval.high in ordered
        wider = quantile_interval(ordered, q, 0.8)
        assert wider is not None and interval.low <= wider.low and wider.high <= interval.high


@pytest.mark.parametrize(("q", "fewest"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_how_many_samples_a_quantile_takes(q: float, fewest: int) -> None:
    """By hand: the chance that all of n samples lie on one side, at most a fortieth. For p95 0.95 ** 72 is the first below."""
    assert max(q, 1 - q) ** fewest <= 0.025 < max(q, 1 - q) ** (fewest - 1)
    assert quantile_interval(range(fewest - 1), q) is None
    assert quantile_interval(range(fewest), q) is not None


def test_ranks_that_tables_have() -> None:
    """Of a median: textbooks (Conover; Hahn and Meeker) have the 2nd and 9th of 10, the 6th and 15th of 20, the 40th and 61st
    of 100."""
    for n, low, high in ((10, 2, 9), (20, 6, 15), (100, 40, 61)):
        assert quantile_interval(range(1, n + 1), 0.5) == Interval(low, high)


@pytest.mark.parametrize(("n", "q"), [(12, 0.5), (60, 0.5), (120, 0.95)])
def test_an_interval_of_a_quantile_covers(n: int, q: float) -> None:
    """In at least 95 % of runs, of a distribution with a long tail; with a thousand runs the count may be 1.5 % off."""
    draw, truth = random.Random(5), math.exp(0.8 * (0.0 if q == 0.5 else 1.6448536269514722))
    held = 0
    for _ in range(1000):
        interval = quantile_interval(sorted(draw.lognormvariate(0, 0.8) for _ in range(n)), q)
        assert interval is not None
        held += interval.low <= truth <= interval.high
    assert held >= 935


@pytest.mark.parametrize(("mine", "theirs"), [(10, 30), (40, 40), (200, 25)])
def test_an_interval_of_a_ratio_covers(mine: int, theirs: int) -> None:
    """Of two medians, 1 and 2, whose distributions differ: as often as it says, within what 500 runs can tell."""
    draw, held = random.Random(11), 0
    for run in range(500):
        over = sorted(draw.lognormvariate(0, 0.5) for _ in range(mine))
        under = sorted(2 * draw.lognormvariate(0, 0.9) for _ in range(theirs))
        sides = [stats.resampled_quantile(side, 0.5, f"{run}/{number}", 400) for number, side in enumerate((over, under))]
        interval = ratio_interval(*sides)
        assert interval is not None
        held += interval.low <= 0.5 <= interval.high
    assert 460 <= held <= 495


@pytest.mark.parametrize(("completions", "at_least"), [(26, 355), (100, 360), (500, 370)])
def test_an_interval_of_a_rate_covers(completions: int, at_least: int) -> None:
    """Completions at random, one a second on average: nearly as often as it says when there are few, as its docstring owns."""
    draw, held = random.Random(3), 0
    for run in range(400):
        clock, ended = 0.0, []
        for _ in range(completions):
            clock += draw.expovariate(1)
            ended.append(clock)
        interval = percentile_interval(stats.resampled_rate(ended, completions / clock, str(run), 400))
        assert interval is not None
        held += interval.low <= 1 <= interval.high
    assert at_least <= held <= 396


def test_the_short_way_of_resampling_is_the_long_one() -> None:
    """A median of a resample, drawn as one rank, is distributed like that of a resample drawn sample by sample."""
    draw = random.Random(2)
    ordered = sorted(draw.random() for _ in range(25))
    short = stats.resampled_quantile(ordered, 0.5, "s", 20_000) or []
    long = [sorted(draw.choices(ordered, k=25))[12] for _ in range(20_000)]
    for value in ordered[6:19]:
        share = [sum(one <= value for one in many) / 20_000 for many in (short, long)]
        assert abs(share[0] - share[1]) < 0.02


@given(SAMPLES, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(samples: list[float], shuffler: random.Random) -> None:
    """Nor does anything but the seed."""
    shuffled = samples[:]
    shuffler.shuffle(shuffled)
    once, again = (stats.resampled_quantile(sorted(one), 0.5, "seed", 50) for one in (samples, shuffled))
    assert once == again
    assert stats.resampled_rate(samples, 1.0, "seed", 50) == stats.resampled_rate(shuffled, 1.0, "seed", 50)
    if once is not None and len(set(samples)) > 20:
        assert once != stats.resampled_quantile(sorted(samples), 0.5, "another", 50)


@given(st.lists(st.floats(0.1, 1e3), min_size=6, max_size=80), st.floats(0.1, 10))
def test_a_ratio_scales_with_its_sides(samples: list[float], factor: float) -> None:
    """Twice the time is twice the ratio, at both ends; a ratio with itself has 1 in it."""
    ordered = sorted(samples)
    resampled = [stats.resampled_quantile(ordered, 0.5, seed, 60) or [] for seed in ("a", "b")]
    plain, scaled = ratio_interval(*resampled), ratio_interval([factor * value for value in resampled[0]], resampled[1])
    assert plain is not None and scaled is not None
    assert math.isclose(scaled.low, factor * plain.low) and math.isclose(scaled.high, factor * plain.high)
    assert plain.low <= plain.high


def test_a_steady_rate_has_no_width() -> None:
    """Completions as regular as a clock: the rate and nothing else. Too few, or all at once: no interval."""
    interval = percentile_interval(stats.resampled_rate([number / 10 for number in range(100)], 10.0, "s"))
    assert interval is not None
    assert math.isclose(interval.low, 10, rel_tol=1e-9) and math.isclose(interval.high, 10, rel_tol=1e-9)
    assert stats.resampled_rate([0.1 * number for number in range(stats.FEWEST_COMPLETIONS - 1)], 10.0, "s") is None
    assert stats.resampled_rate([1.0] * 100, 10.0, "s") is None


def test_completions_that_come_together_make_a_rate_less_sure() -> None:
    """Bursts of ten are a tenth as many events: the same rate, a wider interval. Gaps taken one by one would not see it."""
    draw = random.Random(8)
    widths = []
    for burst in (1, 10):
        clock, ended = 0.0, []
        for _ in range(400 // burst):
            clock += draw.expovariate(1 / burst)
            ended += [clock + 1e-6 * number for number in range(burst)]
        interval = percentile_interval(stats.resampled_rate(ended, 1.0, "s"))
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[1] > 1.5 * widths[0]


def test_shares() -> None:
    """Wilson's interval, by his own formula: 0 of 10 is at most 27.8 %, 512 of 512 at least 99.26 %."""
    none, all_of_them = share_interval(0, 10), share_interval(512, 512)
    assert none is not None and none.low == 0 and round(none.high, 3) == 0.278
    assert all_of_them is not None and all_of_them.high == 1 and round(all_of_them.low, 4) == 0.9926
    assert share_interval(0, 0) is None


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_share_lies_in_its_interval(successes: int, failures: int) -> None:
    """And more attempts make it narrower."""
    attempts = successes + failures
    interval = share_interval(successes, attempts)
    if interval is not None:
        assert 0 <= interval.low <= successes / attempts <= interval.high <= 1
        more = share_interval(4 * successes, 4 * attempts)
        assert more is not None and more.high - more.low < interval.high - interval.low


def test_ten_thousand_samples() -> None:
    """What a long run has: the figures of thousands of samples are as many, and ordered."""
    draw = random.Random(1)
    ordered = sorted(draw.lognormvariate(0, 1) for _ in range(10_000))
    low, middle, high = (quantile_interval(ordered, q) for q in (0.5, 0.95, 0.99))
    assert low is not None and middle is not None and high is not None
    ends = [low.low, low.high, middle.low, middle.high, high.low, high.high]
    assert all(before < after for before, after in pairwise(ends))
    assert abs(low.low - 1) < 0.05 and abs(low.high - 1) < 0.05
