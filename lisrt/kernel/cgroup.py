"""Control groups that this user may make: where they are, and a directory for one process to make its own in.

    version 2   one hierarchy; a group with children that have controllers holds no processes itself
    version 1   a hierarchy for each controller; on many machines memory is still there
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SLICE = 16 << 20
CONTROLLERS = ("memory", "pids", "cpu")
_REST = "lisrt.rest"
"""The leaf for the processes that were in a version 2 group before it got children with controllers."""


@dataclass(frozen=True, slots=True)
class Place:
    """A group's directory in which this user may make others."""

    version: int
    path: str


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    point: str
    root: str
    options: frozenset[str]


def find(named: str | None) -> dict[str, Place]:
    """For each controller the place to use; those that there is none for are missing.

    `named` holds directories separated by ':', which an administrator has made; None looks at the groups that this
    process is in. Root's own groups are not used unassked for: they are the system's, whoever may write to them.
    """
    if named:
        return _of_paths([path for path in named.split(":") if path])
    if os.geteuid() == 0:
        return {}
    return _of_paths(_own_paths())


def manager_name() -> str:
    """The directory of this process: its pid and start time, which together no later process has."""
    return f"lisrt-{os.getpid()}-{_start_time(os.getpid())}"


def prepare(places: dict[str, Place]) -> dict[str, tuple[int, int]]:
    """(version, descriptor) for each controller of a fresh directory of this process. What fails is left out.

    Directories of dead processes are removed on the way. The caller closes the descriptors.
    """
    prepared: dict[str, tuple[int, int]] = {}
    unified = [name for name in CONTROLLERS if name in places and places[name].version == 2]
    for name in CONTROLLERS:
        if name not in places:
            continue
        place = places[name]
        try:
            collect(place)
            path = _make_manager(place, unified)
            prepared[name] = (place.version, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            continue  # the next way of enforcing takes over, and is reported
    return prepared


def collect(place: Place) -> int:
    """Removes what dead processes have left there; returns how many directories."""
    removed = 0
    for name in _directories(place.path):
        kind, _, identity = name.partition("-")
        pid, _, started = identity.partition("-")
        if kind != "lisrt" or not pid.isdigit() or _start_time(int(pid)) == started:
            continue
        removed += _remove(os.path.join(place.path, name))
    return removed


def remove_manager(places: dict[str, Place]) -> None:
    """Removes this process's directories, and all groups in them that are empty."""
    for place in set(places.values()):
        _remove(os.path.join(place.path, manager_name()))


def reclaim(place: Place, is_over: Callable[[], bool] = lambda: False) -> int | None:
    """Has the kernel take pages from a group while its processes live: clean files' pages, and where there is swap, all. How
    many bytes fewer it uses then; None where this kernel can't be asked (version 2 before Linux 5.19), or the group is gone.

    `is_over` may end it early. Version 1 is asked once; version 2 for so much at a time.
    """
    is_first = place.version == 1
    usage, asks = ("memory.usage_in_bytes", "memory.force_empty") if is_first else ("memory.current", "memory.reclaim")
    before = _read(f"{place.path}/{usage}")
    for _ in range(0, int(before or 0), _SLICE):
        if is_over():
            break
        try:
            _write(f"{place.path}/{asks}", str(_SLICE))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return None
            if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINTR):
                raise  # these say that there was less than that; or not yet: files are being written back
        if is_first:
            break
    after = _read(f"{place.path}/{usage}")
    return max(0, int(before) - int(after)) if before and after else None


def user_bus() -> bool:
    """Whether a systemd of this user answers at its socket's place."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return bool(runtime) and any(os.path.exists(f"{runtime}/{name}") for name in ("systemd/private", "bus"))


def _of_paths(paths: list[str]) -> dict[str, Place]:
    mounts = list(_mounts())
    found: dict[str, Place] = {}
    for path in map(os.path.realpath, paths):
        above = [mount for mount in mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
        if not above or not os.access(path, os.W_OK | os.X_OK):
            continue
        mount = max(above, key=lambda mount: len(mount.point))
        if mount.version == 2 and not os.access(f"{path}/cgroup.procs", os.W_OK):
            continue
        there = set(_read(f"{path}/cgroup.controllers").split()) if mount.version == 2 else mount.options
        for name in CONTROLLERS:
            if name in there and name not in found:
                found[name] = Place(mount.version, path)
    return found


def _own_paths() -> list[str]:
    paths = []
    groups = [line.split(":", 2) for line in _read("/proc/self/cgroup").splitlines()]
    for mount in _mounts():
        for _, controllers, group in groups:
            same = not controllers if mount.version == 2 else bool(set(controllers.split(",")) & mount.options)
            below = os.path.relpath(group, mount.root)
            if same and not below.startswith(".."):
                paths.append(os.path.normpath(f"{mount.point}/{below}"))
    return paths


def _mounts() -> Iterator[_Mount]:
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            fields = before.split(" ")
            root, point = (field.replace("\\040", " ") for field in fields[3:5])
            yield _Mount(2 if kind == "cgroup2" else 1, point, root, frozenset(options.rpartition(" ")[2].split(",")))


def _make_manager(place: Place, unified: list[str]) -> str:
    path = os.path.join(place.path, manager_name())
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return path
    if place.version == 2:
        try:
            _enable(place.path, unified)
            _enable(path, unified)
        except OSError:
            os.rmdir(path)
            raise
    return path


def _enable(path: str, controllers: list[str]) -> None:
    """Hands controllers to the children of a group. Its processes, ours and our children's, move to a leaf if they must."""
    missing = [name for name in controllers if name not in _read(f"{path}/cgroup.subtree_control").split()]
    if not missing:
        return
    words = " ".join(f"+{name}" for name in missing)
    if _read(f"{path}/cgroup.procs").strip():
        rest = os.path.join(path, _REST)
        os.makedirs(rest, exist_ok=True)
        for _ in range(10):  # while we move them they may start others
            pids = _read(f"{path}/cgroup.procs").split()
            for pid in pids:
                try:
                    _write(f"{rest}/cgroup.procs", pid)
                except ProcessLookupError:
                    pass  # it has ended meanwhile
            if not pids:
                break
    _write(f"{path}/cgroup.subtree_control", words)


def _remove(path: str) -> int:
    for name in _directories(path):
        _remove(os.path.join(path, name))
    try:
        os.rmdir(path)
    except OSError:
        return 0  # processes are in it, or it is somebody else's
    return 1


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _start_time(pid: int) -> str:
    """Clock ticks from the machine's start to the process's; "" when there is none."""
    stat = _read(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
