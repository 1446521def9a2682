"""The messages of csrc/lis.h and inside.h, byte for byte, and sockets that carry them with descriptors."""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass

MAGIC = 0x3153494C
READY, FAULT, CREATE, KILL, DISCARD, TAKE, CGROUPS, NAMESPACE, HUB = 1, 2, 16, 17, 18, 19, 20, 21, 22
EXEC, FILES, QUIT, DRAIN, MEMORY, LISTEN, BEQUEATH, GO, DIAL, FREEZE = 32, 33, 34, 35, 36, 37, 38, 39, 40, 41
EXITED, NOT_STARTED, TERMINAL, ACCEPTED, NETWORK, DIALLED, FROZEN, FILE = 48, 49, 50, 51, 52, 53, 54, 64

STDIN, STDOUT, STDERR, ON_TERMINAL, BODY = 1, 2, 4, 8, 16
AT_PROGRAM, AT_CWD, AT_SETUP = 1, 2, 3
OPEN_READ, OPEN_WRITE, LIST, MKDIR, SYMLINK, STAT = 1, 2, 3, 4, 5, 6
EXACT_MODE = 0o10000
"""With OPEN_WRITE: the mode is for a file that is there, too."""

_HEADER = struct.Struct("=II")
_FAULT = struct.Struct("=IIii248s")
_NAMED = struct.Struct("=II24s")
_CREATE = struct.Struct("=II24s24sQ")
_TAKE = struct.Struct("=II24s24s")
_EXEC = struct.Struct("=IIIIIIQ")
_EXIT = struct.Struct("=IIIiiiQQQQQ")
_CREDENTIALS = struct.Struct("=iII")
_ACCEPTED = struct.Struct("=IIIi")
_DIAL = struct.Struct("=IIIi")
_FREEZE = struct.Struct("=IIi")
_CGROUPS = struct.Struct("=IIIII")
_FILE_REQUEST = struct.Struct("=IIII")
_FILE_REPLY = struct.Struct("=IIiIQI4x")

# How long the answers are: just so long, but for those of a file server, which may go on with a name.
_SIZES = {FAULT: _FAULT.size, EXITED: _EXIT.size, NOT_STARTED: _EXIT.size, DIALLED: _DIAL.size, FROZEN: _FREEZE.size}

# Of answers: the longest are names of a directory's entries with what a link says, 4 KiB each at most. Not more room than that
# takes: from 128 KiB on, malloc maps and unmaps pages for each message.
MAX_MESSAGE = 16 * 1024
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_RECEIVE_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_ROOM_FOR_FDS = socket.CMSG_SPACE(4 * 8)
"""As numbers: two of Python's flags took longer to join than the message to send."""
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
    written: int
    memory_peak: int
    out_of_memory: bool
    disk_full: bool
    pids_full: bool


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
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sock.sendmsg([message], ancillary, _SEND_FLAGS)
    else:
        sock.send(message, _SEND_FLAGS)


def receive(sock: socket.socket, *, with_fd: bool = False) -> tuple[bytes, int]:
    """One message, without blocking, and the descriptor that came with it (-1: none). b"" at end of file."""
    try:
        if not with_fd:
            return sock.recv(MAX_MESSAGE, _RECEIVE_FLAGS), -1
        # room for more than the one that is expected: what does not fit would be lost, what fits can be closed
        data, ancillary, _, _ = sock.recvmsg(MAX_MESSAGE, _ROOM_FOR_FDS, _RECEIVE_FLAGS)
    except ConnectionResetError:
        return b"", -1
    received = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    for extra in received[1:]:
        os.close(extra)
    return data, received[0] if received else -1


def receive_fds(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One message, without blocking, and all descriptors that came with it. b"" at end of file."""
    try:
        data, fds, _, _ = socket.recv_fds(sock, MAX_MESSAGE, 8, _RECEIVE_FLAGS)
    except ConnectionResetError:
        return b"", []
    return data, fds


def receive_from(sock: socket.socket) -> tuple[bytes, int]:
    """One message that is there, and the pid of who sent it, as this process sees it. Wants SO_PASSCRED on the socket."""
    data, ancillary, _, _ = sock.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_CMSG_CLOEXEC)
    for level, kind_, payload in ancillary:
        if level == socket.SOL_SOCKET and kind_ == socket.SCM_CREDENTIALS:
            return data, int(_CREDENTIALS.unpack(payload[: _CREDENTIALS.size])[0])
    return data, 0


def kind(message: bytes) -> int:
    """The kind of a message; 0 for what is none, an answer of a wrong length included: the rest can then be decoded."""
    if len(message) < _HEADER.size:
        return 0
    magic, number = _HEADER.unpack_from(message)
    if magic != MAGIC or len(message) != _SIZES.get(number, len(message)):
        return 0
    return 0 if number == FILE and len(message) < _FILE_REPLY.size else int(number)


def encode_plain(number: int) -> bytes:
    return _HEADER.pack(MAGIC, number)


def encode_create(name: str, plan: bytes, follows: str = "", *, inherits: bool = False) -> bytes:
    """`follows`: who is to end before this one's files are touched, or "". `inherits`: that one's network may come with GO."""
    return _CREATE.pack(MAGIC, CREATE, name.encode(), follows.encode(), inherits) + plan


def encode_kill(name: str) -> bytes:
    return _NAMED.pack(MAGIC, KILL, name.encode())


def encode_discard(name: str) -> bytes:
    return _NAMED.pack(MAGIC, DISCARD, name.encode())


def encode_take(name: str, layer: str) -> bytes:
    """What was written under that name is to be that layer; the answer comes on the socket that goes with it."""
    return _TAKE.pack(MAGIC, TAKE, name.encode(), layer.encode())


def encode_cgroups(versions: tuple[int, int, int]) -> bytes:
    """Versions of the memory, pids and cpu controllers; a descriptor goes with each that is not 0."""
    return _CGROUPS.pack(MAGIC, CGROUPS, *versions)


def encode_exec(
    flags: int, cwd: bytes, argv: list[bytes], env: list[bytes], timeout: float | None, size: tuple[int, int] = (0, 0)
) -> tuple[bytes, bytes]:
    """(header, body). The body follows the header, or goes in a memory file when `flags` has BODY."""
    nanoseconds = 0 if timeout is None else max(1, int(timeout * 1e9))
    header = _EXEC.pack(MAGIC, EXEC, flags, len(argv), len(env), (size[0] << 16) | size[1], nanoseconds)
    return header, b"\0".join([cwd, *argv, *env, b""])


def encode_file_request(op: int, path: bytes, mode: int = 0, target: bytes = b"") -> bytes:
    return _FILE_REQUEST.pack(MAGIC, FILE, op, mode) + path + b"\0" + target + b"\0"


def encode_dial(port: int) -> bytes:
    return _DIAL.pack(MAGIC, DIAL, port, 0)


def decode_dialled(message: bytes) -> int:
    """Why there is no connection; 0 if there is one."""
    _, _, _, errno = _DIAL.unpack(message)
    return int(errno)


def encode_freeze(*, is_wanted: bool) -> bytes:
    return _FREEZE.pack(MAGIC, FREEZE, is_wanted)


def decode_frozen(message: bytes) -> int:
    """How many processes were stopped; below 0 the errno."""
    _, _, number = _FREEZE.unpack(message)
    return int(number)


def decode_accepted(message: bytes) -> int:
    """The port on which somebody has connected."""
    _, _, port, _ = _ACCEPTED.unpack(message)
    return int(port)


def decode_fault(message: bytes) -> Fault:
    _, _, stage, errno, path = _FAULT.unpack(message)
    return Fault(stage, errno, os.fsdecode(path.split(b"\0", 1)[0]))


def decode_exit(message: bytes) -> Exit:
    _, number, flags, status, errno, at, wall, cpu, rss, written, peak = _EXIT.unpack(message)
    return Exit(
        kind=number,
        timed_out=bool(flags & 1),
        survivors=bool(flags & 2),
        wait_status=status,
        errno=errno,
        at=at,
        wall=wall / 1e9,
        cpu=cpu / 1e9,
        max_rss=rss,
        written=written,
        memory_peak=peak,
        out_of_memory=bool(flags & 4),
        disk_full=bool(flags & 8),
        pids_full=bool(flags & 16),
    )


def decode_file_reply(message: bytes) -> FileReply:
    _, _, errno, mode, size, more = _FILE_REPLY.unpack_from(message)
    name, _, rest = message[_FILE_REPLY.size :].partition(b"\0")
    return FileReply(errno, mode, size, bool(more), name, rest.partition(b"\0")[0])
