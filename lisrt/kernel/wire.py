"""The messages of csrc/lis.h, byte for byte, and sockets that carry them with descriptors."""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass

MAGIC = 0x3153494C
READY, FAULT, CREATE, KILL = 1, 2, 16, 17
EXEC, FILES, QUIT, DRAIN, MEMORY = 32, 33, 34, 35, 36
EXITED, NOT_STARTED, TERMINAL, FILE = 48, 49, 50, 64

STDIN, STDOUT, STDERR, ON_TERMINAL, BODY = 1, 2, 4, 8, 16
AT_PROGRAM, AT_CWD, AT_SETUP = 1, 2, 3
OPEN_READ, OPEN_WRITE, LIST, MKDIR, SYMLINK, STAT = 1, 2, 3, 4, 5, 6

_HEADER = struct.Struct("=II")
_FAULT = struct.Struct("=IIii248s")
_CREATE = struct.Struct("=II24s")
_EXEC = struct.Struct("=IIIIIIQ")
_EXIT = struct.Struct("=IIIiiiQQQ")
_FILE_REQUEST = struct.Struct("=IIII")
_FILE_REPLY = struct.Struct("=IIiIQI4x")

MAX_MESSAGE = 128 * 1024
# Above this a message's strings travel in a memory file: a socket takes about 200 kB at once, an argv may be larger.
LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    stage: int
    errno: int
    path: str


@dataclass(frozen=True, slots=True)
class Exit:
    kind: int
    timed_out: bool
    survivors: bool
    wait_status: int
    errno: int
    at: int
    wall: float
    cpu: float
    max_rss: int


@dataclass(frozen=True, slots=True)
class FileReply:
    errno: int
    mode: int
    size: int
    more: bool
    name: bytes
    target: bytes


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of SEQPACKET sockets that block, whatever the program's default timeout is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if socket.getdefaulttimeout() is not None:
        ours.settimeout(None)
        theirs.settimeout(None)
    return ours, theirs


def send(sock: socket.socket, message: bytes, fds: tuple[int, ...] = ()) -> None:
    """Sends one message without blocking; BlockingIOError when the other side is behind."""
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sock.sendmsg([message], ancillary, flags)
    else:
        sock.send(message, flags)


def receive(sock: socket.socket, *, with_fd: bool = False) -> tuple[bytes, int]:
    """One message, without blocking, and the descriptor that came with it (-1: none). b"" at end of file."""
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    try:
        if not with_fd:
            return sock.recv(MAX_MESSAGE, flags), -1
        # room for more than the one that is expected: what does not fit would be lost, what fits can be closed
        data, ancillary, _, _ = sock.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(4 * 8), flags)
    except ConnectionResetError:
        return b"", -1
    received = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    for extra in received[1:]:
        os.close(extra)
    return data, received[0] if received else -1


def kind(message: bytes) -> int:
    """The kind of a message; 0 for what is none."""
    if len(message) < _HEADER.size:
        return 0
    magic, number = _HEADER.unpack_from(message)
    return int(number) if magic == MAGIC else 0


def encode_plain(number: int) -> bytes:
    return _HEADER.pack(MAGIC, number)


def encode_create(name: str, plan: bytes) -> bytes:
    return _CREATE.pack(MAGIC, CREATE, name.encode()) + plan


def encode_kill(name: str) -> bytes:
    return _CREATE.pack(MAGIC, KILL, name.encode())


def encode_exec(
    flags: int, cwd: bytes, argv: list[bytes], env: list[bytes], timeout: float | None, size: tuple[int, int] = (0, 0)
) -> tuple[bytes, bytes]:
    """(header, body). The body follows the header, or goes in a memory file when `flags` has BODY."""
    nanoseconds = 0 if timeout is None else max(1, int(timeout * 1e9))
    header = _EXEC.pack(MAGIC, EXEC, flags, len(argv), len(env), (size[0] << 16) | size[1], nanoseconds)
    return header, b"\0".join([cwd, *argv, *env, b""])


def encode_file_request(op: int, path: bytes, mode: int = 0, target: bytes = b"") -> bytes:
    return _FILE_REQUEST.pack(MAGIC, FILE, op, mode) + path + b"\0" + target + b"\0"


def decode_fault(message: bytes) -> Fault:
    _, _, stage, errno, path = _FAULT.unpack(message)
    return Fault(stage, errno, os.fsdecode(path.split(b"\0", 1)[0]))


def decode_exit(message: bytes) -> Exit:
    _, number, flags, status, errno, at, wall, cpu, rss = _EXIT.unpack(message)
    return Exit(number, bool(flags & 1), bool(flags & 2), status, errno, at, wall / 1e9, cpu / 1e9, rss)


def decode_file_reply(message: bytes) -> FileReply:
    _, _, errno, mode, size, more = _FILE_REPLY.unpack_from(message)
    name, _, rest = message[_FILE_REPLY.size :].partition(b"\0")
    return FileReply(errno, mode, size, bool(more), name, rest.partition(b"\0")[0])
