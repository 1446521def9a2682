"""What you ask for: values, checked when they are made."""

from __future__ import annotations

import errno
import math
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Argument: TypeAlias = str | bytes | os.PathLike[str]
PATH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host, shown in the sandbox at `target`. Read-only unless `writable`.

    The source must exist. Links in it are resolved now, once: what is mounted is what it names at this moment.
    Set-user-ID bits and device nodes in it have no effect. Raises ValueError, FileNotFoundError.
    """

    source: str
    target: str
    writable: bool = False

    def __init__(self, source: Argument, target: str, *, writable: bool = False) -> None:
        if not os.fspath(source):
            raise ValueError("the mount's source must not be empty")  # realpath would take it for the current directory
        canonical = os.path.realpath(os.fsdecode(source), strict=True)
        object.__setattr__(self, "source", canonical)
        object.__setattr__(self, "target", absolute(target, what="the mount's target"))
        object.__setattr__(self, "writable", bool(writable))
        if self.target == "/":
            raise ValueError("a mount can't replace the sandbox's root; choose a target below it")
        if self.target.split("/")[1] in ("proc", "dev"):
            raise ValueError(f"a mount can't lie on {self.target}: lisrt makes /proc and /dev itself")

    @classmethod
    def of_ours(cls, source: str, target: str) -> Mount:
        """One of lisrt's own making, which may lie where others may not."""
        made = cls(source, "/ours")
        object.__setattr__(made, "target", target)
        return made


def mounts_of(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """TypeError for what are no mounts."""
    if isinstance(mounts, Mount):
        raise TypeError("mounts is a list: mounts=[Mount('/data', '/data')]")
    found = tuple(mounts)
    if not all(isinstance(mount, Mount) for mount in found):
        raise TypeError("mounts are Mount objects: mounts=[Mount('/data', '/data')]")
    return found


def host_name(name: str | None) -> str:
    """That of the sandbox. ValueError."""
    name = name or "sandbox"
    if not 0 < len(os.fsencode(name)) <= 64 or "\0" in name or name.split() != [name]:
        raise ValueError(f"a host name has 1 to 64 bytes, and no blanks: {name!r}")
    return name


def octets(data: str | bytes, *, what: str = "data is str or bytes") -> bytes:
    """What is to be written, text as UTF-8. TypeError with `what`."""
    if not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"{what}, not {type(data).__name__}")
    return data.encode() if isinstance(data, str) else bytes(data)


def absolute(path: str, *, what: str = "path", base: str | None = None) -> str:
    """A normal absolute path inside the sandbox; relative ones are taken from `base`, or refused without one."""
    path = os.fsdecode(path)
    if not path or "\0" in path:
        raise ValueError(f"{what} must not be empty or hold a NUL byte: {path!r}")
    if len(os.fsencode(path)) >= PATH_MAX:
        raise ValueError(f"{what} is too long ({len(os.fsencode(path))} bytes; the kernel takes {PATH_MAX - 1})")
    if not path.startswith("/"):
        if base is None:
            raise ValueError(f"{what} must be absolute: {path!r}")
        path = f"{base}/{path}"
    normal = posixpath.normpath(path)
    return "/" + normal.lstrip("/")


def located(path: Argument, *, base: str) -> bytes:
    """A path inside the sandbox as the bytes that its kernel gets: `..` and links are resolved there, not here."""
    raw = os.fsencode(path)
    if not raw or b"\0" in raw:
        raise ValueError(f"a path must not be empty or hold a NUL byte: {os.fsdecode(raw)!r}")
    if len(raw) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(raw[:200]) + "...")
    return raw if raw.startswith(b"/") else os.fsencode(base) + b"/" + raw


def arguments(argv: object) -> list[bytes]:
    """An argument vector as bytes. ValueError for an empty one or a NUL byte, TypeError for anything else."""
    if isinstance(argv, (str, bytes)) or not isinstance(argv, (list, tuple)):
        raise TypeError("argv is a list of arguments, as ['ls', '-l']; for a shell command use sh()")
    if not argv:
        raise ValueError("argv is empty")
    for item in argv:
        if not isinstance(item, (str, bytes, os.PathLike)):
            raise TypeError(f"an argument is str, bytes or a path, not {type(item).__name__}: {item!r}")
    encoded = [os.fsencode(item) for item in argv]
    for item in encoded:
        if b"\0" in item:
            raise ValueError(f"an argument holds a NUL byte, which no program can receive: {item[:60]!r}")
    return encoded


def environment(env: object) -> dict[bytes, bytes]:
    """Environment variables as bytes. ValueError for names that are empty or hold '=', or any NUL byte."""
    if env is None:
        return {}
    if not hasattr(env, "items"):
        raise TypeError("env is a mapping of names to values")
    encoded: dict[bytes, bytes] = {}
    for name, value in env.items():
        if not isinstance(name, (str, bytes)) or not isinstance(value, (str, bytes, os.PathLike)):
            raise TypeError(f"names and values of env are str or bytes: {name!r}: {value!r}")
        name, value = os.fsencode(name), os.fsencode(value)
        if not name or b"=" in name or b"\0" in name + value:
            raise ValueError(f"not an environment variable: {os.fsdecode(name)!r}")
        encoded[name] = value
    return encoded


def seconds(timeout: float | None, *, what: str = "a timeout") -> float | None:
    """A time limit: None, or a finite number above 0. ValueError otherwise."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{what} is a number of seconds, or None")
    if not math.isfinite(timeout) or timeout <= 0:
        raise ValueError(f"{what} must be above 0 seconds and finite, or None for no limit: {timeout!r}")
    return min(float(timeout), 10.0**9)


def uid(user: object) -> int:
    """A user number: 0 to 2**31 - 1. ValueError otherwise."""
    if isinstance(user, bool) or not isinstance(user, int) or not 0 <= user < 2**31:
        raise ValueError(f"user must be a uid, 0 or above: {user!r}")
    return user


def user_name(user: object) -> int | str | None:
    """A user number, or a name, or None. ValueError otherwise."""
    if isinstance(user, str):
        if not user or "\0" in user or ":" in user.partition(":")[2]:
            raise ValueError(f"user must be a uid or a name: {user!r}")
        return user
    return None if user is None else uid(user)


def permissions(mode: object) -> int:
    """The mode of a new file: 0 to 0o777. ValueError otherwise, for set-user-ID and sticky bits too."""
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777:
        raise ValueError(f"mode must be permission bits, 0 to 0o777: {mode!r}")
    return mode
