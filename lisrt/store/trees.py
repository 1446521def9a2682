"""A layer's tree, looked at by descriptor: it may be the work of programs in a sandbox, and no link in it is followed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from lisrt.kernel import native
from lisrt.store.unpack import OPAQUE_ATTRIBUTE

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """The directories of a tree, opened one at a time, however deep they lie.

    One that its owner may not read is made readable as long as the tree is open. Root in a sandbox has no power over modes
    either, so nobody but a program that has set such a mode itself could notice.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, _DIRECTORY)
        self._lifted: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """A descriptor of a directory, by its path from the top; "" is the top. OSError."""
        fd = self._open(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def close(self) -> None:
        """Puts back what was lifted."""
        try:
            for path, mode in reversed(self._lifted):
                with contextlib.suppress(OSError), self.directory(path) as fd:  # it has gone meanwhile
                    os.fchmod(fd, mode)
        finally:
            os.close(self._fd)

    def mode(self, path: str, found: int) -> int:
        """The mode of a directory as it was before it was lifted."""
        return next((mode for lifted, mode in self._lifted if lifted == path), stat.S_IMODE(found))

    def _open(self, path: str) -> int:
        raw = os.fsencode(path) or b"."
        try:
            return native.open_beneath(self._fd, raw, _DIRECTORY)
        except PermissionError:
            self._lift(path)
            return native.open_beneath(self._fd, raw, _DIRECTORY)

    def _lift(self, path: str) -> None:
        parts = path.split("/") if path else []
        for count in range(len(parts) + 1):
            above = "/".join(parts[:count])
            holder = native.open_beneath(self._fd, os.fsencode(above) or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mode = stat.S_IMODE(os.fstat(holder).st_mode)
                if mode & 0o700 != 0o700:
                    os.chmod(f"/proc/self/fd/{holder}", mode | 0o700)  # fchmod refuses O_PATH
                    self._lifted.append((above, mode))
            finally:
                os.close(holder)

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
