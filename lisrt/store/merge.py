"""Layers above each other made one, by hard links: as dear as there are files, however large they are.

Layers never change, so a file may be in two of them; overlayfs copies it up before anyone writes to it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import ExitStack
from typing import NamedTuple

from lisrt.store.trees import Tree, is_opaque, is_whiteout, joined, mode_of
from lisrt.store.unpack import OPAQUE_ATTRIBUTE


class _Made(NamedTuple):
    """A directory of the result, which gets its mode and times when all is in it."""

    path: str
    mode: int
    times: tuple[int, int]
    attributes: dict[str, bytes]


def merge(layers: list[str], target: str) -> None:
    """Makes `target`, which is as all of `layers` (overlayfs' form, the topmost first) are together. OSError.

    It may be used above whatever they were above: what they hide it hides.
    """
    os.mkdir(target, 0o700)
    with ExitStack() as stack:
        trees = [stack.enter_context(Tree(layer)) for layer in layers]
        out = stack.enter_context(Tree(target))
        made: list[_Made] = []
        pending = [("", trees, False)]
        while pending:
            path, here, hides = pending.pop()
            pending += _merge(path, here, hides, out, made)
        for one in reversed(made):  # what is inside first: its own directory may become closed to us
            with out.directory(one.path) as fd:
                for name, value in one.attributes.items():
                    os.setxattr(fd, name, value)
                os.utime(fd, ns=one.times)
                os.fchmod(fd, one.mode)


def _merge(path: str, trees: list[Tree], hides: bool, out: Tree, made: list[_Made]) -> list[tuple[str, list[Tree], bool]]:
    """One directory, which each of `trees` has. `hides`: nothing below these shows through. What it has to go on with."""
    inner = []
    with ExitStack() as stack:
        target = stack.enter_context(out.directory(path))
        fds: list[int] = []
        for tree in trees:
            fds.append(stack.enter_context(tree.directory(path)))
            if is_opaque(fds[-1]):
                hides = True
                break
        made.append(_describe(path, fds[0], hides))
        seen: set[str] = set()
        for at, fd in enumerate(fds):
            for name in os.listdir(fd):
                if name in seen:
                    continue
                seen.add(name)
                if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    os.mkdir(name, 0o700, dir_fd=target)
                    with_it, stops = _with_directory(name, fds[at:])
                    inner.append((joined(path, name), [trees[at + index] for index in with_it], stops))
                else:
                    _link(name, fd, target)
    return inner


def _link(name: str, source: int, target: int) -> None:
    try:
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EMLINK or not stat.S_ISREG(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            raise
        _copy(name, source, target)


def _copy(name: str, source: int, target: int) -> None:
    """A file that has as many names as its file system allows."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    with open(fd, "rb") as reading:
        status = os.fstat(fd)
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        with open(made, "wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            os.fchmod(made, stat.S_IMODE(status.st_mode))
            writing.flush()
            os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _with_directory(name: str, fds: list[int]) -> tuple[list[int], bool]:
    """Which of them have a directory of that name, down to one that has something else: that hides the rest."""
    found: list[int] = []
    for index, fd in enumerate(fds):
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            return found, True
        found.append(index)
    return found, False


def _describe(path: str, fd: int, hides: bool) -> _Made:
    status = os.fstat(fd)
    kept = (name for name in os.listxattr(fd) if name.startswith("user.") and not name.startswith("user.overlay."))
    attributes = {name: os.getxattr(fd, name) for name in kept}
    if hides:
        attributes[OPAQUE_ATTRIBUTE] = b"y"
    return _Made(path, mode_of(status), (status.st_atime_ns, status.st_mtime_ns), attributes)


def visible(name: str, fds: list[int]) -> os.stat_result | None:
    """What a name is in layers above each other, of which these are the directories; None where there is nothing."""
    for fd in fds:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if is_whiteout(status) else status
    return None
