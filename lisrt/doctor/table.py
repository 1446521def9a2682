"""Every row of the doctor: its name, what it is for, and who judges it."""

from __future__ import annotations

from dataclasses import dataclass

from lisrt.doctor import ceilings, isolation, limits, networks, surroundings
from lisrt.doctor.host import Judge
from lisrt.doctor.rows import Group


@dataclass(frozen=True, slots=True)
class Row:
    """A row before it is judged. `HostError.check` names rows, so that a name stays."""

    name: str
    group: Group
    meaning: str
    """What is not guaranteed where it is missing."""
    judge: Judge


_ISOLATION = (
    ("helper", "Everything starts from this program: without it there are no sandboxes.", isolation.the_helper),
    (
        "user-namespaces",
        "An ordinary user makes sandboxes in one: without it there are none.",
        isolation.user_namespaces,
    ),
    (
        "capabilities",
        "Root in a user namespace must be able to mount: without that there are no sandboxes.",
        isolation.capabilities,
    ),
    ("namespaces", "Files, processes, IPC and host name of a sandbox are its own by these.", isolation.namespaces),
    (
        "nested-user-namespace",
        "Programs have no power over mounts and network, and can make no namespaces, by this.",
        isolation.nested,
    ),
    (
        "network-namespace",
        'Without one a sandbox shares the network of the host: refused, unless chosen with network="host".',
        isolation.network_namespace,
    ),
    ("proc", "Without a /proc of its own a sandbox would see the processes of the host.", isolation.fresh_proc),
    ("scratch", "What programs write goes into an overlay there; without one there are no sandboxes.", isolation.scratch),
    ("tmpfs", "/tmp and /dev/shm of a sandbox have a size by this.", isolation.tmpfs),
    (
        "kernel-calls",
        "Paths made by programs are opened without leaving the root, and mounts are made read-only, by these.",
        isolation.kernel_calls,
    ),
    ("sandbox", "The proof: one was made and used.", isolation.real_sandbox),
)
_LIMITS = (
    ("memory", "A watchdog looks at intervals: a fast program overshoots its limit before it is killed.", limits.memory),
    ("cpus", "Without a cgroup a sandbox can be kept to some CPUs, not to a share of them.", limits.cpus),
    ("pids", "A fork bomb is stopped by this number.", limits.pids),
    ("disk", "Many files together can pass their limit for the moment that adding up takes.", limits.disk),
    ("system-calls", "The kernel's surface for a program is all system calls where no filter holds.", limits.system_calls),
)
_ROOM = (
    ("descriptors", "Beyond it, making sandboxes and running commands fail with HostError.", ceilings.descriptors),
    ("processes", "Beyond it, sandboxes and commands can't be started.", ceilings.processes),
    ("namespace-counts", "Beyond it, sandboxes can't be made.", ceilings.namespace_counts),
    ("mounts", "Beyond it, sandboxes can't be made.", ceilings.mounts),
    ("terminals", "Beyond it, no terminal can be opened, in sandboxes or on the host.", ceilings.terminals),
    ("keys", "Beyond it, programs can't be started any more.", ceilings.keys),
    ("inotify", "Beyond it, programs that watch files get an error; no sandbox is lost.", ceilings.inotify),
    ("memory-room", "Beyond it, the kernel kills processes: sandboxes, or the program that uses them.", ceilings.memory_room),
    ("scratch-room", "Beyond it, programs get ENOSPC.", ceilings.scratch_room),
)
_HOST = (
    ("surroundings", "Where this seems to run.", surroundings.surroundings),
    ("cgroups", "Where limits by the kernel could be set.", surroundings.cgroup_facts),
    ("clone-into-cgroup", "Without it a process is moved into its cgroup, which is slow.", surroundings.clone_into_cgroup),
    ("user-bus", "Without one there is no delegated scope.", surroundings.user_bus),
    ("filter-notify", "Lets a supervisor decide on system calls; lisrt needs none.", surroundings.noted("filter-notify")),
    ("landlock", "A second fence around files; lisrt needs none.", surroundings.noted("landlock")),
    ("clone3", "Docker's filter answers ENOSYS; lisrt forks sandboxes by clone.", surroundings.noted("clone3")),
    (
        "tmpfs-attributes",
        "Without them no writable layer can lie in memory.",
        surroundings.noted("tmpfs-attributes"),
    ),
    ("fuse", "For file systems in user space; lisrt needs none.", surroundings.device("/dev/fuse")),
    ("tun", 'For network="nat"; a Proxy needs none.', surroundings.device("/dev/net/tun")),
    ("veth", 'For network="nat"; a Proxy needs none.', surroundings.noted("veth")),
    ("nft", 'For network="nat"; a Proxy needs none.', surroundings.noted("nft")),
    ("uplink", 'For network="nat"; a Proxy needs none.', networks.uplink),
    ("nat", "The proof: a sandbox with a way out was made and used.", networks.nat),
    ("proxy", "The proof: a sandbox with a proxy was made and used.", networks.proxy),
    ("id-ranges", "lisrt maps one id: programs inside are one user, but with idmap=subuid.", surroundings.id_ranges),
    (
        "bwrap",
        "lisrt gives bwrap no destination inside a tree that programs can write to.",
        surroundings.bwrap,
    ),
    ("python", "What a sandbox of image host finds as python3.", surroundings.python),
)

ROWS = tuple(
    Row(name, group, meaning, judge)
    for group, rows in (
        (Group.ISOLATION, _ISOLATION),
        (Group.LIMITS, _LIMITS),
        (Group.ROOM, _ROOM),
        (Group.HOST, _HOST),
    )
    for name, meaning, judge in rows
)
NAMES = tuple(row.name for row in ROWS)
