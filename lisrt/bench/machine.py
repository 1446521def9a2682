"""Facts about the machine that figures need beside them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any


def facts() -> dict[str, Any]:
    """What a reader must know to judge the figures. No host name, no user name."""
    return {
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "lisrt": importlib.metadata.version("lisrt"),
        "privileged": os.geteuid() == 0,
        "load_before": os.getloadavg()[0],
    }


# What processes, mounts and namespaces are made of. The page cache, which files would fill anyway, is not in it.
_IN_USE = ("AnonPages", "Shmem", "Slab", "KernelStack", "PageTables", "Percpu")


@dataclass(frozen=True, slots=True)
class Memory:
    """The whole machine's memory at one moment, in bytes, by two accounts of /proc/meminfo."""

    in_use: int
    """The sum of AnonPages, Shmem, Slab, KernelStack, PageTables and Percpu."""
    available: int
    """MemAvailable. It sinks by less than what was taken while the kernel still returns what ended before."""


def memory() -> Memory:
    """As it is now."""
    values = _meminfo()
    return Memory(sum(values.get(name, 0) for name in _IN_USE), values["MemAvailable"])


def _meminfo() -> dict[str, int]:
    with open("/proc/meminfo", encoding="ascii") as lines:
        return {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}


def filesystem(path: str) -> str:
    """The type of the file system that a path lies on."""
    device = os.stat(path).st_dev
    found = "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            major, minor = line.split()[2].split(":")
            if os.makedev(int(major), int(minor)) == device:
                found = line.rpartition(" - ")[2].split()[0]
    return found


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
