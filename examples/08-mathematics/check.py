"""Counting numbers digit by digit, with what is left of them after division: no number is ever looked at."""

import re
from collections import Counter
from pathlib import Path


def counted(digits: int) -> int:
    """Of the numbers with so many digits: those with as many odd as even ones that 7 divides."""
    states: Counter[tuple[int, int]] = Counter()
    for digit in range(1, 10):
        states[digit % 7, 1 if digit % 2 else -1] += 1
    for _ in range(digits - 1):
        longer: Counter[tuple[int, int]] = Counter()
        for (rest, surplus), count in states.items():
            for digit in range(10):
                longer[(10 * rest + digit) % 7, surplus + (1 if digit % 2 else -1)] += count
        states = longer
    return states[0, 0]


def check(answer: str | None, files: Path) -> None:
    expected = sum(counted(digits) for digits in range(1, 7)) % 1000
    boxed = re.findall(r"\\boxed\{\s*(\d{1,3})\s*\}", answer or "")
    assert boxed, f"there is no \\boxed{{integer}} in the answer {answer!r}"
    assert int(boxed[-1]) == expected, f"the answer is {expected}, not {boxed[-1]}"
