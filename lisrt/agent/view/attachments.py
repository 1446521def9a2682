"""The files of an episode, as a page may hold them. Programs of a sandbox have made them: no link is followed, nothing but
regular files is opened, and nothing is larger than it may be."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lisrt.agent.view.words import bytes_of
from lisrt.kernel import native

__all__ = ["Attachment", "Room", "attachments"]

MAX_IMAGE = 5 << 20
MAX_TEXT = 256 << 10
MAX_ALL = 50 << 20
MAX_NAMED = 2000

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Room:
    """How many bytes of files a page may still take, and how many names."""

    bytes: int = MAX_ALL
    names: int = MAX_NAMED


@dataclass(frozen=True)
class Attachment:
    """One file, or what else was found."""

    name: str
    """Its path below the directory; may hold anything that a file's name can."""
    size: int | None
    """Bytes; None for what is no file."""
    kind: str = ""
    """The media type of an image, "text", or "" where there is no content here."""
    content: bytes = b""
    why: str = ""
    """Why there is no content, in words."""


def attachments(directory: Path, room: Room) -> Iterator[Attachment]:
    """What lies in the directory and below, by names. `room` is used up; what has no room is named, and then counted."""
    try:
        top = os.open(directory, _OPEN | os.O_DIRECTORY)
    except OSError as error:
        yield Attachment("files", None, why=f"can't be opened: {error.strerror}")
        return
    left_out = 0
    try:
        for name in _walk(top):
            if room.names > 0:
                room.names -= 1
                yield _read(top, name, room)
            else:
                left_out += 1
    finally:
        os.close(top)
    if left_out:
        yield Attachment(f"{left_out:,} more", None, why="not listed")


def _walk(top: int) -> Iterator[bytes]:
    """All but directories that can be looked into. Their depth costs no recursion, and no descriptors."""
    pending = [b""]
    while pending:
        place = pending.pop()
        if place:
            try:
                fd = native.open_beneath(top, place, _OPEN | os.O_DIRECTORY)
            except OSError:
                yield place  # gone, not ours, or its path is too long: _read says it
                continue
        else:
            fd = os.dup(top)
        inside = []
        try:
            with os.scandir(fd) as entries:
                found = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
        finally:
            os.close(fd)
        for name, is_directory in found:
            path = place + b"/" + name if place else name
            if is_directory:
                inside.append(path)
            else:
                yield path
        pending += reversed(inside)


def _read(top: int, name: bytes, room: Room) -> Attachment:
    shown = os.fsdecode(name)
    try:
        fd = native.open_beneath(top, name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            why = _why_not(mode, fd)
        finally:
            os.close(fd)
        if why:
            return Attachment(shown, None, why=why)
        fd = native.open_beneath(top, name, _OPEN)
    except OSError as error:
        return Attachment(shown, None, why=f"can't be opened: {error.strerror}")
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if why := _why_not(status.st_mode, fd):  # it was another one a moment ago
            return Attachment(shown, None, why=why)
        return _content(shown, file, status.st_size, room)


def _why_not(mode: int, fd: int) -> str:
    """Why it is not read; "" for a file."""
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISLNK(mode):
        return f"a link to {os.fsdecode(os.readlink('', dir_fd=fd))}"
    return "a directory that can't be opened" if stat.S_ISDIR(mode) else "neither a file nor a link"


def _content(name: str, file: BinaryIO, size: int, room: Room) -> Attachment:
    start = file.read(4096)
    kind = _image(name, start)
    limit = MAX_IMAGE if kind else MAX_TEXT
    if not kind and not _is_text(start):
        return Attachment(name, size, why="not shown: neither an image nor a text")
    data = start + file.read(max(limit + 1 - len(start), 0))
    if len(data) > limit:
        return Attachment(name, size, why=f"not shown: larger than {bytes_of(limit)}")
    if not kind and not _is_text(data, whole=True):
        return Attachment(name, size, why="not shown: neither an image nor a text")
    if len(data) > room.bytes:
        return Attachment(name, size, why=f"not shown: this page holds {bytes_of(MAX_ALL)} of files already")
    room.bytes -= len(data)
    return Attachment(name, size, kind or "text", data)


def _image(name: str, data: bytes) -> str:
    """By what it begins with. A drawing is text: there the name has a say, too."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if name.lower().endswith(".svg") and b"<svg" in data[:4096] else ""


def _is_text(data: bytes, *, whole: bool = False) -> bool:
    """UTF-8 without NUL; of a file's beginning the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, whole)
    except UnicodeDecodeError:
        return False
    return b"\0" not in data
