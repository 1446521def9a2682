"""Text and numbers of strangers as people may see them."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lisrt.agent.tools.edits import cut

__all__ = [
    "amount", "bytes_of", "dumped", "first_line", "items", "listing", "mapping", "moment", "moved", "number", "pieces", "seconds",
    "shortened", "text_of", "tokens", "visible", "whole",
]  # fmt: skip

_ODD = re.compile(r"[^\n\t -~]+")
#: Joiners of emoji and of scripts that need them: they stand between letters and hide nothing.
_JOINERS = "\u200c\u200d"


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """`text` in pieces, each with whether it stands for characters that are not to be seen as they are.

    Those are what a terminal obeys (ESC, a carriage return), what turns the order of text around or can't be seen (U+202E, a
    zero-width space), and halves of surrogate pairs, which no file can hold. They are written as in a Python string: \\x1b.
    """
    at = 0
    for run in _ODD.finditer(text):
        if run[0].isprintable():
            continue
        for place, letter in enumerate(run[0], run.start()):
            if not _is_shown(letter):
                if at < place:
                    yield text[at:place], False
                yield _escaped(letter), True
                at = place + 1
    if at < len(text):
        yield text[at:], False


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs"


def _escaped(letter: str) -> str:
    if letter == "\r":
        return "\\r"
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str) -> str:
    """The same as one string."""
    return "".join(piece for piece, _ in pieces(text))


def first_line(text: str, most: int = 120) -> str:
    """The first line that says something, without what is hard to see, cut to so many characters."""
    line = next((line.strip() for line in text[: 40 * most].splitlines() if line.strip()), "")
    line = visible(" ".join(line[: 2 * most].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shortened(text: str, limit: int | None, lines: int | None = None) -> tuple[str, str, str]:
    """Head, a note on what is left out after it, and tail; all in the head where `text` is no longer than that."""
    if limit is None:
        return text, "", ""
    head, tail = cut(text, limit, lines)
    if head == tail:
        return text, "", ""
    gone = text[head:tail]
    count = gone.count("\n")
    return text[:head], f"{count:,} lines" if count > 1 else f"{len(gone):,} characters", text[tail:]


# What a record holds may be anything: it is asked for with its type.


def text_of(value: Any) -> str:
    """A text, or what else stands there as JSON; nothing for null."""
    return value if isinstance(value, str) else "" if value is None else dumped(value)


def dumped(value: Any) -> str:
    """JSON that people can read."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=1)
    except RecursionError:
        return "(nested too deeply to be shown)"


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int:
    """A count; 0 for what is none."""
    found = number(value)
    return int(found) if found is not None and 0 <= found < 1 << 63 else 0


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list; an empty one for what is none."""
    return value if isinstance(value, list) else []


# Numbers for people


def seconds(value: Any) -> str:
    """`0.04 s`, `12.3 s`, `2 min 5 s`, `1 h 2 min`; nothing for what is no number."""
    found = number(value)
    if found is None or found < 0:
        return ""
    if found < 99.95:
        return f"{found:.2f} s" if found < 1 else f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def bytes_of(value: Any) -> str:
    """`12 B`, `3 KiB`, `1.5 GiB`."""
    found, unit = float(whole(value)), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if found < 1024:
            break
        found, unit = found / 1024, larger
    return f"{found:.0f} {unit}" if unit in ("B", "KiB") else f"{found:.1f} {unit}"


def tokens(usage: Mapping[str, Any]) -> str:
    """`1,200 read (800 cached), 90 written (50 thought)`; nothing where the server has counted none."""
    read, written = whole(usage.get("prompt")), whole(usage.get("completion"))
    if not read and not written:
        return ""
    cached, thought = whole(usage.get("cached")), whole(usage.get("reasoning"))
    words = f"{read:,} read{f' ({cached:,} cached)' if cached else ''}, {written:,} written"
    return words + (f" ({thought:,} thought)" if thought else "")


def amount(count: int, thing: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def moment(value: Any) -> str:
    """A record's time as `2026-01-31 12:00:05 UTC`; whatever else stands there, as it is."""
    try:
        found = datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return text_of(value)
    return found.strftime("%Y-%m-%d %H:%M:%S UTC")


def listing(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is set of some settings, as rows."""
    return [
        (first_line(name.replace("_", " "), 40), text_of(value))
        for name, value in values.items()
        if value not in (None, {}, [], "")
    ]


def moved(transfer: Mapping[str, Any]) -> str:
    """A download or an upload: `2 files, 3 KiB; left out: socket`."""
    words = f"{amount(whole(transfer.get('files')), 'file')}, {bytes_of(transfer.get('bytes'))}"
    skipped = [text_of(one) for one in items(transfer.get("skipped"))]
    return f"{words}; left out: {', '.join(skipped[:20])}{', …' if len(skipped) > 20 else ''}" if skipped else words
