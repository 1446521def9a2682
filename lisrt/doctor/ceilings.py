"""For how many sandboxes at once this host has room, by every number that runs out.

What one takes was measured (tests/test_doctor.py measures it again): idle, one process, one descriptor of the Python
that made it, one namespace of each kind, five inodes. A command in it takes a process and three descriptors of Python's
more. Each sandbox is counted with one command that has started two processes of its own.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from lisrt.doctor import cgroups
from lisrt.doctor.causes import sysctl
from lisrt.doctor.host import Host
from lisrt.doctor.rows import Found, Status

PROCESSES = 4
DESCRIPTORS = 6
NAMESPACES = 1
MEMORY = 512 << 10
DISK = 64 << 20
"""What is counted for a program's own files; an idle sandbox takes 20 KiB."""
INODES = 1000
"""The same; an idle sandbox takes 5."""
MOUNTS = 64
"""Of one sandbox, at most; the number that counts is per mount namespace."""

SPARE_DESCRIPTORS = 64
OUTER_NAMESPACES = 5
"""Of the kind of which most are taken besides, mount namespaces: the spawner's two, and three for mounts not attached yet."""

KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def judged(host: Host, room: int, found: str, fix: str, *, hard: bool = True) -> Found:
    """The verdict on a room for so many, against the number that is wanted. What is not hard stops no sandbox."""
    room = max(0, room)
    words = f"{found}: room for {room:,}"
    counted = room if hard else None
    if room >= host.concurrency:
        return Found(Status.PASS, words, room=counted)
    status = Status.FAIL if hard and not room else Status.WEAKER
    return Found(status, f"{words} of {host.concurrency:,}", fix, counted)


def unknown(what: str) -> Found:
    """A ceiling that this kernel does not show."""
    return Found(Status.SKIPPED, f"{what} can't be read here")


def descriptors(host: Host) -> Found:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Found(Status.PASS, "open files are not limited")
    found = f"{soft:,} open files (hard limit {hard:,}), {DESCRIPTORS} each"
    fix = f"ulimit -n {hard}"
    wanted = host.concurrency * DESCRIPTORS + 2 * SPARE_DESCRIPTORS
    if hard < wanted:
        found += f", fs.nr_open {host.number('/proc/sys/fs/nr_open')}"
        fix = f"sudo prlimit --pid $$ --nofile={wanted}:{wanted} (ulimit -n goes no higher than the hard limit)"
    verdict = judged(host, (soft - _open_files(host) - SPARE_DESCRIPTORS) // DESCRIPTORS, found, fix)
    if verdict.status is Status.FAIL and host.fault is None:  # one has just been made: the spare ones do, for a while
        return Found(Status.WEAKER, verdict.found, fix, verdict.room)
    return verdict


def _open_files(host: Host) -> int:
    try:
        return len(os.listdir(Path(host.root, "proc/self/fd")))
    except OSError:
        return 0  # the limit is so low that not even this can be opened; the row fails without it


def _processes_of_user(host: Host) -> int:
    """How many RLIMIT_NPROC counts: threads, not processes."""
    count = 0
    for name in os.listdir(Path(host.root, "proc")):
        if not name.isdigit():
            continue
        lines = (host.read(f"/proc/{name}/status") or "").splitlines()
        values = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        if values.get("Uid", ["", ""])[0] == str(os.getuid()):
            count += int(values["Threads"][0])
    return count


def processes(host: Host) -> Found:
    """The lowest of four: of the kernel, of the pid namespace, of this user, of the cgroups on the way up."""
    total = (host.read("/proc/loadavg") or "0/0").partition("/")[2].split()
    running = int(total[0]) if total else 0
    lefts: list[tuple[int, str, str]] = []
    for name in ("pid_max", "threads-max"):
        limit = host.number(f"/proc/sys/kernel/{name}")
        if limit is not None:
            lefts.append((limit - running, f"kernel.{name} {limit:,}", sysctl(f"kernel.{name}", 4194304)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:  # root's are not counted
        fix = f"ulimit -u {hard if hard != resource.RLIM_INFINITY else 'unlimited'}"
        lefts.append((soft - _processes_of_user(host), f"ulimit -u {soft:,}", fix))
    group = cgroups.room(host, "pids", (("pids.max", "pids.current"), ("pids.max", "pids.current")))
    if group:
        left, place = group
        unit = "systemctl --user set-property ... TasksMax=infinity, or a larger limit for the job"
        lefts.append((left, f"pids.max of {place}", f"{unit} ({place}/pids.max)"))
    if not lefts:
        return unknown("the number of processes")
    left, found, fix = min(lefts)
    return judged(host, left // PROCESSES, f"{found}, {max(0, left):,} free, {PROCESSES} each", fix)


def namespace_counts(host: Host) -> Found:
    limits = {kind: host.number(f"/proc/sys/user/max_{kind}_namespaces") for kind in KINDS}
    known = {kind: limit for kind, limit in limits.items() if limit is not None}
    if not known:
        return unknown("user.max_*_namespaces")
    kind = min(known, key=lambda name: known[name])
    found = f"user.max_{kind}_namespaces is {known[kind]:,}, the lowest of {len(known)} kinds"
    wanted = (host.concurrency + OUTER_NAMESPACES) * 2
    return judged(host, (known[kind] - OUTER_NAMESPACES) // NAMESPACES, found, sysctl(f"user.max_{kind}_namespaces", wanted))


def mounts(host: Host) -> Found:
    """The kernel counts them per mount namespace: the host's own must leave room for the spawner's copy of them."""
    limit = host.number("/proc/sys/fs/mount-max")
    if limit is None:
        return unknown("fs.mount-max")
    found = f"fs.mount-max is {limit:,} in each mount namespace; this one has {len(host.mounts):,}"
    if len(host.mounts) + MOUNTS <= limit:
        return Found(Status.PASS, f"{found}: no matter how many sandboxes")
    return Found(Status.FAIL, found, sysctl("fs.mount-max", 100000))


def terminals(host: Host) -> Found:
    limit, used = host.number("/proc/sys/kernel/pty/max"), host.number("/proc/sys/kernel/pty/nr")
    if limit is None or used is None:
        return unknown("kernel.pty.max")
    found = f"kernel.pty.max is {limit:,}, {used:,} used; one for each shell with a terminal"
    return judged(host, limit - used, found, sysctl("kernel.pty.max", host.concurrency * 2 + used), hard=False)


def keys(host: Host) -> Found:
    """A program of any sandbox can use them up for all: they are counted per user, and in no namespace."""
    for line in (host.read("/proc/key-users") or "").splitlines():
        uid, _, rest = line.partition(":")
        if int(uid) == os.geteuid():
            used, limit = (int(number) for number in rest.split()[2].split("/"))
            found = f"{used} of this user's {limit:,} kernel keys are used; all sandboxes share one"
            if used < limit:
                return Found(Status.PASS, f"{found}: no matter how many sandboxes")
            return Found(Status.FAIL, found, sysctl("kernel.keys.maxkeys", limit * 10))
    if host.read("/proc/key-users") is None:
        return Found(Status.NOTE, "this kernel has no keyrings, or hides them: none are needed")
    return Found(Status.PASS, "this user has no kernel keys yet; all sandboxes share one")


def inotify(host: Host) -> Found:
    limit, watches = (host.number(f"/proc/sys/fs/inotify/max_user_{name}") for name in ("instances", "watches"))
    if limit is None or watches is None:
        return unknown("fs.inotify")
    found = f"{limit:,} instances and {watches:,} watches per user; lisrt takes none, a program that watches files takes one"
    wanted = max(host.concurrency * 2, 1024)
    return judged(host, limit, found, sysctl("fs.inotify.max_user_instances", wanted), hard=False)


def memory_room(host: Host) -> Found:
    lines = (host.read("/proc/meminfo") or "").splitlines()
    kib = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    if kib is None:
        return unknown("MemAvailable")
    left, found = kib << 10, f"{kib >> 10:,} MiB available"
    group = cgroups.room(
        host,
        "memory",
        (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    )
    if group and group[0] < left:
        left, found = group[0], f"{group[0] >> 20:,} MiB left in {group[1]}"
    each = left // max(1, host.concurrency)
    found += f", an idle sandbox takes 0.5 MiB; {each >> 20:,} MiB for each of {host.concurrency:,}"
    return judged(host, left // MEMORY, found, "Ask for more memory for the job (sbatch --mem=...)")


def scratch_room(host: Host) -> Found:
    place = host.home or next(iter(host.scratch), "")
    try:
        status = os.statvfs(place)
    except OSError as error:
        return Found(Status.SKIPPED, f"{place or 'no scratch directory'}: {error.strerror}")
    free = status.f_bavail * status.f_frsize
    found = f"{free >> 20:,} MiB"
    rooms = [free // DISK]
    if status.f_files:  # btrfs has no such number
        found += f" and {status.f_favail:,} files"
        rooms.append(status.f_favail // INODES)
    found += f" free in {place}, counted with {DISK >> 20} MiB and {INODES:,} files each"
    return judged(host, min(rooms), found, "export LISRT_SCRATCH=/a/directory/with/more/room", hard=False)
