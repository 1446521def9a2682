"""From what is asked for to the steps that realise it. Pure: nothing in here touches the system."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from functools import lru_cache

from lisrt.enforcement import Enforcement
from lisrt.image import Root
from lisrt.kernel import steps
from lisrt.limits import Limits
from lisrt.spec import Mount

SHM_BYTES, SHM_INODES = 64 << 20, 16384
DEFAULT_WORKDIR = "/testbed"
NO_LIMITS, NOBODY = Limits(pids=None), Enforcement()


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps; `describe()` for people, `encoded` for the helper."""

    steps: tuple[steps.Step, ...]

    encoded: bytes = field(default=b"", compare=False)
    """The bytes that csrc/plan.c decodes."""

    def __post_init__(self) -> None:
        if not self.encoded:
            object.__setattr__(self, "encoded", steps.encode(self.steps))

    @property
    def has_mounts(self) -> bool:
        """Whether anything of the host but the image is shown."""
        return any(isinstance(step, steps.Bind) and step.mode != steps.Bind.OF_IMAGE for step in self.steps)

    def describe(self) -> str:
        """One numbered line a step."""
        words = [step.describe() for step in self.steps]
        powerless = next((at for at, step in enumerate(self.steps) if isinstance(step, steps.Filter)), len(words))
        real = any(isinstance(step, steps.User) and step.real for step in self.steps)
        but = " but those over this sandbox's own files, processes and ids" if real else ""
        words[powerless:powerless] = [f"drop every capability{but}, set no_new_privs"]
        return "\n".join(f"{number:2}. {line}" for number, line in enumerate([*words, "become PID 1"], 1))


@lru_cache(maxsize=256)
def make_plan(
    root: Root,
    *,
    network: str,
    mounts: tuple[Mount, ...],
    workdir: str,
    user: int,
    group: int | None = None,
    hostname: str,
    tmpfs: int = 0,
    read_only: bool = False,
    limits: Limits = NO_LIMITS,
    by: Enforcement = NOBODY,
    real_ids: bool = False,
) -> Plan:
    """The plan of one sandbox. Equal arguments give the same plan, and the sandbox's name is not part of it.

    `real_ids`: the spawner has subordinate ids.
    """
    options = workdir, user, group, hostname, limits, by, real_ids, read_only
    rest, encoded = _rest(root.binds, network, mounts, *options)
    namespaces = steps.NEWIPC | steps.NEWUTS | steps.NEWCGROUP | (steps.NEWNET if network == "none" else 0)
    first = steps.Namespaces(namespaces), steps.Overlay(root.layers, tmpfs)
    made = Plan((*first, *rest), steps.encode(first, rest, encoded))
    if len(made.steps) > steps.MAX_STEPS or len(made.encoded) > steps.MAX_BYTES:
        raise ValueError(f"too many mounts, or too long ones: {len(mounts)}; mount a directory above them instead")
    return made


@lru_cache(maxsize=256)
def _rest(
    binds: tuple[tuple[str, str], ...],
    network: str,
    mounts: tuple[Mount, ...],
    workdir: str,
    user: int,
    group: int | None,
    hostname: str,
    limits: Limits,
    by: Enforcement,
    real_ids: bool,
    read_only: bool,
) -> tuple[tuple[steps.Step, ...], bytes]:
    """All steps above the root's own, and their bytes: a snapshot's plan has other layers, and these again."""
    plan: list[steps.Step] = [
        steps.Proc("proc"),
        steps.Dev("dev"),
        steps.Devpts("dev/pts"),
        steps.Tmpfs("dev/shm", min(SHM_BYTES, (limits.memory or SHM_BYTES * 2) // 2), SHM_INODES, 0o1777),
        steps.Directory("tmp", 0o1777, exact=True),
    ]
    plan += [steps.Bind(source, target, steps.Bind.OF_IMAGE) for source, target in binds]
    # a mount below another one's target comes after it, whatever order they were given in
    for mount in sorted(mounts, key=lambda mount: mount.target.split("/")):
        mode = steps.Bind.WRITABLE if mount.writable else steps.Bind.READ_ONLY
        plan.append(steps.Bind(mount.source, mount.target.lstrip("/"), mode))
    if workdir not in ("/", "/tmp"):  # after the mounts: it may lie in one
        owner = (user, user if group is None else group) if real_ids else (0, 0)
        default = real_ids and workdir == DEFAULT_WORKDIR  # another one that is there is the image's own
        plan.append(steps.Directory(workdir.lstrip("/"), 0o755, uid=owner[0], gid=owner[1], given=default))
    if read_only:
        plan.append(steps.ReadOnly())
    plan.append(steps.Hostname(hostname))
    if network == "none":
        plan.append(steps.Loopback())
    plan += _limits(limits, by)
    plan += [steps.User(user, user if group is None else group, real_ids), steps.NoNesting()]
    if limits.pids is not None and by.pids is not None:
        plan.append(steps.Pids(limits.pids, by.pids))
    flags = 0 if user else steps.Filter.EMULATE_ROOT
    flags |= steps.Filter.LOCAL_SOCKETS if network == "filtered" else 0
    flags |= steps.Filter.KEEP_CPUS if by.cpus == steps.BY_OURSELVES else 0
    plan.append(steps.Filter(flags | (steps.Filter.REAL_IDS if real_ids else 0)))
    return tuple(plan), steps.encode_some(tuple(plan))


def _limits(limits: Limits, by: Enforcement) -> list[steps.Step]:
    """Those that hold before the inner user namespace is entered."""
    plan: list[steps.Step] = []
    if limits.open_files is not None:
        plan.append(steps.Rlimit(resource.RLIMIT_NOFILE, limits.open_files, limits.open_files))
    if limits.disk is not None:  # the one part that holds at once
        plan.append(steps.Rlimit(resource.RLIMIT_FSIZE, limits.disk, limits.disk))
    if limits.memory is not None and by.memory is not None:
        plan.append(steps.Memory(limits.memory, limits.swap, by.memory))
    if limits.cpus is not None and by.cpus is not None:
        plan.append(steps.Cpus(int(limits.cpus * 1000), by.cpus))
    if limits.disk is not None or limits.files is not None:
        plan.append(steps.Disk(limits.disk or 0, limits.files or 0))
    return plan
