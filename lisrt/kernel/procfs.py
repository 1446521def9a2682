"""Processes as /proc shows them to everybody: also those of ours that nobody may look into."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGESIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `start` is in clock ticks since boot: with the pid and the boot it names the process for ever."""

    pid: int
    parent: int
    name: str
    start: int
    resident: int
    """Bytes; what it shares with others is counted in full."""

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.start / _TICKS)


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of mountinfo. `root` is the mounted directory as its file system names it."""

    root: str
    at: str
    source: str
    """What its file system was made of: for an overlay whatever was said when it was mounted."""
    options: str


def process(pid: int | str) -> Process | None:
    """None when it is gone, or hidden from us."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    head, _, tail = text.rpartition(b")")
    number, _, name = head.partition(b"(")
    fields = tail.split()
    state, parent, start, resident = fields[0], int(fields[1]), int(fields[19]), int(fields[21])
    if state in (b"Z", b"X"):
        return None  # dead, if not buried
    return Process(int(number), parent, name.decode(errors="replace"), start, max(0, resident) * _PAGE)


def processes() -> dict[int, Process]:
    """All that can be seen, by pid."""
    found = (process(name) for name in os.listdir("/proc") if name.isdigit())
    return {one.pid: one for one in found if one is not None}


def below(table: dict[int, Process]) -> dict[int, list[int]]:
    """The children of each process that has any."""
    children: dict[int, list[int]] = {}
    for one in table.values():
        children.setdefault(one.parent, []).append(one.pid)
    return children


def tree(children: dict[int, list[int]], pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found


def mount_points(pid: int) -> list[MountPoint]:
    """The mounts that a process sees; none when it is gone."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            lines = os.fsdecode(file.read()).splitlines()
    except OSError:
        return []
    found = (line.split(" ") for line in lines)
    return [MountPoint(_plain(words[3]), _plain(words[4]), _plain(words[-2]), words[-1]) for words in found]


def boot() -> str:
    """The id of this boot of the kernel; "" where /proc does not say."""
    return _text("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> int:
    """A number that says among whom our pids mean something; 0 where /proc does not say."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _plain(path: str) -> str:
    for escape, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        path = path.replace(escape, character)
    return path
