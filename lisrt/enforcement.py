"""Who holds a sandbox to its limits on this host: chosen from what was tried, or as asked for by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lisrt.errors import HostError
from lisrt.kernel.steps import BY_CGROUP, BY_OURSELVES
from lisrt.limits import DEFAULT_PIDS, Limits

_FIXES = {
    "cgroup2": "Start this program under `systemd-run --user --scope -p Delegate=yes`, or name a group that is yours with"
    " $LISRT_CGROUP",
    "cgroup1": "Name groups that are yours with $LISRT_CGROUP, one for each controller with ':' between them",
    "scope": "It takes a systemd of your own (systemctl --user), which not every host has",
}
_OR_ELSE = "; or ask for enforce=\"watchdog\" (--enforce watchdog), which works everywhere"
_WHOLE_CPUS = "Ask for a whole number of CPUs; part of one takes a control group ($LISRT_CGROUP, and not enforce=\"watchdog\")"
_ROOT_PIDS = (
    "RLIMIT_NPROC does not bind root. Run lisrt as another user, name a control group with $LISRT_CGROUP, or ask for pids=None"
)


@dataclass(frozen=True, slots=True)
class Enforcement:
    """For each limit who holds it: steps.BY_CGROUP, steps.BY_OURSELVES, or None when nobody does."""

    memory: int | None = None
    pids: int | None = None
    cpus: int | None = None
    version: int = 0
    """Of the control groups; 0 when there are none."""


def wants_groups(limits: Limits) -> bool:
    """Whether to look for control groups at all: pids alone are held by a resource limit, except root's."""
    if limits.enforce in ("watchdog", "cgroup1", "cgroup2", "scope"):
        return limits.enforce != "watchdog"
    return limits.memory is not None or limits.cpus is not None or (limits.pids is not None and os.geteuid() == 0)


def choose(limits: Limits, versions: Mapping[str, int]) -> Enforcement:
    """`versions` has the controllers that groups can be made with, and of which version. HostError for what can't be held."""
    usable = {} if limits.enforce == "watchdog" else dict(versions)
    wanted = {"cgroup2": 2, "scope": 2, "cgroup1": 1}.get(limits.enforce)
    if wanted:
        usable = {name: version for name, version in usable.items() if version == wanted}
        missing = [name for name, asked in (("memory", limits.memory), ("cpu", limits.cpus)) if asked and name not in usable]
        if missing or not usable:
            what = f"for {' and '.join(missing)} " if missing else ""
            raise HostError(
                f"there is no control group of version {wanted} {what}that this user may use",
                check="cpus" if missing == ["cpu"] else "memory",
                fix=_FIXES[limits.enforce] + _OR_ELSE,
            )
    return Enforcement(
        memory=None if limits.memory is None else BY_CGROUP if "memory" in usable else BY_OURSELVES,
        pids=_pids(limits, usable),
        cpus=_cpus(limits, usable),
        version=max(usable.values(), default=0),
    )


def _pids(limits: Limits, usable: Mapping[str, int]) -> int | None:
    if limits.pids is None:
        return None
    if "pids" in usable:
        return BY_CGROUP
    if os.geteuid() != 0:
        return BY_OURSELVES
    if limits.pids != DEFAULT_PIDS:
        raise HostError(f"can't limit processes to {limits.pids} here", check="pids", fix=_ROOT_PIDS)
    return None


def _cpus(limits: Limits, usable: Mapping[str, int]) -> int | None:
    if limits.cpus is None:
        return None
    if "cpu" in usable:
        return BY_CGROUP
    if limits.cpus != int(limits.cpus):
        raise HostError(f"can't limit CPUs to {limits.cpus:g} without a control group", check="cpus", fix=_WHOLE_CPUS)
    return BY_OURSELVES


def describe(limits: Limits, by: Enforcement, root: str, *, real_ids: bool = False) -> dict[str, str]:
    """Rows for `Sandbox.guarantees`. `root` says what programs write to, and where it lies; `real_ids`: of several users."""
    group = f"control group, version {by.version}"
    return {
        "memory": _memory(limits, by, group),
        "cpus": "not limited"
        if limits.cpus is None
        else f"{limits.cpus:g}, by {group}"
        if by.cpus == BY_CGROUP
        else f"{limits.cpus:g}, by CPU affinity: shared with other programs on them",
        "pids": "not limited"
        if limits.pids is None
        else "NOT ENFORCED: RLIMIT_NPROC does not bind root"
        if by.pids is None
        else f"{limits.pids}, by RLIMIT_NPROC of its user namespace" + (f" and a {group}" if by.pids == BY_CGROUP else "")
        if by.pids == BY_CGROUP or not real_ids
        else f"{limits.pids} FOR EACH of its user ids, by RLIMIT_NPROC: not for the sandbox as a whole",
        "disk": f"{_disk(limits)}; {root}",
        "other limits": ", ".join(_others(limits)) or "none",
    }


def _memory(limits: Limits, by: Enforcement, group: str) -> str:
    if limits.memory is None:
        return "not limited"
    amount = f"{limits.memory >> 20} MiB"
    if by.memory == BY_CGROUP:
        return f"{amount}, by {group}; at the limit all programs are killed"
    return (
        f"{amount}, by lisrt's watchdog, which looks up to 200 times a second: a quick program is tens of MiB over the limit when"
        " it is killed, more where CPUs are scarce; the kernel's own memory (pipes, sockets, page tables) does not count"
    )


def _others(limits: Limits) -> Iterator[str]:
    if limits.swap and limits.memory is not None:
        yield f"swap {limits.swap >> 20} MiB (with a control group; the watchdog counts swap as memory)"
    if limits.wall_time is not None:
        yield f"{limits.wall_time:g} s for each command"
    if limits.output is not None:
        yield f"{limits.output} bytes of output for each command"
    if limits.open_files is not None:
        yield f"{limits.open_files} open files for each process"


def _disk(limits: Limits) -> str:
    if limits.disk is None and limits.files is None:
        return "not limited"
    parts = [f"{limits.disk >> 20} MiB"] if limits.disk is not None else []
    parts += [f"{limits.files} files"] if limits.files is not None else []
    return f"{', '.join(parts)}, by adding up what was written, up to 10 times a second"
