"""A layer's tree, looked at by descriptor: it may be the work of programs in a sandbox, and no link in it is followed."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from lisrt.kernel import native
from lisrt.store.unpack import OPAQUE_ATTRIBUTE

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Lifted:
    """A directory that its owner may not read or enter, and may for now."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        """As it was."""
        self.users = 0


_lifted: dict[tuple[int, int], _Lifted] = {}
"""By device and inode: threads look at the same frozen layers at once, and the last one puts the mode back."""
_lock = threading.Lock()


def mode_of(status: os.stat_result) -> int:
    """Permission bits as whoever made the file set them."""
    found = _lifted.get((status.st_dev, status.st_ino)) if stat.S_ISDIR(status.st_mode) else None
    return found.mode if found else stat.S_IMODE(status.st_mode)


class Tree:
    """The directories of a tree, opened one at a time, however deep they lie.

    One that its owner may not read or enter is lifted as long as the tree is open. Root in a sandbox has no power over modes
    either, so nobody but a program that has set such a mode itself could notice.
    """

    def __init__(self, path: str) -> None:
        self._held: dict[tuple[int, int], str] = {}
        holder = os.open(path, _NAME)
        try:
            self._lift(holder, "")
            self._fd = os.open(f"/proc/self/fd/{holder}", _DIRECTORY & ~os.O_NOFOLLOW)
        finally:
            os.close(holder)

    @contextlib.contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """A descriptor of a directory, by its path from the top; "" is the top. OSError."""
        fd = self._open(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def close(self) -> None:
        """Puts back what was lifted, what is inside first."""
        try:
            for key, path in sorted(self._held.items(), key=lambda item: item[1], reverse=True):
                with contextlib.suppress(OSError), self.directory(path) as fd:  # it has gone meanwhile
                    status = os.fstat(fd)
                    if (status.st_dev, status.st_ino) == key:
                        self._put_back(fd, key)
                        continue
                self._forget(key)
        finally:
            os.close(self._fd)

    def _open(self, path: str) -> int:
        raw = os.fsencode(path) or b"."
        with contextlib.suppress(PermissionError):
            fd = native.open_beneath(self._fd, raw, _DIRECTORY)
            if self._lift(fd, path, only_join=True):
                return fd
            os.close(fd)  # it can be listed, and nothing in it looked at
        parts = path.split("/") if path else []
        for count in range(len(parts) + 1):
            above = "/".join(parts[:count])
            holder = native.open_beneath(self._fd, os.fsencode(above) or b".", _NAME)
            try:
                self._lift(holder, above)
            finally:
                os.close(holder)
        return native.open_beneath(self._fd, raw, _DIRECTORY)

    def _lift(self, holder: int, path: str, *, only_join: bool = False) -> bool:
        """Sees to it that a directory stays readable as long as this tree is open. False: it is not, and only_join."""
        with _lock:  # others lift and put back at the same time
            status = os.fstat(holder)
            key = status.st_dev, status.st_ino
            if key in self._held or (status.st_mode & 0o500 == 0o500 and key not in _lifted):
                return True
            if key not in _lifted and only_join:
                return False
            if key not in _lifted:
                os.chmod(f"/proc/self/fd/{holder}", stat.S_IMODE(status.st_mode) | 0o700)  # fchmod refuses O_PATH
                _lifted[key] = _Lifted(stat.S_IMODE(status.st_mode))
            _lifted[key].users += 1
            self._held[key] = path
            return True

    def _put_back(self, fd: int, key: tuple[int, int]) -> None:
        with _lock:
            found = _lifted[key]
            found.users -= 1
            if found.users:
                return
            del _lifted[key]
            if stat.S_IMODE(os.fstat(fd).st_mode) == found.mode | 0o700:  # else a program has set another one meanwhile
                os.fchmod(fd, found.mode)

    def _forget(self, key: tuple[int, int]) -> None:
        with _lock:
            found = _lifted.get(key)
            if found is not None:
                found.users -= 1
                if not found.users:
                    del _lifted[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def is_opaque(fd: int) -> bool:
    """Whether a directory of a layer hides what is below it."""
    try:
        return os.getxattr(fd, OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it stands for a name that is gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def joined(path: str, name: str) -> str:
    """The path of a name in a directory of a tree."""
    return f"{path}/{name}" if path else name
