"""From a fault's stage, errno and path to a sentence that says what to do."""

from __future__ import annotations

import errno
import os

from lisrt.errors import HostError, LisrtError, SetupError
from lisrt.kernel import native, wire

DOCTOR = "Run `lisrt doctor` for the whole picture"

_USERNS = (
    "This host does not let you create user namespaces. Ask its administrator for user.max_user_namespaces above 0"
    " (and kernel.unprivileged_userns_clone=1 where that exists)"
)
_ID_RANGES = (
    "newuidmap or newgidmap has refused. They must be set-user-ID root, or have their file capabilities, which"
    " no_new_privs and nosuid file systems take away; and the ranges must be those of /etc/subuid and /etc/subgid"
)
_APPARMOR = (
    "AppArmor restricts user namespaces here (Ubuntu 23.10 and later). Ask the administrator for an AppArmor profile"
    " for lisrt, or for sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)
_ROOT_WITHOUT_POWER = (
    "You are root, yet without CAP_SETFCAP, as in a container that drops capabilities: the kernel then lets nobody map"
    " uid 0 (Linux 5.12). Start lisrt as another user (docker run --user 1000), or keep that capability"
)
_CONTAINER = (
    "You seem to be in a container whose /proc is masked. Start it with --security-opt unmask=ALL (Podman),"
    " --security-opt systempaths=unconfined (Docker) or procMount: Unmasked (Kubernetes)"
)
_NAMESPACES = "The number of namespaces is used up. Ask for higher user.max_user_namespaces, user.max_mnt_namespaces and so on"
_SCRATCH = "Name a directory on a local disk (ext4, xfs, btrfs or tmpfs) with $LISRT_SCRATCH or `scratch` in the settings file"
_OR_SCRATCH = _SCRATCH[0].lower() + _SCRATCH[1:]
_FULL = "The scratch file system is full, or your quota on it. Free some space (`lisrt gc`), or " + _OR_SCRATCH
_WRITES = ("writable-layer", "overlay", "directory", "mount-point")
"""Stages that write to the scratch file system."""

# (stage, errno or None for any) -> (row of doctor, what to do). These are the host's limits, not a plan's mistakes.
_HOST_FAULTS: dict[tuple[str, int | None], tuple[str, str]] = {
    ("user-namespace", None): ("user-namespaces", _USERNS),
    ("id-map", None): ("user-namespaces", _APPARMOR),
    ("id-ranges", None): ("id-ranges", _ID_RANGES),
    ("pid-namespace", None): ("user-namespaces", _APPARMOR),
    ("mount-namespace", None): ("user-namespaces", _APPARMOR),
    ("mount-namespace", errno.ENOSPC): ("user-namespaces", _NAMESPACES),
    ("proc", errno.EPERM): ("proc", _CONTAINER),
    ("dev", errno.EPERM): (
        "bwrap",
        "For root, bubblewrap needs CAP_SYS_ADMIN, to protect the host's devices: run lisrt as an ordinary user, or use"
        ' launcher="native"',
    ),
    ("overlay-probe", None): ("scratch", _SCRATCH),
    ("scratch", None): ("scratch", _SCRATCH),
    **{(stage, code): ("scratch", _FULL) for stage in _WRITES for code in (errno.ENOSPC, errno.EDQUOT)},
    ("network-namespace", errno.ENOSPC): (
        "network-namespace",
        "This host forbids network namespaces, or their number is used up (user.max_net_namespaces)."
        ' Ask for more; or network="filtered" refuses sockets by a filter, which is weaker; network="host" isolates nothing',
    ),
    ("namespaces", errno.ENOSPC): ("user-namespaces", _NAMESPACES),
    ("nested-user-namespace", errno.ENOSPC): ("user-namespaces", _NAMESPACES),
    # the kernel counts a mount that is not attached yet as a mount namespace, too
    **{(stage, errno.ENOSPC): ("user-namespaces", _NAMESPACES) for stage in ("proc", "dev", "devpts", "tmpfs", "layer")},
    ("process", errno.EAGAIN): ("processes", "No more processes can be started: see ulimit -u and the job's pids limit"),
    ("process", errno.ENOMEM): ("processes", "The pid limit (kernel.pid_max) or the memory is used up"),
    ("process", errno.EDQUOT): (
        "processes",
        "Your user's kernel keys are used up (/proc/key-users), perhaps by a program in a sandbox; end that",
    ),
    ("writable-layer", errno.ENOENT): (
        "scratch",
        "Somebody has deleted the scratch directory under this program. Start the program again, or " + _OR_SCRATCH,
    ),
    ("pid-namespace", errno.ENOSPC): ("user-namespaces", _NAMESPACES),
    ("cgroup", None): (
        "memory",
        'No control group could be made in the place for them ($LISRT_CGROUP). Limits(enforce="watchdog") does without',
    ),
    ("limit", errno.ENOSPC): ("memory", "More than 16,384 sandboxes with limits in one program are too many; start another one"),
    ("filter", None): ("system-calls", "This kernel was built without seccomp filters (CONFIG_SECCOMP_FILTER), or forbids them"),
    ("watchdog", None): ("processes", "No more processes can be started: see ulimit -u and the job's pids limit"),
    ("init", errno.ERANGE): ("processes", "Memory or locks are limited to under 8 GiB (ulimit -m, ulimit -x); lift that"),
}

# The limits of a process. They are nobody's but the process's own, whatever file or directory it was about to use.
_LIMITS = {
    errno.EMFILE: ("descriptors", "Raise the limit on open files: ulimit -n, or resource.setrlimit in your program"),
    errno.ENFILE: ("descriptors", "This host has too many open files in all (fs.file-max)"),
    errno.ETOOMANYREFS: (
        "descriptors",
        "Too many descriptors of this user wait in sockets, perhaps sent there by a program in a sandbox (unix(7))."
        " Close that sandbox, or raise ulimit -n",
    ),
    errno.EFBIG: ("helper", "Files are limited to less than the helper's 1 MB: ulimit -f unlimited"),
    errno.EAGAIN: ("processes", "No more processes can be started: see ulimit -u and the job's pids limit"),
    errno.ENOMEM: ("processes", "The memory, or the number of processes, is used up"),
}

_HINTS: dict[tuple[str, int | None], str] = {
    ("layer", errno.ENOENT): "The image is not there any more",
    ("mount-source", errno.ENOENT): "The source of the mount is not there any more",
    ("mount-source", errno.ELOOP): "A link has appeared on the way to it since the mount was checked",
    ("mount-point", errno.ELOOP): "The target passes through a link in the image; give the place that it leads to",
    ("mount-point", errno.ENOTDIR): "A part of the target is a file in the image",
    ("directory", errno.EROFS): "It lies in a part of the sandbox that is read-only; choose another workdir",
    ("directory", errno.ENOTDIR): "A part of it is a file; choose another workdir",
    ("directory", errno.ELOOP): "It passes through a link in the image; give the place that it leads to",
    ("directory", None): "Choose another workdir",
    ("mount-point", errno.EROFS): "It lies in a part of the sandbox that is read-only: its directory must be there already",
    ("overlay", errno.ELOOP): "Two layers of the image are the same directory, or one lies inside another",
    ("overlay", errno.EINVAL): "The file system below does not work with overlayfs (Lustre, GPFS and FUSE do not)",
    ("request", errno.EPROTO): "The Python package and its helper do not fit together; install lisrt again",
}


_INSTALL_BWRAP = (
    "Install your distribution's package `bubblewrap` (0.10 or later, or a maintained 0.8 or 0.9), or pip install 'lisrt[bwrap]'"
)
# Bubblewrap has no numbers for what went wrong, only these words, which its sources have had since 0.8.
_BWRAP_SAYS = (
    ("No permissions to create", ("user-namespaces", _USERNS)),
    ("Creating new namespace failed", ("user-namespaces", f'{_NAMESPACES}; if it is user.max_net_namespaces: network="host"')),
    ("setting up uid map", ("user-namespaces", _APPARMOR)),
    ("setting up gid map", ("user-namespaces", _APPARMOR)),
    ("Unexpected capabilities", ("user-namespaces", "Start lisrt without capabilities, as an ordinary user")),
    ("Failed to make / slave", ("user-namespaces", _APPARMOR)),
    ("Failed to mount tmpfs", ("user-namespaces", _APPARMOR)),
    ("unshare user ns", ("user-namespaces", _NAMESPACES)),
    ("Can't mount proc", ("proc", _CONTAINER)),
    ("loopback:", ("network-namespace", f'{_APPARMOR}; or give up network isolation by name: network="host"')),
    ("overlay", ("scratch", _SCRATCH)),
    ("No space left on device", ("scratch", f"The scratch file system is full. Free some space, or {_SCRATCH.lower()}")),
)

_INSIDE = ("directory", "mount-point", "mount")
"""Stages whose path is one below the sandbox's root."""


def limit_error(error: OSError, doing: str) -> HostError | None:
    """The HostError for a limit of this process that `error` ran into; None when it is about something else."""
    known = _LIMITS.get(error.errno or 0)
    if known is None:
        return None
    return HostError(f"could not {doing}: {error.strerror}", check=known[0], fix=f"{known[1]}. {DOCTOR}")


def bwrap_error(refused: list[tuple[str, str]]) -> HostError:
    """Why no bwrap can be used: for each that was found (the reason, what it said itself)."""
    if not refused:
        return HostError("there is no bubblewrap (bwrap) in PATH", check="bwrap", fix=f"{_INSTALL_BWRAP}. {DOCTOR}")
    words = next((words for _, words in refused if words), "")
    row, fix = _bwrap_words(words) or ("bwrap", _INSTALL_BWRAP)
    return HostError("; ".join(reason for reason, _ in refused), check=row, fix=f"{fix}. {DOCTOR}")


def no_launcher(native: HostError, other: HostError) -> HostError:
    """Neither works: the native launcher's reason and fix first."""
    reasons = [str(error).removesuffix(DOCTOR).rstrip(". ") for error in (native, other)]
    return HostError(". Nor does bubblewrap help: ".join(reasons), check=native.check, fix=f"{native.fix}")


def _bwrap_words(words: str) -> tuple[str, str] | None:
    return next((answer for said, answer in _BWRAP_SAYS if said in words), None)


def fault_error(fault: wire.Fault) -> LisrtError:
    """The exception for a fault: HostError when the host is the reason, else SetupError."""
    stages = native.stages()
    stage, words = stages[fault.stage] if 0 <= fault.stage < len(stages) else ("unknown", "do something")
    if stage == "bwrap":
        known = _bwrap_words(fault.path)
        if known:
            return HostError(f"could not {words}: {fault.path}", check=known[0], fix=f"{known[1]}. {DOCTOR}")
        return SetupError(f"could not {words}: {fault.path or 'it said nothing'}. {DOCTOR}", stage=stage, errno=fault.errno)
    path = f"/{fault.path.lstrip('/')}" if stage in _INSIDE and fault.path else fault.path
    at = f" ({path})" if path else ""
    message = f"could not {words}{at}: {os.strerror(fault.errno)}"
    if stage == "id-map" and os.geteuid() == 0:
        return HostError(message, check="user-namespaces", fix=f"{_ROOT_WITHOUT_POWER}. {DOCTOR}")
    host = _HOST_FAULTS.get((stage, fault.errno)) or _HOST_FAULTS.get((stage, None))
    if host:
        return HostError(message, check=host[0], fix=f"{host[1]}. {DOCTOR}")
    hint = _HINTS.get((stage, fault.errno)) or _HINTS.get((stage, None))
    return SetupError(f"{message}. {hint or DOCTOR}", stage=stage, errno=fault.errno, path=path)
