"""Files and trees between host and sandbox, in constant memory.

What comes out of a sandbox was made by untrusted code. On the host no link is followed and none is made that leads out
of the tree; devices, FIFOs and sockets stay behind; set-user-ID bits are dropped.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from lisrt.channel import Channel
from lisrt.files import INLINE, FileServer, closing, connect
from lisrt.kernel import native, wire
from lisrt.result import Transfer
from lisrt.waiting import Flow, Offload

_CLOEXEC_NOFOLLOW = os.O_CLOEXEC | os.O_NOFOLLOW
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | _CLOEXEC_NOFOLLOW


@dataclass
class _Tally:
    limit: int | None = None
    files: int = 0
    directories: int = 0
    copied: int = 0
    skipped: list[str] = field(default_factory=list)

    def room(self, name: bytes, size: int) -> int:
        """How many bytes may still come; OSError when `size` is more than that."""
        room = (1 << 62) if self.limit is None else self.limit - self.copied
        if size > room:
            raise OSError(27, f"the download is larger than {self.limit} bytes; raise max_bytes", os.fsdecode(name))
        return room

    def result(self) -> Transfer:
        return Transfer(self.files, self.directories, self.copied, tuple(self.skipped))


@dataclass(frozen=True, slots=True)
class _Item:
    """One entry of a host tree: its path on the host, its path below the tree's top, its status."""

    source: str
    relative: str
    status: os.stat_result


def upload(channel: Channel, host_path: str, path: bytes) -> Flow[Transfer]:
    """A host file to `path`, or the contents of a host directory to the directory `path`."""
    status = os.stat(host_path)
    items: list[_Item] = []
    if stat.S_ISDIR(status.st_mode):
        # all of it is looked at before anything is written: nothing is left half-done for want of a permission
        items = yield Offload(lambda: list(_walk(host_path)))
    elif not stat.S_ISREG(status.st_mode):
        raise OSError(95, "is not a regular file or a directory", host_path)
    else:
        _check_readable(host_path)
    tally = _Tally()
    server, sock = yield from connect(channel)
    with sock:
        if stat.S_ISREG(status.st_mode):
            yield from _upload_file(server, host_path, path, tally, follow=True)
            return tally.result()
        yield from server.request(wire.MKDIR, path, 0o755)
        for item in items:
            yield from _upload_item(server, item, path + b"/" + os.fsencode(item.relative), tally)
    return tally.result()


def _upload_item(server: FileServer, item: _Item, target: bytes, tally: _Tally) -> Flow[None]:
    mode = item.status.st_mode
    if stat.S_ISDIR(mode):
        yield from server.request(wire.MKDIR, target, stat.S_IMODE(mode) | 0o700)
        tally.directories += 1
    elif stat.S_ISLNK(mode):
        yield from server.request(wire.SYMLINK, target, 0, os.fsencode(os.readlink(item.source)))
        tally.files += 1
    elif stat.S_ISREG(mode):
        yield from _upload_file(server, item.source, target, tally, follow=False)
    else:
        tally.skipped.append(item.relative)


def _upload_file(server: FileServer, source: str, target: bytes, tally: _Tally, *, follow: bool) -> Flow[None]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with closing(os.open(source, flags), source) as from_fd:
        status = os.fstat(from_fd)
        # by the server: with real ids the file is not this user's
        mode = wire.EXACT_MODE | (stat.S_IMODE(status.st_mode) & 0o777)
        to_fd, _ = yield from server.open(wire.OPEN_WRITE, target, mode)
        with closing(to_fd, target):
            tally.copied += yield from _copy(from_fd, to_fd, status.st_size, 1 << 62)
    tally.files += 1


def download(channel: Channel, path: bytes, host_path: str, max_bytes: int | None) -> Flow[Transfer]:
    """A file of the sandbox to `host_path`, or the contents of a directory to the host directory `host_path`."""
    tally = _Tally(limit=max_bytes)
    server, sock = yield from connect(channel)
    with sock:
        reply, _ = yield from server.request(wire.STAT, path)
        if not stat.S_ISDIR(reply.mode):
            from_fd, reply = yield from server.open(wire.OPEN_READ, path)
            with closing(from_fd, path):
                room = tally.room(path, reply.size)
                with closing(os.open(host_path, _NEW_FILE, 0o600), host_path) as to_fd:
                    yield from _download_file(from_fd, to_fd, reply, path, tally, room)
            return tally.result()
        os.makedirs(host_path, exist_ok=True)
        with closing(os.open(host_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), host_path) as top:
            pending = [b""]
            while pending:
                relative = pending.pop()
                for entry in (yield from server.entries(path + b"/" + relative)):
                    name = relative + b"/" + entry.name if relative else entry.name
                    if (yield from _download_entry(server, entry, path + b"/" + name, top, name, tally)):
                        pending.append(name)
    return tally.result()


def _download_entry(
    server: FileServer, entry: wire.FileReply, source: bytes, top: int, name: bytes, tally: _Tally
) -> Flow[bool]:
    """One entry of a directory. True when it is a directory whose own entries are to follow."""
    if entry.name in (b"", b".", b"..") or b"/" in entry.name:
        raise OSError(71, "a file name that no directory can hold", os.fsdecode(name))
    parent = name.rpartition(b"/")[0]
    last = os.fsdecode(entry.name)
    with closing(native.open_beneath(top, parent or b".", os.O_RDONLY | os.O_DIRECTORY), name) as directory:
        if stat.S_ISDIR(entry.mode):
            try:
                os.mkdir(last, stat.S_IMODE(entry.mode) & 0o777 | 0o700, dir_fd=directory)
            except FileExistsError:
                pass  # a link or a file of that name is found out when it is opened as a directory
            tally.directories += 1
            return True
        if stat.S_ISLNK(entry.mode) and stays_below(name, entry.target):
            _remove_old(last, directory)
            os.symlink(os.fsdecode(entry.target), last, dir_fd=directory)
            tally.files += 1
        elif stat.S_ISREG(entry.mode):
            from_fd, reply = yield from server.open(wire.OPEN_READ, source)
            with closing(from_fd, name):
                room = tally.room(name, reply.size)
                with closing(os.open(last, _NEW_FILE, 0o600, dir_fd=directory), name) as to_fd:
                    yield from _download_file(from_fd, to_fd, reply, name, tally, room)
        else:
            tally.skipped.append(os.fsdecode(name))
    return False


def _download_file(
    from_fd: int, to_fd: int, reply: wire.FileReply, name: bytes, tally: _Tally, room: int
) -> Flow[None]:
    if not stat.S_ISREG(os.fstat(to_fd).st_mode):
        raise OSError(95, "the target exists and is not a regular file", os.fsdecode(name))
    tally.copied += yield from _copy(from_fd, to_fd, reply.size, room)
    os.fchmod(to_fd, stat.S_IMODE(reply.mode) & 0o777)
    tally.files += 1


def stays_below(link: bytes, target: bytes) -> bool:
    """Whether a link at `link` (below the top of a tree) can lead to nothing outside the tree.

    Only `..` at the beginning is let through, and no more than the link's depth: after another link's name it would
    count from where that one leads. Each link that passes stays inside on its own, so a chain of them does.
    """
    if not target or target.startswith(b"/"):
        return False
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    ups = 0
    while ups < len(parts) and parts[ups] == b"..":
        ups += 1
    return b".." not in parts[ups:] and ups <= link.count(b"/")


def _remove_old(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _copy(from_fd: int, to_fd: int, size: int, room: int) -> Flow[int]:
    """Copies to the end of the file, which may not be where it was; OSError (EFBIG) when that is beyond `room`."""
    if size < INLINE:
        copied = os.sendfile(to_fd, from_fd, None, INLINE)
        if copied > room:
            _overflow()
        if copied == size:  # at most this much without a worker: a file that keeps growing must not hold a loop up
            return copied
    else:
        copied = 0
    stopped = threading.Event()
    rest: int = yield Offload(lambda: _send_all(from_fd, to_fd, room - copied, stopped), stopped.set)
    return copied + rest


def _send_all(from_fd: int, to_fd: int, room: int, stopped: threading.Event) -> int:
    total = 0
    while not stopped.is_set():
        sent = os.sendfile(to_fd, from_fd, None, 4 << 20)
        if sent == 0:
            break
        total += sent
        if total > room:
            _overflow()
    return total


def _overflow() -> NoReturn:
    raise OSError(27, "grew beyond max_bytes while it was copied")


def _check_readable(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _walk(top: str) -> Iterator[_Item]:
    pending = [""]
    while pending:
        relative = pending.pop()
        with os.scandir(os.path.join(top, relative)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = os.path.join(relative, entry.name)
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    _check_readable(entry.path)
                yield _Item(entry.path, name, status)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(name)
