"""Pure functions on the bytes of a file: numbering, replacing, inserting. No sandbox, no I/O.

A line is what ends in a line feed; a carriage return before it belongs to the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from lisrt.agent.tools.observation import ToolError

__all__ = ["Edit", "cap", "cut", "insert", "line_range", "numbered", "replace_once", "split_lines"]

# Places named when a text occurs more than once.
_PLACES = 10


@dataclass(frozen=True)
class Edit:
    """One change of a file's bytes, and how to take it back: at `at`, `old` was replaced by `size` bytes."""

    at: int
    old: bytes
    size: int
    after: bytes
    """SHA-256 of the whole file after it."""
    created: bool = False

    @classmethod
    def of(cls, edited: bytes, at: int, old: bytes, new: bytes, *, created: bool = False) -> Edit:
        """The one that has led to `edited`."""
        return cls(at, old, len(new), sha256(edited).digest(), created)

    def undone(self, data: bytes) -> bytes:
        """The bytes before it. Raises ToolError when `data` is not what it had left."""
        if sha256(data).digest() != self.after:
            raise ToolError("the file has been changed by other means since its last edit; nothing was undone")
        return data[: self.at] + self.old + data[self.at + self.size :]


def cut(text: str, limit: int, lines: int | None = None) -> tuple[int, int]:
    """Where the head ends and the tail begins of what is kept of `text`: the same place where all of it is.

    Head and tail together have at most `limit` characters, and at most `lines` lines.
    """
    head, tail = len(text), 0
    if len(text) > limit:
        head, tail = limit - limit // 2, len(text) - limit // 2
    if lines is not None and text.count("\n") >= lines:
        head = min(head, _after_lines(text, lines - lines // 2))
        tail = max(tail, _before_lines(text, lines // 2))
    return (head, tail) if head < tail else (len(text), len(text))


def _after_lines(text: str, count: int) -> int:
    at = -1
    for _ in range(count):
        at = text.find("\n", at + 1)
        if at < 0:
            return len(text)
    return at + 1


def _before_lines(text: str, count: int) -> int:
    end = len(text) - 1 if text.endswith("\n") else len(text)
    for _ in range(count):
        end = text.rfind("\n", 0, end)
        if end < 0:
            return 0
    return end + 1 if count else len(text)


def cap(text: str, limit: int, *, lines: int | None = None, dropped_bytes: int = 0) -> str:
    """`text` cut to `limit` characters and `lines` lines: head, tail, and between them a line that tells what is gone.

    `dropped_bytes`: what the sandbox has already left out of the middle.
    """
    head, tail = cut(text, limit, lines)
    if head == tail:
        if not dropped_bytes:
            return text
        head = tail = len(text) - len(text) // 2
    gone = f"{tail - head} characters"
    if dropped_bytes:
        gone += f" and {dropped_bytes} bytes that were not kept"
    feed = "" if text[:head].endswith("\n") else "\n"
    return f"{text[:head]}{feed}[... {gone} left out here ...]\n{text[tail:]}"


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


def insert(data: bytes, after: int, text: bytes) -> tuple[bytes, int]:
    """`data` with `text` as whole lines after line `after`, 0 being before the first; and the offset of what is new.

    A line end is added to `text` where it lacks one, except at the end of a file whose last line has none.
    Raises ToolError when `after` is no line of the file.
    """
    lines = split_lines(data)
    if not 0 <= after <= len(lines):
        raise ToolError(f"insert_line is {after}, but with {len(lines)} lines it can be 0 to {len(lines)}")
    at = sum(len(line) + 1 for line in lines[:after])
    end = _line_end(data, at)
    if at > len(data):  # after a last line without an end: that end comes now, and the new last line has none
        return data + end + text, len(data)
    if not text.endswith(b"\n"):
        text += end
    return data[:at] + text + data[at:], at


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
