"""Layers unpacked, once per host and user, in the base of the scratch directories (kernel/scratch.py).

    BASE/.layers/HEX/           a layer's tree: whole, since it came here by rename
    BASE/.layers/HEX.ok         how many entries it has; see `_is_whole`
    BASE/.layers/HEX.lock       held by one process that unpacks or removes it, or shared by those that look whether it is whole
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

_NEW = ".new-"
_AGAIN = "the damaged file was set aside: import, pull or build the image again"


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
    place.parent.mkdir(mode=0o700, exist_ok=True)
    guard = place.with_suffix(".lock")
    with _guarded(guard, fcntl.LOCK_SH):
        found = _take(place)
    if found is None:
        with _guarded(guard, fcntl.LOCK_EX):
            found = _take(place)  # another process was faster
            if found is None:
                _clear(place)
                _unpack(layer, blobs, place, progress)
                found = _take(place)
    if found is None:
        raise ImageError(f"{place} loses files as soon as it is made: name another $LISRT_SCRATCH")
    return Tree(place, found)


def remove_unused(base: Path, needed: set[str], *, dry_run: bool = False) -> int:
    """Removes trees that nobody uses and whose diff_id is not in `needed`, and half-made ones. Returns how many."""
    removed = 0
    for entry in _entries(base / ".layers"):
        if entry.suffix or f"sha256:{entry.name}" in needed:
            continue
        if entry.name.startswith(_NEW):
            removed += _remove_unused(entry, dry_run)
            continue
        with contextlib.suppress(BlockingIOError):  # somebody is about to use it
            with _guarded(entry.with_suffix(".lock"), fcntl.LOCK_EX | fcntl.LOCK_NB):
                removed += _remove_unused(entry, dry_run)
    return removed


def _remove_unused(entry: Path, dry_run: bool) -> bool:
    lock = _try(entry)
    if lock is None:
        return False
    try:
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):
                entry.with_suffix(".ok").unlink()
            _remove(entry)
        return True
    finally:
        os.close(lock)


def _unpack(layer: LayerRecord, blobs: Blobs, place: Path, progress: Callable[[int], None]) -> None:
    if not blobs.has(layer.blob):
        raise ImageError(f"the store lacks {layer.blob}, which the image needs: import, pull or build the image again")
    new = place.parent / f"{_NEW}{secrets.token_hex(8)}"
    new.mkdir(mode=0o755)
    lock = os.open(new, _DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it is not what a killed process has left
        try:
            made = unpack(blobs.path(layer.blob), new, f"layer {layer.diff_id}", progress, is_ours=True)
            if made.diff_id != layer.diff_id:
                raise ImageError(
                    f"layer {layer.diff_id} in {blobs.path(layer.blob)} has contents of digest {made.diff_id}: damaged"
                )
        except ImageError as error:
            if not blobs.set_aside_if_damaged(layer.blob):
                raise  # no room, say
            raise ImageError(f"{error}; {_AGAIN}") from None
        native.sync_filesystem(lock)  # else a crash could leave files without contents under a name that says "whole"
        place.with_suffix(".ok").write_text(f"{_count(new)}\n")
        os.rename(new, place)
    except BaseException:
        _remove(new)
        raise
    finally:
        os.close(lock)


def _take(place: Path) -> int | None:
    """A shared lock on a tree that is whole; None when there is none. Call it while the guard is held, shared or not."""
    try:
        fd = os.open(place, _DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        if _is_still(place, fd) and _is_whole(place):
            return fd
    except FileNotFoundError:
        pass  # systemd-tmpfiles is at it
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _clear(place: Path) -> None:
    """Removes a tree that is damaged, if nobody uses it. Who has a lock on it does use it: those who look have the guard."""
    try:
        fd = os.open(place, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(place)
    except BlockingIOError:
        raise ImageError(f"{place} has lost files, and programs use it: end them, or name another $LISRT_SCRATCH") from None
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
def _guarded(guard: Path, how: int) -> Iterator[None]:
    """Holds a lock file, which is made; those who clean /tmp may take it away at any time."""
    while True:
        fd = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how)
            if _is_still(guard, fd):
                yield
                return
        finally:
            os.close(fd)


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


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
