"""The directory on local disk that holds the writable layers of one process.

    DIR/lisrt-UID/            "base", mode 0700, ours
        .lock                 taken shared to make an owner directory, exclusively to look for dead ones
        .layers/              images' layers, unpacked (store/cache.py)
        .elsewhere/           in one of the fixed places: links to bases that are not in one
        PID-TOKEN/            "owner directory", locked as long as anyone of its owner lives
            owner             the record that says whose it is (owners.py)
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from lisrt.kernel import native, owners

_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_TOP_OF_HIERARCHY = 0x00020000
FIXED = ("/var/tmp", "/tmp", "/dev/shm")
_ELSEWHERE = ".elsewhere"


@dataclass(frozen=True, slots=True)
class Owner:
    """A fresh, locked owner directory. `fd` carries the lock; `base_fd` is the directory above."""

    path: str
    fd: int
    base_fd: int

    def remove(self) -> None:
        """Deletes it. OSError; FileNotFoundError when the helper has done so."""
        native.remove_owner(self.base_fd, os.path.basename(self.path))

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.base_fd)


def candidates(named: str | None) -> list[str]:
    """Where to try, in order: the named one alone, else node-local places. Memory (/dev/shm) comes last."""
    if named:
        return [named]
    environment = (os.environ.get(name) for name in ("SLURM_TMPDIR", "TMPDIR"))
    ordered = [place for place in environment if place] + list(FIXED)
    return list(dict.fromkeys(os.path.abspath(place) for place in ordered))


def bases(named: str | None) -> list[str]:
    """Where this user's owner directories may be on this host, whether or not there are any now."""
    places = [*([named] if named else []), *candidates(None)]
    found = [base_in(place) for place in places]
    for place in FIXED:
        found += [target for _, target in _links(os.path.join(base_in(place), _ELSEWHERE))]
    return list(dict.fromkeys(found))


def claim(directory: str, launcher: str) -> Owner:
    """Makes and locks an owner directory under `directory`. OSError; PermissionError when the base is not ours."""
    base = base_in(directory)
    base_fd = open_base(base)
    try:
        with contextlib.suppress(FileExistsError):  # before the helper starts, which shows it to all that it makes
            os.mkdir(".layers", 0o700, dir_fd=base_fd)
        lock = os.open(".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base_fd)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            name, fd = _make_owner(base_fd, launcher)
        finally:
            os.close(lock)
    except BaseException:
        os.close(base_fd)
        raise
    if os.path.dirname(base) not in FIXED:
        _remember(base)
    return Owner(os.path.join(base, name), fd, base_fd)


def forget_empty(base: str) -> None:
    """Drops the note about a base that has nothing in it any more."""
    with owners.held_empty(base) as is_empty:
        if is_empty:
            for place in FIXED:
                for link, target in _links(os.path.join(base_in(place), _ELSEWHERE)):
                    if target == base:
                        with contextlib.suppress(OSError):  # another one was faster, or the place is read-only now
                            os.unlink(link)


def base_in(directory: str) -> str:
    """Where this user's things lie in a directory that many share."""
    return os.path.join(os.path.realpath(directory), f"lisrt-{os.geteuid()}")


def open_base(base: str) -> int:
    """A descriptor of it, made if it is missing. OSError where it is not ours alone."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(base, 0o700)
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_ours(base, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make_owner(base_fd: int, launcher: str) -> tuple[str, int]:
    name = f"{os.getpid()}-{secrets.token_hex(6)}"
    os.mkdir(name, 0o700, dir_fd=base_fd)
    fd = -1
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base_fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _spread(fd)
        owners.write(fd, owners.this_process(launcher))
    except BaseException:
        native.remove_owner(base_fd, name)  # the disk is full, say
        if fd >= 0:
            os.close(fd)
        raise
    return name, fd


def _remember(base: str) -> None:
    """Notes where a base is, for `lisrt gc` of a program with other settings. On this host's disk: other hosts have others.

    One link a base, made when it is first used; links that lead nowhere go then. It is a courtesy: a host with no room for
    it loses nothing but the note.
    """
    for place in FIXED:
        with contextlib.suppress(OSError):
            os.close(open_base(base_in(place)))
            notes = os.path.join(base_in(place), _ELSEWHERE)
            with contextlib.suppress(FileExistsError):
                os.mkdir(notes, 0o700)
            with contextlib.suppress(FileExistsError):
                os.symlink(base, os.path.join(notes, hashlib.sha256(os.fsencode(base)).hexdigest()[:24]))
                for link, target in _links(notes):
                    if not os.path.isdir(target):
                        os.unlink(link)
            return


def _links(directory: str) -> Iterator[tuple[str, str]]:
    """(link, what it names)"""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        link = os.path.join(directory, name)
        with contextlib.suppress(OSError):  # no link, or gone meanwhile
            yield link, os.readlink(link)


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
