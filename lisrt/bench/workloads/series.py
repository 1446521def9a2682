"""Numbers of this host and this process as time goes by, and whether they grow."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import TypeAlias

from lisrt.bench.machine import memory
from lisrt.kernel import procfs

Point: TypeAlias = tuple[float, float]
WARM_UP = 0.1
"""The share of a run that is left out: pools and caches fill."""
LEAST = 500.0
"""Seconds below which there is no verdict: a machine takes minutes to come to rest."""
PAIRS = 20_000
"""Pairs of samples that a slope is the median of, at most."""
TOLERANCE = 0.02
"""A slope that adds less than this share of where it began in an hour is called flat; or less than SLACK."""
SLACK = {"MiB": 8.0, "files": 16.0, "processes": 4.0, "cgroups": 16.0, "entries": 2_000.0}
"""By unit, per hour: what comes and goes on any machine."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is looked at."""

    name: str
    unit: str


GAUGES = (
    Gauge("in use by processes and kernel", "MiB"),
    Gauge("not available", "MiB"),
    Gauge("slab", "MiB"),
    Gauge("percpu", "MiB"),
    Gauge("this process", "MiB"),
    Gauge("this process's files", "files"),
    Gauge("spawner", "MiB"),
    Gauge("spawner's files", "files"),
    Gauge("dentries", "entries"),
    Gauge("inodes", "entries"),
    Gauge("cgroups", "cgroups"),
    Gauge("dying cgroups", "cgroups"),
    Gauge("this user's processes", "processes"),
)


def look(spawners: Sequence[int]) -> dict[str, float]:
    """All gauges that can be read here and now. `spawners`: pids."""
    mib, meminfo = 1 << 20, _lines("/proc/meminfo")
    own = procfs.process(os.getpid())
    homes = [home for pid in spawners if (home := procfs.process(pid)) is not None]
    files = [_files(pid) for pid in spawners]
    found: dict[str, float | None] = {
        "in use by processes and kernel": memory().in_use / mib,
        "not available": (meminfo["MemTotal"] - meminfo["MemAvailable"]) / 1024,
        "slab": meminfo["Slab"] / 1024,
        "percpu": meminfo.get("Percpu", 0) / 1024,
        "this process": own.resident / mib if own else None,
        "this process's files": _files("self"),
        "spawner": sum(one.resident for one in homes) / mib if homes else None,
        "spawner's files": sum(count or 0 for count in files) if files and None not in files else None,
        "dentries": _number("/proc/sys/fs/dentry-state"),
        "inodes": _number("/proc/sys/fs/inode-nr"),
        "this user's processes": _processes(),
        **_groups(),
    }
    return {name: value for name, value in found.items() if value is not None}


def _lines(path: str) -> dict[str, int]:
    with open(path, encoding="ascii") as lines:
        return {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}


def _number(path: str) -> float | None:
    try:
        with open(path, encoding="ascii") as file:
            return float(file.read().split()[0])
    except OSError:
        return None


def _files(pid: int | str) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None  # the spawner's are nobody's business


def _processes() -> int:
    """Of this user: an hour was called growing because somebody else had opened four shells in the meantime."""
    found, own = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found += os.stat(f"/proc/{name}").st_uid == own
            except OSError:
                pass  # it has just ended
    return found


def _groups() -> dict[str, float | None]:
    """Of the whole host, where its root shows them (version 2), or else how many /proc/cgroups knows of."""
    try:
        with open("/sys/fs/cgroup/cgroup.stat", encoding="ascii") as lines:
            found = dict(line.split() for line in lines)
        return {"cgroups": float(found["nr_descendants"]), "dying cgroups": float(found["nr_dying_descendants"])}
    except (OSError, KeyError, ValueError):
        pass
    try:
        with open("/proc/cgroups", encoding="ascii") as lines:
            counts = [int(line.split()[2]) for line in lines if not line.startswith("#")]
    except OSError:
        return {}
    return {"cgroups": float(max(counts))} if counts else {}


def slope(points: Sequence[Point], random: Random) -> float:
    """Units per second: the median over pairs of points (Theil and Sen), which a few outliers don't move."""
    pairs = list(combinations(points, 2)) if len(points) <= 200 else [_two(points, random) for _ in range(PAIRS)]
    found = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if a[0] != b[0]]
    return statistics.median(found) if found else 0.0


def _two(points: Sequence[Point], random: Random) -> tuple[Point, Point]:
    first, second = random.sample(points, 2)
    return first, second


@dataclass(frozen=True, slots=True)
class Trend:
    """What became of one gauge."""

    gauge: Gauge
    first: float
    """Median of the first tenth after the warm-up; and of the last."""
    last: float
    per_hour: float
    seconds: float
    """Between the first and the last look at it."""

    @property
    def grows(self) -> bool | None:
        """Whether an hour adds more than the tolerance, and the end is above the beginning. None after too short a time."""
        if self.seconds < LEAST:
            return None
        allowed = max(TOLERANCE * self.first, SLACK[self.gauge.unit])
        return self.per_hour > allowed and self.last > self.first

    def __str__(self) -> str:
        verdict = {True: "GROWS", False: "flat", None: "not long enough to tell"}[self.grows]
        unit = self.gauge.unit
        return f"{self.gauge.name}: {verdict}; {self.first:,.1f} to {self.last:,.1f} {unit}, {self.per_hour:+,.1f} an hour"


def trends(samples: Sequence[tuple[float, dict[str, float]]], random: Random) -> list[Trend]:
    """Of (seconds, gauges), all gauges that every sample has."""
    warm = samples[int(WARM_UP * len(samples)) :]
    part = max(1, len(warm) // 10)
    found = []
    for gauge in GAUGES:
        points = [(at, values[gauge.name]) for at, values in warm if gauge.name in values]
        if len(points) < 2 or len(points) < len(warm):
            continue
        first = statistics.median(value for _, value in points[:part])
        last = statistics.median(value for _, value in points[-part:])
        seconds = points[-1][0] - points[0][0]
        found.append(Trend(gauge, first, last, 3600 * slope(points, random), seconds))
    return found
