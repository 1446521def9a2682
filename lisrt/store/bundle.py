"""Files that hold images: a directory, or a tar archive, whose members are read in any order."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lisrt.errors import ImageError
from lisrt.store import archive
from lisrt.store.blobs import CHUNK
from lisrt.store.manifest import MOST_TEXT

_OURS = re.compile(
    r"blobs|oci-layout|repositories|version|VERSION|(sha256:)?[0-9a-f]{12,64}|[^/]*\.(json|tar|tar\.gz|tgz|zst)"
)
"""First parts of the names in archives of images. A file system has others, and its first entries say so."""
_MOST_MEMBERS = 20_000


class Bundle(Protocol):
    """What images are read from."""

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""

    def size(self, name: str) -> int:
        """Bytes. ImageError: there is none."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """The contents. ImageError: there is none."""


def text(bundle: Bundle, name: str) -> bytes:
    """A small file. ImageError, also where it is large."""
    if bundle.size(name) > MOST_TEXT:
        raise ImageError(f"{name} has more than {MOST_TEXT >> 20} MiB")
    return b"".join(bundle.chunks(name))


class Folder:
    """A directory. Names come from digests, or are our own."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def size(self, name: str) -> int:
        return self._existing(name).stat().st_size

    def chunks(self, name: str) -> Iterator[bytes]:
        with open(self._existing(name), "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def _existing(self, name: str) -> Path:
        if not self.has(name):
            raise ImageError(f"it lacks {name[:200]!r}")
        return self._root / name


@dataclass(slots=True)
class Members:
    """Where the regular files of an archive are, and where its links lead, by their names."""

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Offset and size."""
    links: dict[str, str] = field(default_factory=dict)


class Archive:
    """An uncompressed archive, by the table of its members."""

    def __init__(self, path: Path, members: Members) -> None:
        self._path = path
        self._members = members

    def has(self, name: str) -> bool:
        return self._target(name) in self._members.files

    def size(self, name: str) -> int:
        return self._found(name)[1]

    def chunks(self, name: str) -> Iterator[bytes]:
        offset, size = self._found(name)
        with open(self._path, "rb") as file:
            file.seek(offset)
            while size > 0 and (chunk := file.read(min(size, CHUNK))):
                size -= len(chunk)
                yield chunk

    def _target(self, name: str) -> str:
        """Docker once saved a layer that it had saved before as a link to that."""
        link = self._members.links.get(name)
        return name if link is None else posixpath.normpath(link)

    def _found(self, name: str) -> tuple[int, int]:
        found = self._members.files.get(self._target(name))
        if found is None:
            raise ImageError(f"it lacks {name[:200]!r}")
        return found


def members(path: Path) -> Members | None:
    """The table of an archive; None as soon as it looks like that of a file system. ImageError for one that is damaged."""
    found = Members()
    with archive.reading(path, "the archive") as layer:
        for entry in layer.entries():
            name = posixpath.normpath(entry.name).lstrip("/")
            if name == ".":
                continue
            if not _OURS.fullmatch(name.partition("/")[0]):
                return None
            if entry.isreg() and not entry.issparse():
                found.files[name] = (entry.offset_data, entry.size)
            elif entry.issym():
                found.links[name] = posixpath.join(posixpath.dirname(name), entry.linkname)
            elif entry.islnk():
                found.links[name] = entry.linkname
            if len(found.files) + len(found.links) > _MOST_MEMBERS:
                return None
    return found


@contextmanager
def plain(path: Path, place: Path) -> Iterator[Path]:
    """The archive itself, or, where it is compressed, a copy in `place` that is not; gone afterwards."""
    with open(path, "rb") as raw:
        if not archive.compression(raw.read(8)):
            yield path
            return
        copy = place / "archive.tar"
        with archive.naming("the archive"), open(copy, "xb") as file:
            raw.seek(0)
            source = archive.Measured(archive.decompressed(raw), os.fstat(raw.fileno()).st_size)
            while chunk := source.read(CHUNK):
                file.write(chunk)
    yield copy
    copy.unlink()
