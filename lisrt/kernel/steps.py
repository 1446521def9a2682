"""The steps of a plan: values that describe themselves and encode themselves for csrc/plan.c.

Targets are paths below the new root, without a leading slash.
"""

from __future__ import annotations

import os
import resource
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from lisrt.kernel.wire import MAGIC

NEWCGROUP, NEWUTS, NEWIPC, NEWNET = 0x02000000, 0x04000000, 0x08000000, 0x40000000
_NAMES = {NEWNET: "net", NEWIPC: "ipc", NEWUTS: "uts", NEWCGROUP: "cgroup"}
_LIMITS = {getattr(resource, name): name for name in dir(resource) if name.startswith("RLIMIT_")}

# The most that csrc/lis.h allows.
MAX_STEPS, MAX_BYTES = 256, 128 * 1024

Numbers: TypeAlias = tuple[int, int, int]


class Step(ABC):
    """One step. `kind` is its number in csrc/lis.h."""

    kind: ClassVar[int]
    __slots__ = ()

    def numbers(self) -> Numbers:
        return (0, 0, 0)

    def strings(self) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def describe(self) -> str:
        """What the step does, in one line."""


@dataclass(frozen=True, slots=True)
class Namespaces(Step):
    flags: int
    kind = 1

    def numbers(self) -> Numbers:
        return (self.flags, 0, 0)

    def describe(self) -> str:
        names = ["pid", "mount", *(name for flag, name in _NAMES.items() if self.flags & flag)]
        return f"create namespaces: {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class Overlay(Step):
    lowers: tuple[str, ...]
    tmpfs: int = 0
    """Bytes of memory that hold what is written; 0: the scratch directory does."""
    kind = 2

    def strings(self) -> tuple[str, ...]:
        return self.lowers

    def numbers(self) -> Numbers:
        return (self.tmpfs, 0, 0)

    def describe(self) -> str:
        where = f" of {self.tmpfs} bytes in memory" if self.tmpfs else ""
        return f"mount the root: a writable layer{where} over {' over '.join(self.lowers)}"


@dataclass(frozen=True, slots=True)
class Bind(Step):
    source: str
    target: str
    mode: int = 0
    kind = 3

    READ_ONLY: ClassVar[int] = 0
    WRITABLE: ClassVar[int] = 1
    OF_IMAGE: ClassVar[int] = 2
    """Read-only, and the same each time: kept ready."""

    def numbers(self) -> Numbers:
        return (self.mode, 0, 0)

    def strings(self) -> tuple[str, ...]:
        return (self.source, self.target)

    def describe(self) -> str:
        how = "WRITABLE" if self.mode == self.WRITABLE else "read-only"
        return f"bind the host's {self.source} on /{self.target}, {how}"


@dataclass(frozen=True, slots=True)
class Proc(Step):
    target: str
    kind = 4

    def strings(self) -> tuple[str, ...]:
        return (self.target,)

    def describe(self) -> str:
        return f"mount a fresh proc on /{self.target}, read-only, and hide what it tells about the host"


@dataclass(frozen=True, slots=True)
class Dev(Step):
    target: str
    kind = 5

    def strings(self) -> tuple[str, ...]:
        return (self.target,)

    def describe(self) -> str:
        return f"mount the read-only device directory on /{self.target}"


@dataclass(frozen=True, slots=True)
class Devpts(Step):
    target: str
    kind = 6

    def strings(self) -> tuple[str, ...]:
        return (self.target,)

    def describe(self) -> str:
        return f"mount a new devpts on /{self.target}"


@dataclass(frozen=True, slots=True)
class Tmpfs(Step):
    target: str
    size: int
    inodes: int
    mode: int
    kind = 7

    def numbers(self) -> Numbers:
        return (self.size, self.inodes, self.mode)

    def strings(self) -> tuple[str, ...]:
        return (self.target,)

    def describe(self) -> str:
        return f"mount a tmpfs of {self.size >> 20} MiB and {self.inodes} inodes on /{self.target}"


@dataclass(frozen=True, slots=True)
class Directory(Step):
    target: str
    mode: int
    exact: bool = False
    """The mode is for one that is there already, too."""
    uid: int = 0
    """Of a new one; 0 for who makes it. Others only with real ids."""
    gid: int = 0
    given: bool = False
    """Also of one that is there already, unless it is the host's."""
    kind = 8

    def numbers(self) -> Numbers:
        return (self.mode, int(self.exact) | int(self.given) << 1, self.uid << 32 | self.gid)

    def strings(self) -> tuple[str, ...]:
        return (self.target,)

    def describe(self) -> str:
        owner = f", of {self.uid}:{self.gid}" if self.uid or self.gid else ""
        return f"make the directory /{self.target}, mode {self.mode:04o}{owner}"


@dataclass(frozen=True, slots=True)
class Hostname(Step):
    name: str
    kind = 9

    def strings(self) -> tuple[str, ...]:
        return (self.name,)

    def describe(self) -> str:
        return f"set the host name to {self.name}"


@dataclass(frozen=True, slots=True)
class Loopback(Step):
    kind = 10

    def describe(self) -> str:
        return "bring the loopback interface up"


@dataclass(frozen=True, slots=True)
class Rlimit(Step):
    resource: int
    soft: int
    hard: int
    kind = 11

    def numbers(self) -> Numbers:
        return (self.resource, self.soft, self.hard)

    def describe(self) -> str:
        return f"set {_LIMITS.get(self.resource, self.resource)} to {self.soft} (hard {self.hard})"


@dataclass(frozen=True, slots=True)
class User(Step):
    uid: int
    gid: int
    real: bool = False
    """All the ids that there are, and these are the commands'. Else one, which is called that."""
    kind = 12

    def numbers(self) -> Numbers:
        return (self.uid, self.gid, int(self.real))

    def describe(self) -> str:
        if self.real:
            return f"enter a nested user namespace with all subordinate ids; commands are uid {self.uid}, gid {self.gid}"
        return f"enter a nested user namespace as uid {self.uid}, gid {self.gid}"


@dataclass(frozen=True, slots=True)
class NoNesting(Step):
    kind = 13

    def describe(self) -> str:
        return "forbid further namespaces"


@dataclass(frozen=True, slots=True)
class Filter(Step):
    """Comes after privileges are dropped, which the helper does by itself."""

    flags: int
    kind = 14

    EMULATE_ROOT: ClassVar[int] = 1
    KEEP_CPUS: ClassVar[int] = 2
    REAL_IDS: ClassVar[int] = 4
    LOCAL_SOCKETS: ClassVar[int] = 8

    def numbers(self) -> Numbers:
        return (self.flags, 0, 0)

    def describe(self) -> str:
        emulation = "; chown, setuid and mknod succeed and do nothing" if self.flags & self.EMULATE_ROOT else ""
        if self.flags & self.REAL_IDS:
            emulation = "; chown and setuid are real" + ("; mknod succeeds and does nothing" if emulation else "")
        cpus = "; the set of CPUs can't be changed" if self.flags & self.KEEP_CPUS else ""
        sockets = "; no sockets but local ones" if self.flags & self.LOCAL_SOCKETS else ""
        return f"allow the system calls of an ordinary program only{emulation}{cpus}{sockets}"


BY_OURSELVES, BY_CGROUP = 0, 1


@dataclass(frozen=True, slots=True)
class Memory(Step):
    bytes: int
    swap: int
    by: int
    kind = 15

    def numbers(self) -> Numbers:
        return (self.bytes, self.swap, self.by)

    def describe(self) -> str:
        by = "a control group" if self.by else "the watchdog"
        return f"limit memory to {self.bytes} bytes, swap to {self.swap}, by {by}"


@dataclass(frozen=True, slots=True)
class Pids(Step):
    count: int
    by: int
    kind = 16

    def numbers(self) -> Numbers:
        return (self.count, 0, self.by)

    def describe(self) -> str:
        group = " and a control group" if self.by else ""
        return f"limit processes and threads to {self.count}, by RLIMIT_NPROC of the inner user namespace{group}"


@dataclass(frozen=True, slots=True)
class Cpus(Step):
    thousandths: int
    by: int
    kind = 17

    def numbers(self) -> Numbers:
        return (self.thousandths, 0, self.by)

    def describe(self) -> str:
        return f"limit CPUs to {self.thousandths / 1000:g}, {'by a control group' if self.by else 'by CPU affinity'}"


@dataclass(frozen=True, slots=True)
class Disk(Step):
    bytes: int
    files: int
    kind = 18

    def numbers(self) -> Numbers:
        return (self.bytes, self.files, 0)

    def describe(self) -> str:
        amounts = [f"{self.bytes} bytes"] * bool(self.bytes) + [f"{self.files} files"] * bool(self.files)
        return f"limit the writable layer to {' and '.join(amounts)}, by adding it up"


@dataclass(frozen=True, slots=True)
class ReadOnly(Step):
    """After all that is mounted and made."""

    kind = 19

    def describe(self) -> str:
        return "make the root and all that is mounted in it read-only"


def encode(steps: tuple[Step, ...], last: tuple[Step, ...] = (), encoded: bytes = b"") -> bytes:
    """The wire form that csrc/plan.c decodes. `last`: steps that have been encoded by themselves, by `encode_some`."""
    return struct.pack("=II", MAGIC, len(steps) + len(last)) + encode_some(steps) + encoded


def encode_some(steps: tuple[Step, ...]) -> bytes:
    """A part of it."""
    parts = []
    for step in steps:
        strings = [os.fsencode(text) for text in step.strings()]
        parts.append(struct.pack("=HHQQQ", step.kind, len(strings), *step.numbers()))
        parts.extend(struct.pack("=I", len(text)) + text + b"\0" for text in strings)
    return b"".join(parts)
