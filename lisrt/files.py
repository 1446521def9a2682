"""File requests, answered by a process inside the sandbox with descriptors of regular files."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from lisrt import spawner
from lisrt.channel import Channel
from lisrt.kernel import wire
from lisrt.waiting import Flow, Offload, Ready

# Moved here and now up to this size; more of it goes to a worker thread, where a loop would have to wait.
INLINE = 1 << 20
# A program inside can stop the process that answers; a file server on a network has this long.
ANSWER_TIMEOUT = 30.0


class FileServer:
    """One connection. Requests go one by one: it belongs to the flow that opened it."""

    def __init__(self, channel: Channel, sock: socket.socket) -> None:
        self._channel = channel
        self._sock = sock

    def request(self, op: int, path: bytes, mode: int = 0, target: bytes = b"") -> Flow[tuple[wire.FileReply, int]]:
        """One request, one answer and the descriptor with it (-1: none). OSError with the path."""
        try:
            wire.send(self._sock, wire.encode_file_request(op, path, mode, target))
        except (BrokenPipeError, ConnectionResetError):
            self._fail(path)
        # only these bring one; what the sandbox sends beside that is closed, or it could fill our table of descriptors
        return (yield from self._reply(path, with_fd=op in (wire.OPEN_READ, wire.OPEN_WRITE)))

    def open(self, op: int, path: bytes, mode: int = 0) -> Flow[tuple[int, wire.FileReply]]:
        """A descriptor of a regular file, to read or to write from its start."""
        reply, fd = yield from self.request(op, path, mode)
        if fd < 0:
            self._fail(path)
        try:
            if reply.more:  # when the server has closed its own: a program that is open for writing can't be run
                yield from self._reply(path, with_fd=False)
            os.set_blocking(fd, True)
        except BaseException:
            os.close(fd)
            raise
        return fd, reply

    def entries(self, path: bytes) -> Flow[list[wire.FileReply]]:
        """What a directory holds, links not followed."""
        found = []
        reply, _ = yield from self.request(wire.LIST, path)
        while reply.more:
            found.append(reply)
            reply, _ = yield from self._reply(path, with_fd=False)
        return found

    def _reply(self, path: bytes, *, with_fd: bool) -> Flow[tuple[wire.FileReply, int]]:
        ready = yield Ready((self._sock.fileno(),), (), time.monotonic() + ANSWER_TIMEOUT)
        if not ready:
            raise TimeoutError(110, f"no answer within {ANSWER_TIMEOUT:.0f} s", os.fsdecode(path))
        message, fd = wire.receive(self._sock, with_fd=True)
        reply = wire.decode_file_reply(message) if wire.kind(message) == wire.FILE else None
        if fd >= 0 and (reply is None or reply.errno or not with_fd):
            os.close(fd)
            fd = -1
        if reply is None:
            self._fail(path)
        if reply.errno:
            raise OSError(reply.errno, _words(reply.errno), os.fsdecode(path))
        return reply, fd

    def _fail(self, path: bytes) -> NoReturn:
        if not self._channel.alive:
            raise self._channel.gone()
        killed = "the process that serves files was killed: from inside the sandbox, or at one of its limits"
        raise OSError(5, killed, os.fsdecode(path))


def connect(channel: Channel) -> Flow[tuple[FileServer, socket.socket]]:
    """Starts a file server in the sandbox. The caller closes the socket, which ends it."""
    ours, theirs = wire.pair()
    spawner.keep_from_children(ours)
    try:
        with theirs:
            yield from channel.send(wire.encode_plain(wire.FILES), (theirs.fileno(),))
    except BaseException:
        ours.close()
        raise
    return FileServer(channel, ours), ours


@contextmanager
def closing(fd: int, path: str | bytes) -> Iterator[int]:
    """Closes a descriptor at the end; an OSError on it gets its path, as where the disk is full."""
    try:
        yield fd
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
        raise
    finally:
        os.close(fd)


def write(channel: Channel, path: bytes, data: bytes, mode: int) -> Flow[None]:
    """Writes a whole file."""
    server, sock = yield from connect(channel)
    with sock:
        fd, _ = yield from server.open(wire.OPEN_WRITE, path, mode)
        with closing(fd, path):
            if len(data) <= INLINE:
                _write_all(fd, data, threading.Event())
            else:
                stopped = threading.Event()
                yield Offload(lambda: _write_all(fd, data, stopped), stopped.set)


def read(channel: Channel, path: bytes, max_bytes: int | None) -> Flow[bytes]:
    """Reads a whole file; OSError (EFBIG) when it is larger than `max_bytes`."""
    server, sock = yield from connect(channel)
    with sock:
        fd, reply = yield from server.open(wire.OPEN_READ, path)
        with closing(fd, path):
            if max_bytes is not None and reply.size > max_bytes:
                raise _too_large(path, max_bytes)
            data = os.read(fd, INLINE) if reply.size < INLINE else b""
            if data and len(data) == reply.size:  # else it has changed meanwhile, or is one of /proc's, which have no size
                return data
            stopped = threading.Event()
            rest: bytes = yield Offload(lambda: _read_all(fd, max_bytes, path, stopped, data), stopped.set)
            return rest


def _read_all(fd: int, max_bytes: int | None, path: bytes, stopped: threading.Event, begun: bytes) -> bytes:
    parts = [begun]
    size = len(begun)
    while not stopped.is_set():
        if max_bytes is not None and size > max_bytes:
            raise _too_large(path, max_bytes)
        part = os.read(fd, INLINE)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _write_all(fd: int, data: bytes, stopped: threading.Event) -> None:
    rest = memoryview(data)
    while rest and not stopped.is_set():
        rest = rest[os.write(fd, rest[: 4 * INLINE]) :]


def _too_large(path: bytes, max_bytes: int) -> OSError:
    return OSError(27, f"is larger than {max_bytes} bytes; raise max_bytes, or use download()", os.fsdecode(path))


def _words(number: int) -> str:
    return "is not a regular file" if number == 95 else os.strerror(number)
