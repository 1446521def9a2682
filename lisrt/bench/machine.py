"""Facts about the machine that figures need beside them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any


def facts(scratch: str | None) -> dict[str, Any]:
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
        "scratch_filesystem": filesystem(scratch) if scratch else None,
        "load_before": os.getloadavg()[0],
    }


def available_memory() -> int:
    """MemAvailable of /proc/meminfo in bytes."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


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
