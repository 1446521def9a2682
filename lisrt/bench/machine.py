"""Facts about the machine that figures need beside them."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Boot parameters that make the kernel slower or faster. No others: a command line can name hosts, users and paths.
_MITIGATIONS = re.compile(
    r"(?:mitigations|nopti|pti|nospectre_v[12]|spectre_v2(?:_user)?|spec_store_bypass_disable|nospec_store_bypass_disable|l1tf|mds|"
    r"tsx_async_abort|mmio_stale_data|retbleed|srbds|gather_data_sampling|spec_rstack_overflow|reg_file_data_sampling|"
    r"indirect_target_selection|vmscape|tsa|nosmt)(?:=[\w,]+)?"
)


def facts() -> dict[str, Any]:
    """What a reader must know to judge the figures; None where the kernel does not say. No host name, no user name, no path."""
    memory = _meminfo()
    return {
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_quota": _cpu_quota(),
        "smt": _smt(),
        "governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtualised": _virtualised(),
        "vulnerable_to": _vulnerabilities("vulnerable"),
        "mitigated": _vulnerabilities("mitigation"),
        "mitigation_parameters": [word for word in _line("/proc/cmdline", "").split() if _MITIGATIONS.fullmatch(word)],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "swap_bytes": memory.get("SwapTotal"),
        "transparent_huge_pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "clock": _line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "python": platform.python_version(),
        "lisrt": importlib.metadata.version("lisrt"),
        "commit": _commit(),
        "privileged": os.geteuid() == 0,
        "load_before": os.getloadavg()[0],
    }


def described(known: Mapping[str, Any]) -> str:
    """The most important of them in a line."""
    gib = f"{known['memory_bytes'] / 2**30:.1f} GiB" if "memory_bytes" in known else None
    kernel = f"Linux {known['kernel']}" if "kernel" in known else None
    cpus = f"{known.get('cpus', '?')} × {known['cpu']}" if "cpu" in known else None
    version = f"lisrt {known['lisrt']}" if "lisrt" in known else None
    commit = f" ({known['commit']})" if known.get("commit") else ""
    python = f"Python {known['python']}" if "python" in known else None
    machine = "virtual machine" if known.get("virtualised") else None
    parts = (cpus, gib, machine, kernel, known.get("scratch_filesystem"), python, version and version + commit)
    return " · ".join(filter(None, parts))


PATIENCE, LOOK, STILL = 10.0, 0.3, 1 << 20
"""Seconds in all and between looks; bytes within which memory has stopped moving."""

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


def settled() -> Memory:
    """As it is when it has stopped moving, or after some seconds all the same. What ended a moment ago is still being returned:
    after containers had been removed the next ones once seemed to weigh a fifth of what they do."""
    found, until = memory(), time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(LOOK)
        before, found = found, memory()
        if abs(found.available - before.available) < STILL:
            break
    return found


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


def anonymous(text: str) -> str:
    """Without this user's directories and this machine's name: reports get published."""
    for place, word in _places():
        text = re.sub(rf"(?<!\w){re.escape(place)}(?!\w)(?:/[^\s'\":;,)]*)?", word, text)
    return text


@functools.cache
def _places() -> tuple[tuple[str, str], ...]:
    home, name = os.path.expanduser("~"), platform.node()
    scratch = (os.environ.get("LISRT_SCRATCH", ""), tempfile.gettempdir(), "/var/tmp", "/dev/shm")
    places = {os.getcwd().rstrip("/"): "(here)", home.rstrip("/"): "(home)"}
    places |= {place.rstrip("/"): "(scratch)" for place in scratch}
    places |= {name: "(host)"} if len(name) > 2 and name != "localhost" else {}
    # the longest first: one may lie in another. Of / nothing is left, and so it is no place.
    return tuple(sorted(((place, word) for place, word in places.items() if place), key=lambda pair: -len(pair[0])))


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _virtualised() -> bool | None:
    """Whether the processor says that a hypervisor is beneath; only x86 has a word for it."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        flags = next((line.split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else "hypervisor" in flags


def _smt() -> bool | None:
    active = _line("/sys/devices/system/cpu/smt/active")
    return None if active is None else active == "1"


def _vulnerabilities(state: str) -> list[str]:
    """Those of this state, by name. What the processor does not have at all is no news."""
    directory = Path("/sys/devices/system/cpu/vulnerabilities")
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    return [name for name in names if _line(str(directory / name), "").lower().startswith(state)]


def _cpu_quota() -> float | None:
    """How many processors' time the control groups of this process allow; None without a limit, and below version 1."""
    group = next((line[3:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), None)
    quotas = []
    for above in [Path(group), *Path(group).parents] if group else ():
        quota, _, period = (_line(f"/sys/fs/cgroup{above}/cpu.max") or "max").partition(" ")
        if quota != "max":
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _commit() -> str | None:
    """Of the checkout that this is, with + when files of it were changed; None where it was installed, or git does not say."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, timeout=20, check=True)
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if git(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _chosen(path: str) -> str | None:
    """Of `always [madvise] never` the word in brackets."""
    found = re.search(r"\[(\w+)\]", _line(path, ""))
    return found[1] if found else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _line(path: str, default: Any = None) -> Any:
    """The first, stripped; the default when there is none to be had."""
    return next((line.strip() for line in _lines(path)), default)
