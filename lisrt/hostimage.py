"""The image `host`: a skeleton of directories, and the part of /etc that programs need.

An allow-list, never "everything but". What is not named here is not in the sandbox.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

# Configuration that libraries and interpreters read, and that holds no names of people, hosts or services of the site.
# Not here, on purpose: ssh, munge, slurm, krb5, sssd, ldap, fstab, machine-id, profile.d (module systems that point at
# file systems which are not there), and pip.conf, xdg, npmrc, gitconfig, wgetrc, maven, R, which may hold tokens.
ETC = (
    "ImageMagick-*", "X11", "alternatives", "bash.bashrc", "bash_completion", "bash_completion.d", "bashrc",
    "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts", "gai.conf", "gnutls",
    "groff", "host.conf", "inputrc", "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf",
    "localtime", "login.defs", "lsb-release", "magic", "magic.mime", "mailcap", "manpath.config", "mime.types",
    "nanorc", "netconfig", "networks", "os-release", "papersize", "perl", "pki", "profile", "protocols", "python*",
    "redhat-release", "rpc", "services", "sgml", "shells", "skel", "ssl", "system-release", "terminfo", "texmf", "timezone",
    "vim", "xattr.conf", "xml",
)  # fmt: skip
ETC_NEVER = ("ssl/private", "pki/tls/private", "pki/entitlement", "pki/consumer", "pki/product", "pki/rpm-gpg")
LARGEST_FILE = 16 << 20

SYNTHETIC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "user:x:1000:1000:user:/home/user:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nuser:x:1000:\nnogroup:x:65534:\n",
    # plain files only: the host's sssd and systemd sockets are not here
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\n"
    "services: files\nethers: files\nrpc: files\n",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "resolv.conf": "",
    "machine-id": "",
}

DIRECTORIES = {
    "dev": 0o755, "etc": 0o755, "home": 0o755, "home/user": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755,
    "proc": 0o755, "root": 0o700, "run": 0o755, "srv": 0o755, "testbed": 0o755, "tmp": 0o1777, "usr": 0o755,
    "var": 0o755, "var/cache": 0o755, "var/lib": 0o755, "var/log": 0o755, "var/tmp": 0o1777,
}  # fmt: skip

_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


Entry: TypeAlias = tuple[str, str, os.stat_result]
"""(path on the host, path below its /etc, its lstat)"""


def shared_skeleton(base: Path, workplace: Path, etc: str = "/etc") -> tuple[Path, int]:
    """The skeleton for all processes of this user, made when there is none or /etc has changed: (place, lock).

    It takes a thousand small files, which took most of a second on some disks, so it stays from process to process.
    Whoever uses it keeps the lock, a descriptor, open. `workplace` lies on the same file system, and is ours alone.
    """
    entries = list(_entries(etc))
    place = base / f".host-{_digest(entries)}"
    made = workplace / "host"
    while (lock := _lock_whole(place)) is None:
        try:
            build_skeleton(made, entries)
            if _publish(made, place):
                _retire(base, place.name, workplace)
            elif (lock := _lock_whole(place)) is None:  # damaged, and in use: then this process has one of its own
                return made, os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:  # another process was faster
                shutil.rmtree(made)
                return place, lock
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    return place, lock


def _publish(made: Path, place: Path) -> bool:
    """Moves a skeleton to where all processes look for it. False when there is one."""
    listing = made.with_name("listing")
    listing.write_text(_listing(made))
    os.rename(listing, _listing_of(place))
    try:
        os.rename(made, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def build_skeleton(root: Path, entries: Iterable[Entry]) -> None:
    """Makes `root`: the directories and links of a Linux system, and what programs need of /etc. OSError."""
    root.mkdir(parents=True)
    for name, mode in DIRECTORIES.items():
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name in _TOP:
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
        elif os.path.isdir(f"/{name}"):
            (root / name).mkdir()
    (root / "var/run").symlink_to("/run")
    (root / "var/lock").symlink_to("/run/lock")
    for source, relative, status in entries:
        _copy(source, root / "etc" / relative, status)
    for name, text in SYNTHETIC.items():
        (root / "etc" / name).write_text(text)
    (root / "etc/mtab").symlink_to("/proc/mounts")


def unmerged_directories() -> list[str]:
    """Those of /bin, /lib, ... that are directories of their own here, not links into /usr."""
    return [name for name in _TOP if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]


def _entries(etc: str) -> Iterator[Entry]:
    """What is to be copied, directories before what is in them."""
    pending = [
        (entry, entry.name)
        for entry in _sorted_entries(etc)
        if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in ETC) and entry.name not in SYNTHETIC
    ]
    while pending:
        entry, relative = pending.pop()
        if relative in ETC_NEVER:
            continue
        status = entry.stat(follow_symlinks=False)
        yield entry.path, relative, status
        if stat.S_ISDIR(status.st_mode):
            pending += [(inner, f"{relative}/{inner.name}") for inner in _sorted_entries(entry.path)]


def _digest(entries: list[Entry]) -> str:
    """Another one whenever the skeleton would be another one."""
    seen = [(name, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for _, name, s in entries]
    links = [(name, os.path.islink(f"/{name}"), os.path.realpath(f"/{name}")) for name in _TOP if os.path.exists(f"/{name}")]
    rules = (DIRECTORIES, SYNTHETIC, ETC_NEVER, LARGEST_FILE)
    return hashlib.sha256(repr((rules, links, seen)).encode(errors="surrogateescape")).hexdigest()[:16]


def _copy(source: str, target: Path, status: os.stat_result) -> None:
    try:
        if stat.S_ISLNK(status.st_mode):
            target.symlink_to(os.readlink(source))
        elif stat.S_ISDIR(status.st_mode):
            target.mkdir()
        elif stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_FILE:
            shutil.copyfile(source, target)
            target.chmod(0o755 if status.st_mode & 0o111 else 0o644)
    except PermissionError:
        pass  # what the user can't read out here, programs can do without in there


def _lock_whole(place: Path) -> int | None:
    """A shared lock on the skeleton if it is as it was made: some hosts delete old files from /tmp one by one."""
    lock = _lock(place, fcntl.LOCK_SH)
    if lock is None:
        return None
    try:
        if _listing_of(place).read_text() == _listing(place):
            return lock
    except OSError:
        pass  # no list, or a file that went away meanwhile
    os.close(lock)
    damaged = _lock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if damaged is not None:
        shutil.rmtree(place, ignore_errors=True)
        os.close(damaged)
    return None


def _listing_of(place: Path) -> Path:
    return place.with_name(place.name.replace(".host-", ".list-"))


def _listing(root: Path) -> str:
    """A digest of all names, types and sizes."""
    found = []
    for at, directories, names in os.walk(root):
        for name in directories + names:
            status = os.lstat(os.path.join(at, name))
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            found.append((os.path.relpath(os.path.join(at, name), root), status.st_mode, size))
    return hashlib.sha256(repr(sorted(found)).encode(errors="surrogateescape")).hexdigest()


def _lock(place: Path, how: int) -> int | None:
    """A descriptor that holds the lock; None when there is no such directory, or it is in use or retired."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, how)
        if os.path.samestat(os.fstat(fd), os.stat(place)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _retire(base: Path, current: str, workplace: Path) -> None:
    """Skeletons of an /etc that was, and that nobody uses any more, go the way of `workplace`."""
    for old in base.glob(".host-*"):
        if old.name == current:
            continue
        lock = _lock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            os.rename(old, workplace / old.name)
            _listing_of(old).unlink(missing_ok=True)
            os.close(lock)


def _sorted_entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, PermissionError):
        return
