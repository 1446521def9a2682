"""Whether sandboxes share their image: how much disk it takes, and how much page cache when all of them read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from lisrt.kernel import native

MOST = 64 << 20
"""Bytes of the file that all of them read, at most."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A file of an image, and what the image takes on this host's disk."""

    disk: int
    """Bytes that its layers take, in their one unpacked copy."""
    file: str
    """Absolute, inside. The largest that is at most MOST."""
    size: int
    place: str
    """On the host."""


def look(layers: tuple[str, ...]) -> Shared | None:
    """None where no file is to be had. Layers are looked at as files of the host, through no link."""
    disk, best, seen = 0, ("", 0, ""), set[tuple[int, int]]()
    for layer in layers:
        for path, status in _files(layer):
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                disk += status.st_blocks * 512
                if stat.S_ISREG(status.st_mode) and best[1] < status.st_size <= MOST and status.st_mode & 0o444:
                    best = (path, status.st_size, os.path.join(layer, path))
    return Shared(disk, f"/{best[0]}", best[1], best[2]) if best[1] else None


def forget(shared: Shared) -> None:
    """Has the kernel drop what it has cached of the file."""
    fd = _opened(shared)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def cached(shared: Shared) -> int:
    """Bytes of the file in the page cache: there is one file, so all that sandboxes have of it."""
    fd = _opened(shared)
    try:
        return native.cached_bytes(fd)
    finally:
        os.close(fd)


def _opened(shared: Shared) -> int:
    return os.open(shared.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _files(top: str) -> Iterator[tuple[str, os.stat_result]]:
    for at, directories, names in os.walk(top):
        for name in directories + names:
            path = os.path.join(at, name)
            yield os.path.relpath(path, top), os.lstat(path)
