"""Pure functions on the bytes of a file: numbering, replacing, inserting. No sandbox, no I/O.

A line is what ends in a line feed; a carriage return before it belongs to the line.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ToolError", "cap", "insert", "line_range", "numbered", "replace_once", "split_lines"]

# Places named when a text occurs more than once.
_PLACES = 10


class ToolError(Exception):
    """A call that could not be carried out; the message is for the model."""


def cap(text: str, limit: int, *, dropped_bytes: int = 0) -> str:
    """`text` cut to `limit` characters: its head, its tail, and between them a line that tells what is gone.

    `dropped_bytes`: what the sandbox has already left out of the middle.
    """
    if len(text) <= limit and not dropped_bytes:
        return text
    keep = min(limit, len(text))
    head, tail = text[: keep - keep // 2], text[len(text) - keep // 2 :]
    gone = f"{len(text) - keep} characters"
    if dropped_bytes:
        gone += f" and {dropped_bytes} bytes that were not kept"
    return f"{head}\n[... {gone} left out here ...]\n{tail}"


def split_lines(data: bytes) -> list[bytes]:
    """The lines of `data` without their line feeds; a last line may lack one in the file."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def line_range(view_range: Sequence[int] | None, count: int) -> tuple[int, int]:
    """First and last line to show, from 1 and inclusive, of a file of `count` lines; -1 means its end."""
    if view_range is None:
        return 1, count
    if len(view_range) != 2:
        raise ToolError(f"view_range takes two integers, [first, last], not {len(view_range)}")
    first, last = view_range
    if not 1 <= first <= max(count, 1):
        raise ToolError(f"view_range begins at line {first}, but the file's lines are 1 to {count}")
    if last != -1 and last < first:
        raise ToolError(f"view_range ends at line {last}, before it begins ({first}); -1 means the last line")
    return first, count if last == -1 else min(last, count)


def numbered(lines: Sequence[bytes], first: int, last: int) -> str:
    """Lines `first` to `last` as `cat -n` shows them; bytes that are not UTF-8 appear as U+FFFD."""
    shown = enumerate(lines[first - 1 : last], first)
    return "\n".join(f"{number:6}\t{line.decode('utf-8', 'replace')}" for number, line in shown)


def replace_once(data: bytes, old: bytes, new: bytes) -> tuple[bytes, int]:
    """`data` with its only `old` replaced, and the offset of it. Raises ToolError unless there is one."""
    if not old:
        raise ToolError("old_str is empty")
    if old == new:
        raise ToolError("old_str and new_str are the same; nothing was changed")
    at = data.find(old)
    if at < 0:
        raise ToolError("old_str does not occur in the file; nothing was changed" + _why_not_found(data, old))
    if data.find(old, at + 1) >= 0:
        lines = _places(data, old)
        more = " and further on" if len(lines) == _PLACES else ""
        count = max(data.count(old), 2)  # count() misses occurrences that overlap
        raise ToolError(
            f"old_str occurs {count} times, at lines {', '.join(map(str, lines))}{more}; nothing was changed."
            " Add lines around it until it is unique."
        )
    return data[:at] + new + data[at + len(old) :], at


def insert(data: bytes, after: int, text: bytes) -> bytes:
    """`data` with `text` as whole lines after line `after`; 0 puts it before the first.

    A line end is added to `text` where it lacks one, except at the end of a file whose last line has none.
    Raises ToolError when `after` is no line of the file.
    """
    lines = split_lines(data)
    if not 0 <= after <= len(lines):
        raise ToolError(f"insert_line is {after}, but with {len(lines)} lines it can be 0 to {len(lines)}")
    at = sum(len(line) + 1 for line in lines[:after])
    end = _line_end(data, at)
    if at > len(data):  # after a last line without an end: that end comes now, and the new last line has none
        return data + end + text
    if not text.endswith(b"\n"):
        text += end
    return data[:at] + text + data[at:]


def _line_end(data: bytes, at: int) -> bytes:
    """How the line before `at` ends, or else the one after it."""
    feed = data.rfind(b"\n", 0, at)
    if feed < 0:
        feed = data.find(b"\n", at)
    return b"\r\n" if feed > 0 and data[feed - 1 : feed] == b"\r" else b"\n"


def _why_not_found(data: bytes, old: bytes) -> str:
    if b"\r\n" in data and b"\n" in old and old.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") in data:
        return ": the file's lines end in \\r\\n, so write \\r\\n in old_str and new_str too"
    if old.strip() and old.strip() in data:
        return ": it does without the white space at its ends"
    return ""


def _places(data: bytes, old: bytes) -> list[int]:
    """The lines on which the first few occurrences of `old` begin."""
    lines: list[int] = []
    at, line = data.find(old), 1
    counted = 0
    while at >= 0 and len(lines) < _PLACES:
        line += data.count(b"\n", counted, at)
        counted = at
        lines.append(line)
        at = data.find(old, at + 1)
    return lines
