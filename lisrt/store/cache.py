"""Layers unpacked, once per host and user, in the base of the scratch directories (kernel/scratch.py).

    BASE/.layers/HEX/           a layer's tree: whole, since it came here by rename
    BASE/.layers/HEX.ok         how many entries it has; see `_is_whole`
    BASE/.layers/HEX.lock       held while one process unpacks it, and others wait
    BASE/.layers/.new-TOKEN/    being unpacked

Whoever uses a tree keeps a shared lock on it; that keeps `remove_unused` from it, and systemd-tmpfiles too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lisrt.errors import ImageError
from lisrt.kernel import native
from lisrt.store.blobs import Blobs
from lisrt.store.record import LayerRecord
from lisrt.store.unpack import unpack

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked layer. `lock` is a descriptor: the tree stays as long as that is open."""

    path: Path
    lock: int


def has(layer: LayerRecord, base: Path) -> bool:
    """Whether a layer is unpacked, as far as can be seen without looking into it."""
    return (base / ".layers" / _hex(layer)).is_dir()


def tree(layer: LayerRecord, blobs: Blobs, base: Path, progress: Callable[[int], None] = lambda _: None) -> Tree:
    """The tree of a layer, unpacked now if it is not there. ImageError; OSError where the base can't be written."""
    place = base / ".layers" / _hex(layer)
    found = _take(place)
    if found is None:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with _alone(place.with_suffix(".lock")):
            found = _take(place)  # another process was faster
            while found is None:
                _unpack(layer, blobs, place, progress)
                found = _take(place)
    return Tree(place, found)


def remove_unused(base: Path, needed: set[str], *, dry_run: bool = False) -> int:
    """Removes trees that nobody uses and whose diff_id is not in `needed`, and half-made ones. Returns how many."""
    removed = 0
    for entry in _entries(base / ".layers"):
        if entry.suffix or f"sha256:{entry.name}" in needed:
            continue
        lock = _try(entry)
        if lock is None:
            continue
        removed += 1
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):
                entry.with_suffix(".ok").unlink()
            _remove(entry)
        os.close(lock)
    return removed


def _unpack(layer: LayerRecord, blobs: Blobs, place: Path, progress: Callable[[int], None]) -> None:
    if not blobs.has(layer.blob):
        raise ImageError(f"the store lacks {layer.blob}, which the image needs: import, pull or build the image again")
    new = place.parent / f".new-{secrets.token_hex(8)}"
    new.mkdir(mode=0o755)
    lock = os.open(new, _DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it is not what a killed process has left
        made = unpack(blobs.path(layer.blob), new, f"layer {layer.diff_id}", progress, is_ours=True)
        if made.diff_id != layer.diff_id:
            raise ImageError(f"layer {layer.diff_id} in {blobs.path(layer.blob)} has contents of digest {made.diff_id}: damaged")
        native.sync_filesystem(lock)  # else a crash could leave files without contents under a name that says "whole"
        place.with_suffix(".ok").write_text(f"{_count(new)}\n")
        os.rename(new, place)
    except BaseException:
        _remove(new)
        raise
    finally:
        os.close(lock)


def _take(place: Path) -> int | None:
    """A shared lock on a tree that is whole; None when there is none. One that is damaged, and in no use, goes."""
    try:
        fd = os.open(place, _DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(fd), os.stat(place)):
            raise FileNotFoundError  # removed while we waited
        if _is_whole(place):
            return fd
    except FileNotFoundError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ImageError(f"{place} has lost files, and programs use it: end them, or name another $LISRT_SCRATCH") from None
    else:
        _remove(place)
        return None
    finally:
        os.close(fd)


def _is_whole(place: Path) -> bool:
    """Some hosts delete old files from /tmp one by one: then it has fewer than it had."""
    try:
        return int(place.with_suffix(".ok").read_text()) == _count(place)
    except (FileNotFoundError, ValueError):
        return False


def _count(root: Path) -> int:
    """How many entries there are below a directory. A path in it may be as long as a path can be, so `root` is not part of it."""
    count, pending = 0, ["."]
    at = os.open(root, _DIRECTORY)
    try:
        while pending:
            path = pending.pop()
            fd = native.open_beneath(at, os.fsencode(path), _DIRECTORY)
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        count += 1
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.name if path == "." else f"{path}/{entry.name}")
            finally:
                os.close(fd)
    finally:
        os.close(at)
    return count


def _try(place: Path) -> int | None:
    """An exclusive lock, if nobody has one; None otherwise."""
    try:
        fd = os.open(place, _DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except BlockingIOError:
        os.close(fd)
        return None


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove(place: Path) -> None:
    at = os.open(place.parent, _DIRECTORY)
    try:
        native.remove_tree(at, place.name)
    finally:
        os.close(at)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def _hex(layer: LayerRecord) -> str:
    return layer.diff_id.removeprefix("sha256:")
