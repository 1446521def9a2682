"""The directory on local disk that holds the writable layers of one process.

    DIR/lisrt-UID/            "base", mode 0700, ours
        .lock                 taken shared to make an owner directory, exclusively to look for dead ones
        PID-TOKEN/            "owner directory", locked as long as anyone of its owner lives
"""

from __future__ import annotations

import array
import fcntl
import os
import secrets
from dataclasses import dataclass

_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_TOP_OF_HIERARCHY = 0x00020000


@dataclass(frozen=True, slots=True)
class Owner:
    """A fresh, locked owner directory. `fd` carries the lock; `base_fd` is the directory above."""

    path: str
    fd: int
    base_fd: int

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.base_fd)


def candidates(named: str | None) -> list[str]:
    """Where to try, in order: the named one alone, else node-local places. Memory (/dev/shm) comes last."""
    if named:
        return [named]
    environment = (os.environ.get(name) for name in ("SLURM_TMPDIR", "TMPDIR"))
    ordered = [place for place in environment if place] + ["/var/tmp", "/tmp", "/dev/shm"]
    return list(dict.fromkeys(os.path.abspath(place) for place in ordered))


def claim(directory: str) -> Owner:
    """Makes and locks an owner directory under `directory`. OSError; PermissionError when the base is not ours."""
    base = os.path.join(os.path.realpath(directory), f"lisrt-{os.geteuid()}")
    try:
        os.mkdir(base, 0o700)
    except FileExistsError:
        pass
    base_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_ours(base, base_fd)
        lock = os.open(".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base_fd)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            name = f"{os.getpid()}-{secrets.token_hex(6)}"
            os.mkdir(name, 0o700, dir_fd=base_fd)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base_fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _spread(fd)
        finally:
            os.close(lock)
    except BaseException:
        os.close(base_fd)
        raise
    return Owner(os.path.join(base, name), fd, base_fd)


def _spread(fd: int) -> None:
    """Tells ext4 that the directories below are unrelated (as `chattr +T`), so that it spreads them over the disk.

    Without a journal ext4 looks at every inode of a group that was deleted in the last minutes before it takes one:
    with all of them in one group, making the next directory took milliseconds. Elsewhere the hint does nothing.
    """
    flags = array.array("l", [0])
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags)
        flags[0] |= _TOP_OF_HIERARCHY
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, flags)
    except OSError:
        pass  # a file system that has no such flag


def _check_ours(base: str, fd: int) -> None:
    # /tmp is everybody's: another user may have made the directory first, to read what lands in it
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise PermissionError(1, f"belongs to uid {status.st_uid}, not to you", base)
    if status.st_mode & 0o077:
        raise PermissionError(1, "is open to other users (mode must be 0700)", base)
