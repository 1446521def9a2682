"""Where this process is in the cgroup hierarchies, and what the way up to their roots allows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lisrt.doctor.host import Host, Mounted


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Our own cgroup in one hierarchy."""

    version: int
    controllers: tuple[str, ...]
    mount: str
    directory: str

    def chain(self) -> Iterator[str]:
        """Its directory, its parent's, and so on up to the topmost one that we see."""
        place = self.directory
        while place != self.mount and place.startswith(self.mount + "/"):
            yield place
            place = os.path.dirname(place)
        yield self.mount


def own(host: Host) -> list[Cgroup]:
    """One for each hierarchy that is mounted where we can see it."""
    paths: dict[str, str] = {}
    for line in (host.read("/proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(",") if names else [""]:
            paths[name] = path
    found: dict[str, Cgroup] = {}
    for mount in host.mounts:
        if mount.type in ("cgroup", "cgroup2") and mount.place not in found:
            ours = _ours(host, mount, paths)
            if ours is not None:
                found[mount.place] = ours
    return list(found.values())


def _ours(host: Host, mount: Mounted, paths: Mapping[str, str]) -> Cgroup | None:
    names = ("",) if mount.type == "cgroup2" else tuple(name for name in mount.options.split(",") if name in paths)
    if not names or names[0] not in paths:
        return None
    inside = os.path.relpath(paths[names[0]], mount.root)
    # with a cgroup namespace between us and the mount, ours can lie above what is mounted
    directory = mount.place if inside == "." or inside.startswith("..") else f"{mount.place}/{inside}"
    if mount.type == "cgroup":
        return Cgroup(1, names, mount.place, directory)
    controllers = host.read(f"{directory}/cgroup.controllers") or ""
    return Cgroup(2, tuple(controllers.split()), mount.place, directory)


def version2(host: Host) -> Cgroup | None:
    """Ours in the one hierarchy of version 2."""
    return next((cgroup for cgroup in own(host) if cgroup.version == 2), None)


def version1(host: Host, controller: str) -> Cgroup | None:
    """Ours in the version 1 hierarchy of a controller."""
    return next((cgroup for cgroup in own(host) if cgroup.version == 1 and controller in cgroup.controllers), None)


def layout(host: Host) -> str:
    """v2, v1, hybrid (controllers are spread over both), or none."""
    versions = {cgroup.version for cgroup in own(host) if cgroup.controllers or cgroup.version == 2}
    return {frozenset({1, 2}): "hybrid", frozenset({1}): "v1", frozenset({2}): "v2"}.get(frozenset(versions), "none")


def probes(host: Host) -> list[str]:
    """The probes that find out what we may do there."""
    names = []
    two = version2(host)
    if two:
        names += [f"cgroup={two.directory}", f"clone-into-cgroup={two.directory}"]
    ones = (version1(host, controller) for controller in ("memory", "pids", "cpu"))
    names += [f"cgroup={one.directory}" for one in ones if one]
    return list(dict.fromkeys(names))


def room(host: Host, controller: str, names: tuple[tuple[str, str], tuple[str, str]]) -> tuple[int, str] | None:
    """What the tightest cgroup on the way up leaves: (limit - use, its directory). None where nothing limits.

    `names` are the files (limit, use) of version 2 and of version 1.
    """
    tightest: tuple[int, str] | None = None
    for cgroup in own(host):
        if controller not in cgroup.controllers:
            continue
        limit_name, use_name = names[0] if cgroup.version == 2 else names[1]
        for place in cgroup.chain():
            limit, use = host.number(f"{place}/{limit_name}"), host.number(f"{place}/{use_name}")
            if limit is None or limit >= 1 << 60 or use is None:  # v1 says "none" with a number of pages near 2^63
                continue
            left = max(0, limit - use)
            if tightest is None or left < tightest[0]:
                tightest = (left, place)
    return tightest
