"""Which means of limiting a sandbox this host offers."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from lisrt import settings
from lisrt.doctor import cgroups
from lisrt.doctor.host import Host
from lisrt.doctor.isolation import simple
from lisrt.doctor.rows import Found, Status
from lisrt.kernel import cgroup

PROBES = ("filter", "process-limit")
BUS_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Backend:
    """What would enforce one limit here: a name, whether it is as good as there is, and why this one."""

    name: str
    best: bool
    why: str


def backend(host: Host, what: str) -> Backend:
    """The best possible for memory, cpu or pids, from what the probes found. Chooses nothing, changes nothing."""
    named = settings.get("cgroup")
    place = cgroup.find(named).get(what) if named else None
    if place:
        return Backend(f"cgroup{place.version}", True, f"$LISRT_CGROUP names {place.path}")
    if os.geteuid() == 0:
        return _roots(host, what)
    two, one = cgroups.version2(host), cgroups.version1(host, what)
    if two and host.probe(f"cgroup={two.directory}").works and what in two.controllers:
        return Backend("cgroup2", True, f"{two.directory} is ours, with {' '.join(two.controllers)}")
    if one and what in host.probe(f"cgroup={one.directory}").words.split() and host.probe(f"cgroup={one.directory}").works:
        return Backend("cgroup1", True, f"{one.directory} is ours")
    refusal = _refusal(host, what)
    if not host.environ.get("SLURM_JOB_ID") and cgroups.layout(host) == "v2" and user_manager(host):
        return Backend("scope", True, f"{refusal}; a systemd user manager can delegate one")
    if what == "pids" and host.probe("process-limit").works:
        return Backend("rlimit", True, f"{refusal}; RLIMIT_NPROC is {host.probe('process-limit').words}")
    return Backend({"memory": "watchdog", "pids": "nobody", "cpu": "affinity"}[what], False, refusal)


def _roots(host: Host, what: str) -> Backend:
    refusal = "you are root: the groups that you may write to are the system's, and $LISRT_CGROUP names none"
    if what == "pids":
        return Backend("nobody", False, f"{refusal}; RLIMIT_NPROC does not bind root")
    return Backend({"memory": "watchdog", "cpu": "affinity"}[what], False, refusal)


def _refusal(host: Host, what: str) -> str:
    if host.environ.get("SLURM_JOB_ID"):
        return "Slurm hands no cgroup to its jobs"
    ours = cgroups.version2(host) if cgroups.layout(host) == "v2" else cgroups.version1(host, what)
    if ours is None:
        return f"no cgroup hierarchy with {what} is mounted"
    if ours.version == 2 and what not in ours.controllers:
        return f"{ours.directory} has no {what} controller"
    return f"{ours.directory} is not ours: {host.probe(f'cgroup={ours.directory}').reason}"


def user_manager(host: Host) -> str:
    """The socket of this user's systemd if one answers there; ""."""
    runtime = host.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    for name in ("systemd/private", "bus"):
        path = Path(host.root, runtime.lstrip("/"), name)
        if _answers(str(path)):
            return f"{runtime}/{name}"
    return ""


def _answers(path: str) -> bool:
    """Whether a D-Bus server lets us in (the first lines of its protocol, and no message)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(BUS_PATIENCE)
        try:
            sock.connect(path)
            sock.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
            return sock.recv(64).startswith(b"OK")
        except OSError:
            return False


def _delegate(host: Host, what: str) -> str:
    if host.environ.get("SLURM_JOB_ID"):
        return "Ask for a job prologue that delegates a cgroup; without one this is the normal case under Slurm"
    one = cgroups.version1(host, what)
    if one and cgroups.layout(host) in ("v1", "hybrid"):
        place = f"{one.directory}/lisrt-{os.geteuid()}"  # below ours: the limits that a job has stay in force
        return f"sudo install -d -o {os.geteuid()} {place} && echo $$ | sudo tee {place}/cgroup.procs"
    return "systemd-run --user --scope -p Delegate=yes lisrt ..."


def _row(host: Host, what: str) -> Found:
    chosen = backend(host, what)
    found = f"{chosen.name}: {chosen.why}"
    return Found(Status.PASS, found) if chosen.best else Found(Status.WEAKER, found, _delegate(host, what))


def memory(host: Host) -> Found:
    return _row(host, "memory")


def cpus(host: Host) -> Found:
    return _row(host, "cpu")


def pids(host: Host) -> Found:
    return _row(host, "pids")


def disk(host: Host) -> Found:
    return Found(Status.PASS, "RLIMIT_FSIZE for one file; for all of them, what was written is added up")


def system_calls(host: Host) -> Found:
    probe = host.probe("filter")
    found = simple(probe, "Boot Linux 4.17 or later, with CONFIG_SECCOMP_FILTER")
    return Found(found.status, f"seccomp: {found.found}", found.fix)
