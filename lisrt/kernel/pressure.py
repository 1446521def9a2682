"""How much room this host has left for this process: memory, time stalled for want of it, processes.

Each number is the tightest of the host's own and those of the control groups on the way up; None where nothing says it.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

COUNT_AGAIN = 10.0
"""Seconds for which a count of this user's processes is good: it means a look at every process of the host."""

_CONTROLLERS = ("memory", "pids")
_LIMITS = {
    ("memory", 2): ("memory.max", "memory.current"),
    ("memory", 1): ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ("pids", 2): ("pids.max", "pids.current"),
    ("pids", 1): ("pids.max", "pids.current"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """A control group that this process is in, or is below."""

    controller: str
    version: int
    path: str

    @property
    def kind(self) -> tuple[str, int]:
        """What says which files it has."""
        return self.controller, self.version


@dataclass(frozen=True, slots=True)
class Reading:
    """The room at one moment."""

    memory: int | None
    """Bytes that can be had without swapping."""
    memory_pressure: float | None
    """Per cent of the last 10 s in which all that could have run waited for memory."""
    cpu_pressure: float | None
    """Per cent of the last 10 s in which something waited for a CPU."""
    processes: int | None
    """How many more can be started, threads counted."""


class Meters:
    """Reads them. `root`: where /proc and /sys are."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._groups = [group for group in self._own_groups() if self._text(f"{group.path}/{_LIMITS[group.kind][0]}")]
        self._counted = 0, 0, -COUNT_AGAIN
        """This user's processes, all of the host's, and when that was."""

    def read(self) -> Reading:
        """All of them now."""
        return Reading(self.memory(), self._pressure("memory", "full"), self._pressure("cpu", "some"), self.processes())

    def memory(self) -> int | None:
        """Bytes available."""
        rooms = [self._of_meminfo("MemAvailable")]
        for limit, used, group in self._used("memory"):
            rooms.append(max(0, limit - used) + self._reclaimable(group))
        return min((room for room in rooms if room is not None), default=None)

    def total_memory(self) -> int | None:
        """Bytes that there are."""
        limits = [limit for limit, _, _ in self._used("memory")]
        return min((size for size in [self._of_meminfo("MemTotal"), *limits] if size is not None), default=None)

    def processes(self) -> int | None:
        """How many more processes and threads."""
        running = self._running()
        rooms = [max(0, limit - used) for limit, used, _ in self._used("pids")]
        for limit in self._process_limits():
            if running is not None:
                rooms.append(max(0, limit - running))
        own = self._own_limit()
        if own is not None and running is not None:
            # whoever has fewer than all have needs no count: it is a look at every process there is
            rooms.append(max(0, own - running) or max(0, own - self._of_this_user(running)))
        return min(rooms, default=None)

    def most_processes(self) -> int | None:
        """How many there may be at all."""
        limits = [limit for limit, _, _ in self._used("pids")] + list(self._process_limits())
        own = self._own_limit()
        return min([*limits, own] if own is not None else limits, default=None)

    def _own_limit(self) -> int | None:
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return None if soft == resource.RLIM_INFINITY or os.geteuid() == 0 else soft  # root's are not counted

    def _process_limits(self) -> Iterator[int]:
        for name in ("pid_max", "threads-max"):
            limit = _number(self._text(f"proc/sys/kernel/{name}"))
            if limit is not None:
                yield limit

    def _running(self) -> int | None:
        words = self._text("proc/loadavg").split()
        return _number(words[3].partition("/")[2]) if len(words) > 3 else None

    def _of_this_user(self, running: int) -> int:
        """By the last count; what all have grown by since is counted as this user's."""
        count, then, at = self._counted
        now = time.monotonic()
        if now - at >= COUNT_AGAIN:
            count, then = sum(self._threads_of_this_user()), running
            self._counted = count, then, now
        return count + max(0, running - then)

    def _threads_of_this_user(self) -> Iterator[int]:
        uid = str(os.getuid())
        for name in os.listdir(os.path.join(self._root, "proc")):
            if name.isdigit():
                lines = (line.split() for line in self._text(f"proc/{name}/status").splitlines())
                values = {words[0]: words[1] for words in lines if len(words) > 1}
                if values.get("Uid:") == uid:
                    yield _number(values.get("Threads:", "")) or 1

    def _of_meminfo(self, key: str) -> int | None:
        for line in self._text("proc/meminfo").splitlines():
            if line.startswith(f"{key}:"):
                kib = _number(line.split()[1])
                return None if kib is None else kib << 10
        return None

    def _pressure(self, what: str, who: str) -> float | None:
        """Of the host; `avg10` of /proc/pressure, where this kernel has that and counts it."""
        for line in self._text(f"proc/pressure/{what}").splitlines():
            kind, *pairs = line.split()
            value = dict(pair.partition("=")[::2] for pair in pairs).get("avg10") if kind == who else None
            if value is not None:
                return float(value)
        return None

    def _used(self, controller: str) -> Iterator[tuple[int, int, Group]]:
        """(limit, use, group) of every group that has a limit."""
        for group in self._groups:
            if group.controller == controller:
                limit, used = (_number(self._text(f"{group.path}/{name}")) for name in _LIMITS[group.kind])
                if limit is not None and limit < 1 << 60 and used is not None:  # version 1 has no "max" but 2**63
                    yield limit, used, group

    def _reclaimable(self, group: Group) -> int:
        """Bytes of files that nobody has read lately: they are counted as used, and given up when others need the memory."""
        key = "inactive_file" if group.version == 2 else "total_inactive_file"
        for line in self._text(f"{group.path}/memory.stat").splitlines():
            if line.startswith(f"{key} "):
                return _number(line.split()[1]) or 0
        return 0

    def _own_groups(self) -> Iterator[Group]:
        own = [line.split(":", 2)[1:] for line in self._text("proc/self/cgroup").splitlines()]
        for line in self._text("proc/self/mountinfo").splitlines():
            before, _, after = line.partition(" - ")
            kind, _, rest = after.partition(" ")
            if kind not in ("cgroup", "cgroup2"):
                continue
            version = 2 if kind == "cgroup2" else 1
            top, point = before.split(" ")[3:5]
            mounted = set(rest.rpartition(" ")[2].split(",")) if version == 1 else {""}
            for names, path in own:
                if not mounted.isdisjoint(names.split(",")):
                    there = mounted if version == 1 else _CONTROLLERS
                    for place in _upward(point.lstrip("/"), os.path.relpath(path, top)):
                        yield from (Group(name, version, place) for name in _CONTROLLERS if name in there)

    def _text(self, path: str) -> str:
        try:
            with open(os.path.join(self._root, path), "rb", buffering=0) as file:
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _upward(point: str, below: str) -> Iterator[str]:
    """The group's directory, its parent's, and so on to the mount point."""
    if below == "." or below.startswith(".."):  # a cgroup namespace lies between: ours is above what is mounted
        below = ""
    while below:
        yield f"{point}/{below}"
        below = os.path.dirname(below)
    yield point


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdecimal() else None
