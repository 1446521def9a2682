"""What a writable layer changes in the layers below it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal, NamedTuple, TypeAlias

from lisrt.store.merge import visible
from lisrt.store.trees import Tree, is_opaque, is_whiteout, joined, mode_of

_Pending: TypeAlias = list[tuple[str, list[Tree], bool]]
"""Path, the layers below that have a directory there, and whether it hides them."""


class Change(NamedTuple):
    """One path that is not as it was."""

    path: str
    """Absolute, inside the sandbox."""
    kind: Literal["added", "modified", "deleted"]
    """A directory is `modified` when its mode has changed, not when something in it has."""


def changes(top: str, layers: tuple[str, ...]) -> list[Change]:
    """In the order of their paths. Of a directory that is gone, what was in it is not listed. OSError.

    Programs may go on writing meanwhile: what appears or goes in between may be missing.
    """
    found: list[Change] = []
    with ExitStack() as stack:
        upper = stack.enter_context(Tree(top))
        pending: _Pending = [("", [stack.enter_context(Tree(layer)) for layer in layers], False)]
        while pending:
            path, lowers, hides = pending.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # gone again
                found += _changes(path, upper, lowers, hides, pending)
    return sorted(found)


def _changes(path: str, upper: Tree, lowers: list[Tree], hides: bool, pending: _Pending) -> Iterator[Change]:
    with ExitStack() as stack:
        fd = stack.enter_context(upper.directory(path))
        below: list[int] = []
        for lower in lowers:
            below.append(stack.enter_context(lower.directory(path)))
            if is_opaque(below[-1]):
                break
        names = os.listdir(fd)
        hides = hides or is_opaque(fd)
        if hides:
            for name in {name for one in below for name in os.listdir(one)}.difference(names):
                if visible(name, below) is not None:
                    yield Change(f"/{joined(path, name)}", "deleted")
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # gone again
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append((joined(path, name), _directories(name, lowers, below), hides))
                yield from _entry(f"/{joined(path, name)}", status, visible(name, below))


def _entry(path: str, now: os.stat_result, before: os.stat_result | None) -> Iterator[Change]:
    if is_whiteout(now):
        if before is not None:
            yield Change(path, "deleted")
    elif before is None:
        yield Change(path, "added")
    elif not (stat.S_ISDIR(now.st_mode) and stat.S_ISDIR(before.st_mode)) or mode_of(now) != mode_of(before):
        yield Change(path, "modified")


def _directories(name: str, lowers: list[Tree], fds: list[int]) -> list[Tree]:
    """Those that have a directory of that name, down to one that has something else: that hides the rest."""
    found = []
    for lower, fd in zip(lowers, fds, strict=False):  # fewer where one was opaque
        try:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                break
        except FileNotFoundError:
            continue
        found.append(lower)
    return found
