"""Starting the helper program (csrc/main.c) in a process of its own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

PATH = Path(__file__).parent.parent / "_helper" / "lisrt-helper"

_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
NO_USE_BY_HAND = 100
"""What the helper exits with when it is told nothing that it knows: whoever sees that has run it."""
TETHERED = 5, 6
"""What a program that `tether` runs finds its two descriptors under: csrc/tether.c."""
RUN_HELPER = 3
"""What a program that `run` has run finds the helper under: csrc/run.c."""
# Clear of the numbers 3 to 6 that the helper expects its descriptors under.
_OUT_OF_THE_WAY = 10


def sealed_copy(path: Path = PATH) -> int:
    """A descriptor of a copy of the program that nobody can write to any more.

    What the helper starts has our uid, and could reach the running program's file through /proc/self/exe of the
    process that starts it (CVE-2019-5736); a sealed memory file it can't change.
    """
    program = path.read_bytes()
    try:
        fd = os.memfd_create("lisrt-helper", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: before 6.3 there is no such flag, and none is needed
            raise
        fd = os.memfd_create("lisrt-helper", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(program)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def start(arguments: list[str], fds: tuple[int, ...]) -> None:
    """Runs the helper with `fds` as its descriptors 3, 4, ... and nothing of our environment.

    posix_spawn shares our memory until the exec, so the size of this process does not matter and no Python code runs
    in the child. What we start forks and leaves at once: the process that stays is not our child. OSError when it
    can't be started.
    """
    moved: list[int] = []
    program = sealed_copy()
    try:
        for fd in (program, *fds):
            moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY))
        actions = [(os.POSIX_SPAWN_DUP2, fd, 3 + i) for i, fd in enumerate(moved[1:])]
        pid = os.posix_spawn(f"/proc/self/fd/{moved[0]}", ["lisrt-helper", *arguments], {}, file_actions=actions)
    finally:
        for fd in (program, *moved):
            os.close(fd)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored in this program, or its own wait(-1) loop was faster: either way it is reaped


def tether(argv: list[str], fds: tuple[int, int], output: int, *, inside: bool = False) -> socket.socket:
    """Runs a program of the host beside this process, with `fds` as its 5 and 6; `inside` the user namespace that the first is.

    It ends, at the latest, with the other end of the socket that this returns; an end of file there is its end. OSError when the
    helper can't be started."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with theirs:
            start(["tether-inside" if inside else "tether", *argv], (theirs.fileno(), output, *fds))
    except BaseException:
        ours.close()
        raise
    return ours


def output(arguments: list[str], timeout: float) -> str:
    """What the helper prints when run with these arguments, up to its end. Started as by `start`, so that what this
    host denies that one (a path that a security module must know, say) is denied here. OSError, TimeoutError."""
    program = sealed_copy()
    try:
        reading, writing = os.pipe()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
            pid = os.posix_spawn(f"/proc/self/fd/{program}", ["lisrt-helper", *arguments], {}, file_actions=actions)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
    finally:
        os.close(program)
    with open(reading, "rb", buffering=0) as file:
        chunks = list(_chunks(file.fileno(), time.monotonic() + timeout))
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # as above
    return os.fsdecode(b"".join(chunks))


def _chunks(fd: int, deadline: float) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "the helper did not answer in time")
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            return
        yield chunk


def run(argv: list[str]) -> tuple[int, str, str]:
    """Runs a program of the host: (wait status, stdout, stderr). It gets no environment and no input, and has 30 s.

    It is no child of this process, whose SIGCHLD and wait() belong to its own code. OSError; TimeoutError.
    """
    with contextlib.ExitStack() as open_files:
        stdout, stderr = (
            open_files.enter_context(open(os.memfd_create(name, os.MFD_CLOEXEC), "r+b")) for name in ("stdout", "stderr")
        )
        reading, writing = os.pipe2(os.O_CLOEXEC)
        open_files.callback(os.close, reading)
        try:
            start(["run", *argv], (writing, stdout.fileno(), stderr.fileno()))
        finally:
            os.close(writing)
        answer = os.read(reading, 4)
        if len(answer) != 4:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), argv[0])
        stdout.seek(0)
        stderr.seek(0)
        return struct.unpack("=i", answer)[0], stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
