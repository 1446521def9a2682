"""Subordinate ids: the ranges that an administrator has given this user in /etc/subuid and /etc/subgid (subuid(5))."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lisrt.errors import HostError

IDMAPS = ("single", "subuid")
ROW = "id-ranges"
FEWEST = 1000
"""Less is no range that a distribution's users fit into; nobody gives fewer than 65536 away."""
_FIX = "Ask the administrator for the package that has newuidmap (uidmap, shadow-utils) and for: usermod --add-subuids"


class Range(NamedTuple):
    """So many ids from `first` on, as the host knows them."""

    first: int
    length: int


class Ranges(NamedTuple):
    """What newuidmap and newgidmap, at those paths, map for this user."""

    uid_tool: str
    gid_tool: str
    uids: Range
    gids: Range

    def arguments(self) -> list[str]:
        """As csrc/main.c reads them."""
        return [self.uid_tool, self.gid_tool, *map(str, (*self.uids, *self.gids))]


def find() -> Ranges:
    """The largest range of each kind. HostError, which says what an administrator has to do."""
    name = _user()
    free = _free()
    fix = f"{_FIX} {free}-{free + 65535} --add-subgids {free}-{free + 65535} {name}"
    tools = [_tool(tool) for tool in ("newuidmap", "newgidmap")]
    uids, gids = (max(ranges(file), key=lambda one: one.length, default=Range(0, 0)) for file in ("subuid", "subgid"))
    if not all(tools):
        raise HostError("there is no newuidmap, or no newgidmap, in PATH", check=ROW, fix=fix)
    if min(uids.length, gids.length) < FEWEST:
        raise HostError(f"user {name} has no range of ids in /etc/subuid and /etc/subgid", check=ROW, fix=fix)
    return Ranges(tools[0], tools[1], uids, gids)


def require(uid: int, gid: int) -> None:
    """ValueError for ids that sandboxes don't have: they go from 0 up to what the ranges give."""
    if uid or gid:
        found = find()
        if uid > found.uids.length or gid > found.gids.length:
            raise ValueError(f"user {uid}:{gid} is beyond the {found.uids.length} users' and {found.gids.length} groups' ids")


def ranges(file: str) -> Iterator[Range]:
    """Those of this user in /etc/`file`."""
    return (found for name, found in _lines(file) if name in (_user(), str(os.geteuid())))


def _lines(file: str) -> Iterator[tuple[str, Range]]:
    with contextlib.suppress(OSError):
        for line in Path("/etc", file).read_text(errors="replace").splitlines():
            name, _, numbers = line.partition(":")
            first, _, count = numbers.partition(":")
            if first.isdecimal() and count.strip().isdecimal() and int(first) + int(count) < 2**32 - 1:
                yield name, Range(int(first), int(count))


def _free() -> int:
    """Where ids begin that nobody has: two users with the same ones could read each other's files."""
    ends = [found.first + found.length for file in ("subuid", "subgid") for _, found in _lines(file)]
    return max([100000, *ends])


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _tool(name: str) -> str:
    """Also where a user's PATH has no sbin."""
    return shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin") or ""
