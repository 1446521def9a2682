"""Files of registries that are kept for all sandboxes of this user: `$LISRT_CACHE`, else `downloads` in lisrt's home.

    HEX               by the SHA-256 of its URL: a block that says what it is, and the file
    HEX.part          being fetched; whoever does that has it locked
    HEX.part-TOKEN    the same, by somebody who could not wait for that, or whose file system has no locks

What has its final name was whole when it got it, by rename. It is read through and compared with its digest by each process once,
so that a crash or a bad disk makes it a file to be fetched again. All of this blocks, and is meant for threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lisrt import settings
from lisrt.limits import size
from lisrt.store import home

BLOCK = 4096
"""Bytes before the file itself."""
MOST_FILE = 4 << 30
"""Bytes of one file; a larger one is passed on and not kept."""
USUAL_SIZE = 10 << 30
KEPT_FOR = 7 * 86400.0
"""Seconds, for a file whose URL does not say what it has to be: a repository may have put another one in its place."""
DEAD_AFTER = 86400.0
"""Seconds after which a draft is nobody's any more, where locks can't tell."""
_CHUNK = 1 << 20
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # Lustre mounted without -o flock
# As PyPI has them, and whoever mirrors it: BLAKE2b of 256 bits, cut in three.
_BLAKE2 = re.compile(r"/packages/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/[^/]+\.(?:whl|gz|bz2|zip|tgz|egg)$")


@dataclass(frozen=True, slots=True)
class Head:
    """What a file is."""

    url: str
    kind: str
    """Its Content-Type; "" for none."""
    length: int
    """Bytes."""


@dataclass(slots=True)
class Whole:
    """A file that is there. Whoever has it closes `fd`; the file begins at BLOCK."""

    fd: int
    head: Head


def promised(url: str) -> str | None:
    """The BLAKE2b digest that a URL names."""
    match = _BLAKE2.search(url)
    return "".join(match.groups()) if match else None


class Draft:
    """A file that is being fetched. Ends with `commit` or `drop`; `fd` stays open and is the caller's to close."""

    def __init__(self, fd: int, path: Path, final: Path) -> None:
        self.fd = fd
        self._path, self._final = path, final
        self._sha256 = hashlib.sha256()
        self._blake2 = hashlib.blake2b(digest_size=32)
        self._head: Head | None = None
        self._at = 0
        self._is_over = False

    def begin(self, head: Head) -> None:
        """Takes the room for all of it: a full disk is known before anybody depends on it. OSError."""
        os.posix_fallocate(self.fd, 0, BLOCK + head.length)
        self._head = head

    def write(self, data: bytes) -> None:
        """The next bytes. OSError."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, BLOCK + self._at)
            self._sha256.update(view[:written])
            self._blake2.update(view[:written])
            self._at += written
            view = view[written:]

    def commit(self) -> bool:
        """Gives it its name, if it is what it should be. OSError."""
        head = self._head
        wanted = promised(head.url) if head else None
        if head is None or self._at != head.length or wanted not in (None, self._blake2.hexdigest()):
            self.drop()
            return False
        about = {"url": head.url, "kind": head.kind, "length": head.length, "sha256": self._sha256.hexdigest()}
        os.pwrite(self.fd, json.dumps(about).encode().ljust(BLOCK), 0)
        os.rename(self._path, self._final)
        self._is_over = True
        return True

    def drop(self) -> None:
        """Nothing stays of it, unless it has been given its name."""
        if self._is_over:
            return
        self._is_over = True
        with contextlib.suppress(OSError):  # the directory has gone, say
            os.unlink(self._path)


class Downloads:
    """The directory. Made when something is first kept."""

    def __init__(self, place: Path, most: int) -> None:
        self.place = place
        self.most = most
        self._sound: dict[str, tuple[int, int, int]] = {}
        """Names whose files have been compared with their digests: inode, size and time of then."""
        self._before_look = 0
        """Bytes that may be added until it is looked again how much there is."""

    def take(self, url: str, *, alone: bool = False) -> Whole | Draft | None:
        """A file, or the draft to fetch it into; None while another process does so. `alone`: a draft whoever else has one.

        OSError where nothing can be kept.
        """
        final = self.place / hashlib.sha256(url.encode()).hexdigest()
        found = self._open(final, url)
        if found is not None:
            return found
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if alone:
            return _draft(Path(f"{final}.part-{secrets.token_hex(6)}"), final, alone=True)
        try:
            made = _draft(Path(f"{final}.part"), final)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return self.take(url, alone=True)
        found = self._open(final, url)  # somebody has finished it in this moment
        if found is not None:
            made.drop()
            os.close(made.fd)
        return found or made

    def kept(self, length: int) -> None:
        """One more file is there: removes those that nobody has asked for the longest, if there are too many. OSError."""
        self._before_look -= length
        if self._before_look <= 0:
            self._before_look = max(0, self.most - self._trim()) // 8  # other processes add, too

    def _open(self, final: Path, url: str) -> Whole | None:
        try:
            fd = os.open(final, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            head = self._checked(fd, final.name, url)
        except BaseException:
            os.close(fd)
            raise
        if head is not None:
            return Whole(fd, head)
        os.close(fd)
        final.unlink(missing_ok=True)
        return None

    def _checked(self, fd: int, name: str, url: str) -> Head | None:
        status = os.fstat(fd)
        if promised(url) is None and time.time() - status.st_mtime > KEPT_FOR:
            return None
        try:
            about = json.loads(os.pread(fd, BLOCK, 0))
            head, digest = Head(about["url"], about["kind"], about["length"]), about["sha256"]
        except (ValueError, KeyError, TypeError):
            return None
        if head.url != url or status.st_size != BLOCK + head.length:
            return None
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._sound.get(name) != seen:
            if _sha256(fd) != digest:
                return None
            self._sound[name] = seen
        with contextlib.suppress(OSError):  # the file system is read-only
            os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))  # when it was last asked for: for _trim
        return head

    def _trim(self) -> int:
        """Returns how many bytes there are then."""
        found = []
        for path, status in _entries(self.place):
            if ".part" not in path.name:
                found.append((status.st_atime_ns, status.st_size, path))
            elif _is_dead(path, status):
                path.unlink(missing_ok=True)
        total = sum(length for _, length, _ in found)
        for _, length, path in sorted(found):
            if total <= self.most:
                break
            path.unlink(missing_ok=True)
            self._sound.pop(path.name, None)
            total -= length
        return total


def current() -> Downloads:
    """That of this user's settings. ValueError for broken ones."""
    named = settings.get("cache")
    text = settings.get("cache_size")
    most = USUAL_SIZE if text is None else size(int(text) if text.isdecimal() else text, what="the setting `cache_size`")
    return Downloads(Path(named) if named else home.default() / "downloads", most)


def _draft(path: Path, final: Path, *, alone: bool = False) -> Draft:
    """BlockingIOError while somebody else has it. `alone`: its name is nobody else's."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not alone:
                    raise
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    if not os.fstat(fd).st_size:
                        return Draft(fd, path, final)
                    path.unlink()  # a dead process has left it
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # whoever had it has removed it or given it its name: once more


def _entries(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another process removes as well
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _is_dead(path: Path, status: os.stat_result) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # it has just been finished
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_size > 0 or time.time() - status.st_mtime > DEAD_AFTER
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - status.st_mtime > DEAD_AFTER
    finally:
        os.close(fd)


def _sha256(fd: int) -> str:
    digest, at = hashlib.sha256(), BLOCK
    while data := os.pread(fd, _CHUNK, at):
        digest.update(data)
        at += len(data)
    return digest.hexdigest()
