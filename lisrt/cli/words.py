"""Numbers and rows as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def size(count: int) -> str:
    """Bytes: `12 KiB`, `1.5 GiB`."""
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} {unit}" if unit in ("B", "KiB") else f"{number:.1f} {unit}"


def count(number: int, thing: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, each column as wide as its widest."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def printable(text: str) -> str:
    """What strangers wrote, such as a tag, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
