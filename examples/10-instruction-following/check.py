"""A text under rules, each of which can be counted."""

import itertools
import re
from pathlib import Path

INITIALS = "BREAD"


def check(answer: str | None, files: Path) -> None:
    text = (answer or "").strip()
    assert text, "there is no text"
    assert "\n" not in text, "it is more than one paragraph"
    sentences = re.findall(r"[^.!?]+[.!?]", text)
    assert "".join(sentences) == text, "it does not end with the end of a sentence"
    assert len(sentences) == len(INITIALS), f"it has {len(sentences)} sentences"
    initials = "".join(sentence.strip()[0] for sentence in sentences)
    assert initials == INITIALS, f"the sentences begin with {initials}"
    lengths = [len(words(sentence)) for sentence in sentences]
    assert all(before < after for before, after in itertools.pairwise(lengths)), f"the sentences have {lengths} words"
    assert 60 <= sum(lengths) <= 80, f"it has {sum(lengths)} words"
    used = [word.lower() for word in words(text)]
    forbidden = [word for word in ("the", "yeast", "gas") if word in used]
    assert not forbidden, f"these words were not to be used: {forbidden}"
    assert used.count("warm") == 2, f"the word warm is used {used.count('warm')} times"
    assert used[-1] == "crumb", f"the last word is {used[-1]}"
    assert text.count(",") == 3, f"it has {text.count(',')} commas"
    numbers = re.findall(r"\d+", text)
    assert len(numbers) == 1, f"the numbers in it are {numbers}"
    assert "bread" in used or "dough" in used, "it speaks of neither bread nor dough"


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)
