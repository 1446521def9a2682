"""What Debian's files say: control paragraphs, versions, dependencies, and the .deb itself."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import zip_longest
from pathlib import Path
from typing import IO

from lisrt.errors import ImageError
from lisrt.store.archive import decompressed

_DEPENDENCY = re.compile(r"\s*([a-z0-9][a-z0-9.+-]*)(?::([a-z0-9-]+))?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?")
# they become parts of paths, and lines of apt's and dpkg's files
_SHAPES = {
    "Package": re.compile(r"[a-z0-9][a-z0-9+.-]+"),
    "Version": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~-]*"),
    "Architecture": re.compile(r"[a-z0-9][a-z0-9-]*"),
}
_PIECES = re.compile(r"(\D*)(\d*)")
_AR_HEADER = 60


@dataclass(frozen=True, slots=True)
class Wanted:
    """One alternative of a dependency."""

    name: str
    relation: str = ""
    """"" or one of << <= = >= >>."""
    version: str = ""

    def admits(self, version: str) -> bool:
        """Whether that version will do."""
        if not self.relation:
            return True
        order = compare(version, self.version)
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[self.relation]


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file; a field's further lines stay as they are."""
    for block in text.split("\n\n"):
        if block.strip():
            yield fields(block)


def fields(paragraph: str) -> dict[str, str]:
    """Field names and values. A line that is none is left out."""
    found: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line[:1] in (" ", "\t"):
            if name:
                found[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            found[name] = value.strip()
    return found


def require_shapes(paragraph: Mapping[str, str]) -> None:
    """That a package's name, version and architecture are of the letters that Debian has for them. ImageError."""
    for name, shape in _SHAPES.items():
        value = paragraph.get(name, "")
        if not shape.fullmatch(value):
            raise ImageError(f"a package whose {name} is {value[:100]!r}")


def dependencies(text: str) -> list[list[Wanted]]:
    """A Depends field: all of the groups, and of each group one."""
    groups = []
    for group in text.replace("\n", " ").split(","):
        matches = [_DEPENDENCY.match(one) for one in group.split("|")]
        wanted = [Wanted(match[1], match[3] or "", match[4] or "") for match in matches if match]
        if wanted:
            groups.append(wanted)
    return groups


def compare(one: str, other: str) -> int:
    """Below 0, 0 or above 0, as `one` is the older version, the same, or the newer."""
    for a, b in zip_longest(_version(one), _version(other)):
        order = _compare_part(a, b)
        if order:
            return order
    return 0


by_version = cmp_to_key(compare)


def _version(text: str) -> tuple[str, str, str]:
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "0", text
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "")


def _compare_part(a: str, b: str) -> int:
    """Letters before other characters, `~` before the end; digits as numbers (deb-version(7))."""
    pairs = zip_longest(_PIECES.findall(a), _PIECES.findall(b), fillvalue=("", ""))
    for (x, m), (y, n) in pairs:
        left, right = [*map(_rank, x), 0], [*map(_rank, y), 0]
        order = (left > right) - (left < right) or int(m or 0) - int(n or 0)
        if order:
            return order
    return 0


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


@dataclass(frozen=True, slots=True)
class Control:
    """The control part of a package: its own paragraph, and the scripts and lists beside it."""

    fields: dict[str, str]
    files: dict[str, tuple[int, bytes]]
    """(mode, contents) by name."""


class Package:
    """A .deb file. One that is damaged raises ImageError, or what its compression or tar raise: `archive.naming`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members = _ar_members(path)

    def control(self) -> Control:
        """Its own paragraph, and what is beside it."""
        with self._open("control.tar") as source:
            files = {}
            with tarfile.open(fileobj=source, mode="r|") as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isreg() else None
                    if content is not None and "/" in entry.name.removeprefix("./"):
                        raise ImageError(f"control file {entry.name[:100]!r}")
                    if content is not None:
                        files[entry.name.removeprefix("./")] = (entry.mode & 0o777, content.read())
            _mode, text = files.pop("control", (0, b""))
            made = Control(fields(text.decode()), files)
            require_shapes(made.fields)
            return made

    def contents(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Every entry of what it installs, with the archive to read it from before the next one."""
        with self._open("data.tar") as source:
            with tarfile.open(fileobj=source, mode="r|", errorlevel=2) as tar:
                for entry in tar:
                    tar.members.clear()  # type: ignore[attr-defined]
                    yield tar, entry

    def _open(self, prefix: str) -> IO[bytes]:
        for name, (offset, size) in self._members.items():
            if name.startswith(prefix):
                return decompressed(_Window(self.path, offset, size))  # type: ignore[arg-type]
        raise ImageError(f"it has no {prefix}")


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = open(path, "rb")
        self._offset, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._offset + self._at)
        data = self._file.read(min(len(buffer), self._size - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _ar_members(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of each member, by name."""
    members = {}
    whole = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise ImageError("no Debian package")
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            name = header[:16].decode(errors="replace").strip().rstrip("/")
            size = int(header[48:58])
            members[name] = (file.tell(), size)
            if file.tell() + size > whole:
                raise ImageError("it ends too early")
            file.seek(size + size % 2, 1)
    return members
