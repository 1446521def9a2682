"""Who of this user has sandboxes on this host, seen from outside: nobody is asked, so nobody can fail to answer.

An owner directory has a directory for each sandbox, and a PID 1 has its sandbox's name among its mounts, which /proc
shows to everybody. Nothing is written anywhere for this: a file for each sandbox would cost more than its overlay.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import select
import signal
import stat
from dataclasses import asdict, dataclass
from typing import Any

from lisrt import idmap, settings, spawner
from lisrt.errors import HostError, ImageError
from lisrt.kernel import cgroup, helper, native, owners, procfs, scratch
from lisrt.store.catalog import Catalog

END_TIMEOUT = 5.0
COLLECT_TIMEOUT = 600.0

_ID = re.compile(r"b[0-9a-f]{16}")
_SNAPSHOT = re.compile(r"f[0-9a-f]{16}")
_LAYER = re.compile(r"(?:^|[,:])upperdir=[^,]*/(b[0-9a-f]{16})/u(?:,|$)")
_COPY = re.compile(r"/(b[0-9a-f]{16})/r$")
_LOWEST = re.compile(r"(?:^|,)lowerdir=(?:[^,:]*/\.emulation:)?([^,:]*)")


@dataclass(frozen=True, slots=True)
class Disk:
    """What a writable layer takes. `whole` is False when a part of it could not be looked at."""

    bytes: int
    files: int
    whole: bool


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A sandbox, or what is left of one: `pid` is its PID 1 as this host sees it, None when it has none (any more)."""

    id: str
    image: str | None
    pid: int | None
    age: float | None
    """Seconds."""
    processes: int
    """PID 1 included."""
    memory: int
    """Bytes resident, summed over its processes; pages that they share are counted once for each."""
    disk: Disk | None


@dataclass(frozen=True, slots=True)
class OwnerInfo:
    """A program with sandboxes, or what is left of one. `record` is None when it left none that can be read."""

    path: str
    state: owners.State
    record: owners.Record | None
    spawner: int | None
    """Pid of its spawner as this host sees it."""
    sandboxes: tuple[SandboxInfo, ...]

    @property
    def living(self) -> int:
        """How many of the sandboxes have a PID 1."""
        return sum(one.pid is not None for one in self.sandboxes)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        record = asdict(self.record) if self.record else {}
        names = ("pid", "program", "launcher", "started", "host")
        return {
            "state": str(self.state),
            **{name: record.get(name) for name in names},
            "spawner": self.spawner,
            "scratch": self.path,
            "living": self.living,
            "sandboxes": [asdict(one) for one in self.sandboxes],
        }


def bases() -> list[str]:
    """Every directory where owners of this user may be: the settings' first, then the usual ones and those noted."""
    return scratch.bases(settings.get("scratch"))


def take(*, disk: bool = False) -> list[OwnerInfo]:
    """All owners of this user, base after base. `disk`: add up what each writable layer takes, which reads all of it."""
    view = _View()
    return [view.owner(found, disk) for base in bases() for found in owners.survey(base)]


def remove_with_ids(found: owners.Found) -> bool:
    """Removes what sandboxes with subordinate ids have left, which only their user namespace's root can. Whether it is gone."""
    if found.record is not None and found.record.launcher != spawner.WITH_IDS:
        return False
    try:
        helper.output(["collect-subuid", found.base, *idmap.find().arguments()], COLLECT_TIMEOUT)
    except (OSError, HostError):  # the ranges have been taken away: what remains is an administrator's
        return False
    return not os.path.exists(found.path)


def end_spawner(found: owners.Found) -> bool:
    """Kills the spawner of an owner that is known to be dead, and with it all its sandboxes. Whether there was one.

    It would have ended by itself, unless somebody has stopped it or a disk holds it up. Waits until it is dead, 5 s at most.
    """
    pid = _View().spawner(found.name)
    if pid is None or found.state is not owners.State.DEAD:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True  # it has just ended
    try:
        # again, now that the pid can't become another process's
        if os.path.basename(_served(pid).get("/s", "")) == found.name:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(END_TIMEOUT * 1000)
    except ProcessLookupError:
        pass  # it has just ended, too
    finally:
        os.close(pidfd)
    return True


class _View:
    """One look at /proc. What starts or ends meanwhile is seen or not; nothing is seen wrong, since names are random."""

    def __init__(self) -> None:
        self._table = procfs.processes()
        self._children = procfs.below(self._table)
        self._inits: dict[str, tuple[procfs.Process, str]] = {}
        """By a sandbox's name: its PID 1, and the name of the directory that is the top layer of its image."""
        self._spawners: dict[str, int] = {}
        """By the name of an owner directory: pid."""
        for process in self._table.values():
            if process.name == "lisrt-init":
                self._add_init(process)
            elif process.name == "lisrt-spawner":
                self._add_spawner(process)

    def _add_init(self, process: procfs.Process) -> None:
        for mount in procfs.mount_points(process.pid):
            layer, lowest = _LAYER.search(mount.options), _LOWEST.search(mount.options)
            layer = layer or _COPY.search(mount.root)
            if mount.at != "/" or layer is None:
                continue
            name = layer[1]
            known = self._inits.get(name)
            if known is None or process.start < known[0].start:  # a program inside may take the name, but it came later
                native = layer[0].lstrip(",:").startswith("upperdir=/s/")
                self._inits[name] = process, mount.source if native else os.path.basename(lowest[1]) if lowest else ""

    def _add_spawner(self, process: procfs.Process) -> None:
        mounts = _served(process.pid)
        if "/s" in mounts:
            self._spawners[os.path.basename(mounts["/s"])] = process.pid

    def spawner(self, name: str) -> int | None:
        """The pid of the spawner that serves an owner directory of this name."""
        return self._spawners.get(name)

    def owner(self, found: owners.Found, disk: bool) -> OwnerInfo:
        spawner = self.spawner(found.name)
        try:
            names = sorted(name for name in os.listdir(found.path) if _ID.fullmatch(name))
        except OSError:
            names = []  # it has ended, and is being removed
        boxes = tuple(self._sandbox(found.path, name, disk) for name in names)
        return OwnerInfo(found.path, found.state, found.record, spawner, boxes)

    def _sandbox(self, owner: str, name: str, disk: bool) -> SandboxInfo:
        used = (_disk(os.path.join(owner, name, "u")) or _disk(os.path.join(owner, name, "r"))) if disk else None
        if name not in self._inits:
            return SandboxInfo(name, None, None, None, 0, 0, used)
        init, layer = self._inits[name]
        below = [self._table[pid] for pid in procfs.tree(self._children, init.pid)]
        memory = sum(process.resident for process in below)
        return SandboxInfo(name, self._image(layer), init.pid, init.age, len(below), memory, used)

    def _image(self, layer: str) -> str | None:
        """An image's name, from that of its top layer's directory."""
        if layer == "host" or layer.startswith(".host-"):
            return "host"
        if _SNAPSHOT.fullmatch(layer):
            return "a snapshot"
        return self._stored.get(layer)

    @functools.cached_property
    def _stored(self) -> dict[str, str]:
        """Names of the store's images, by the digest of their top layer."""
        try:
            found = Catalog().all()
        except (ImageError, OSError):
            return {}  # a store that can't be read is no reason not to show what runs
        named = [(one.names[0] if one.names else one.record.id[7:19], one.record) for one in found if one.record.layers]
        return {record.layers[-1].diff_id.removeprefix("sha256:"): name for name, record in reversed(named)}


def _served(spawner: int) -> dict[str, str]:
    """What is mounted where: the owner directory on /s, layers on /l/0, /l/1, ..."""
    return {mount.at: mount.root for mount in procfs.mount_points(spawner)}


def _disk(root: str) -> Disk | None:
    """None when there is no such layer. Programs inside may change the tree meanwhile: no link of theirs is followed."""
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    total, whole, seen, pending = 0, True, set[tuple[int, int]](), ["."]
    try:
        while pending:
            at = pending.pop()
            try:
                fd = native.open_beneath(top, os.fsencode(at), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError as error:
                whole = whole and error.errno == errno.ENOENT
                continue
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except OSError:
                            continue  # gone
                        if (status.st_dev, status.st_ino) in seen:
                            continue  # another name of the same file
                        seen.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * 512
                        if stat.S_ISDIR(status.st_mode):
                            pending.append(f"{at}/{entry.name}")
            finally:
                os.close(fd)
    finally:
        os.close(top)
    return Disk(total, len(seen), whole)


def remove_groups() -> int:
    """Removes control groups that dead programs have left where this program would make its own; how many."""
    return sum(cgroup.collect(place) for place in set(cgroup.find(settings.get("cgroup")).values()))
