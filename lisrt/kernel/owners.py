"""Owner directories from outside: whose each is, whether its owner lives, and the removal of those of the dead.

The lock decides: it is free when nobody of an owner lives, and the kernel frees it whatever happens. The record in the
directory says whose it is, and, where hosts share the file system, whether our kernel is the one that knows the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum

from lisrt.kernel import native, procfs

RECORD = "owner"  # csrc/outside.h: LIS_OWNER_RECORD
_HEADING = "lisrt-owner 1"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Record:
    """Who an owner is. Never its arguments or environment: those hold keys."""

    pid: int
    start: int
    """Clock ticks since boot: tells the owner from a later process with its pid. 0: unknown."""
    pid_namespace: int
    boot: str
    host: str
    uid: int
    program: str
    """File name of the script or program."""
    launcher: str
    started: int
    """Seconds since 1970."""

    def encode(self) -> bytes:
        lines = [_HEADING, *(f"{field.name} {getattr(self, field.name)}" for field in fields(self))]
        return "\n".join([*lines, ""]).encode(errors="replace")

    @classmethod
    def decode(cls, text: bytes) -> Record | None:
        """None when it is damaged, or of a version that we don't know."""
        heading, *lines = text.decode(errors="replace").split("\n")
        pairs = dict(line.partition(" ")[::2] for line in lines if line)
        try:
            values = {field.name: int(pairs[field.name]) if field.type == "int" else pairs[field.name] for field in fields(cls)}
        except (KeyError, ValueError):
            return None
        return cls(**values) if heading == _HEADING else None  # type: ignore[arg-type]


class State(StrEnum):
    """What is known of an owner."""

    ALIVE = "alive"
    DEAD = "dead"
    ELSEWHERE = "elsewhere"
    """Its lock is free here, but it may live on another host that shares the file system."""


@dataclass(frozen=True, slots=True)
class Found:
    """An owner directory. `record` is None when the directory has none that can be read."""

    base: str
    name: str
    record: Record | None
    state: State
    locked: bool

    @property
    def path(self) -> str:
        """Where it is."""
        return os.path.join(self.base, self.name)


def this_process(launcher: str) -> Record:
    """The record of the calling process."""
    own = procfs.process("self")
    return Record(
        pid=os.getpid(),
        start=own.start if own else 0,
        pid_namespace=procfs.pid_namespace(),
        boot=procfs.boot() or "-",
        host=socket.gethostname() or "-",
        uid=os.geteuid(),
        program=_program(),
        launcher=launcher,
        started=int(time.time()),
    )


def write(directory_fd: int, record: Record) -> None:
    """Puts the record into an owner directory, whole or not at all. OSError."""
    new = f"{RECORD}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    try:
        text = record.encode()
        if os.write(fd, text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), new)
    finally:
        os.close(fd)
    os.rename(new, RECORD, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


def read(directory_fd: int) -> Record | None:
    """The record of an owner directory; None when there is none."""
    try:
        fd = os.open(RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    except OSError:
        return None  # the owner of an older version had none; or it is being removed
    try:
        return Record.decode(os.read(fd, 4096))
    except OSError:
        return None  # something else under that name
    finally:
        os.close(fd)


def survey(base: str) -> list[Found]:
    """The owner directories in a base, oldest name first. An empty list when there is no such base, or it is not ours."""
    with _opened(base) as base_fd:
        if base_fd is None:
            return []
        with _alone(base_fd):
            return [found for name in _names(base_fd) if (found := _examine(base, base_fd, name, None))]


def remove_dead(found: Found, *, all_hosts: bool) -> bool:
    """Removes the directory of an owner that is dead, however long it takes. False when it is not, or was faster gone.

    `all_hosts`: also when it may live elsewhere. A lock that is held protects a directory in any case. OSError.
    """
    with _opened(found.base) as base_fd, contextlib.ExitStack() as open_files:
        if base_fd is None:
            return False
        with _alone(base_fd):
            now = _examine(found.base, base_fd, found.name, open_files)
            if now is None or now.locked or not (now.state is State.DEAD or all_hosts):
                return False
        native.remove_owner(base_fd, found.name)
        return True


@contextlib.contextmanager
def held_empty(base: str) -> Iterator[bool]:
    """Whether a base has no owner directory, or is gone; while the body runs, it stays so."""
    with _opened(base) as base_fd:
        if base_fd is None:
            yield True
            return
        with _alone(base_fd):
            yield not _names(base_fd)


def _examine(base: str, base_fd: int, name: str, keep: contextlib.ExitStack | None) -> Found | None:
    """One directory; None when it is gone. When its lock was free, `keep` gets the descriptor that holds it now."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=base_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None  # a link: not ours
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = False
    except BlockingIOError:
        locked = True
    if keep is None:
        record = read(fd)
        os.close(fd)
    else:
        keep.callback(os.close, fd)
        record = read(fd)
    if locked:
        state = State.DEAD if record and _process_is_gone(record) else State.ALIVE
    else:
        state = State.DEAD if native.owner_is_of_here(base_fd, name) else State.ELSEWHERE
    return Found(base, name, record, state, locked)


def _process_is_gone(record: Record) -> bool:
    """Whether the pid of the record is free or another process's by now. Where our /proc can't tell, it is not."""
    if record.boot != procfs.boot() or record.pid_namespace != procfs.pid_namespace() or not record.start:
        return False
    process = procfs.process(record.pid)
    return process is None or process.start != record.start


@contextlib.contextmanager
def _opened(base: str) -> Iterator[int | None]:
    try:
        fd = os.open(base, _DIRECTORY)
    except OSError:
        yield None  # no such place, or one that we have no business in
        return
    try:
        status = os.fstat(fd)
        yield fd if status.st_uid == os.geteuid() and not status.st_mode & 0o077 else None
    finally:
        os.close(fd)


@contextlib.contextmanager
def _alone(base_fd: int) -> Iterator[None]:
    """While nobody is about to make and lock a directory: one that is half-made looks like a dead one's."""
    try:
        lock = os.open(".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base_fd)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
            raise
        yield  # nobody can make one either
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _names(base_fd: int) -> list[str]:
    return sorted(name for name in os.listdir(base_fd) if not name.startswith("."))


def _program() -> str:
    """`train.py` for a script, `lisrt` for a module or an installed program, `python3` for what came from stdin."""
    first = sys.argv[0] if sys.argv and isinstance(sys.argv[0], str) else ""
    name = os.path.basename(first)
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(first))
    if name in ("", "-", "-c", "-m"):
        name = os.path.basename(sys.executable or "") or "python"
    return "".join(character if character.isprintable() else "?" for character in name)[:64]
