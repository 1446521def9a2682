"""The ends of a command's pipes that are ours, and what is kept of its output."""

from __future__ import annotations

import array
import fcntl
import os
import termios
from collections.abc import Callable

CHUNK = 64 * 1024


class Capture:
    """Head and tail of a stream, within a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._head_room = (limit + 1) // 2
        self._tail_room = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._head_room - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._tail_room + CHUNK:  # trimmed now and then, not at every read
            del self._tail[: len(self._tail) - self._tail_room]

    def result(self) -> tuple[bytes, int]:
        """(bytes kept, number of bytes dropped between head and tail)"""
        tail = self._tail[max(0, len(self._tail) - self._tail_room) :]
        return bytes(self._head + tail), self.total - len(self._head) - len(tail)


def close_end(owner: Stream | Input, name: str) -> None:
    """Closes a descriptor that has been forgotten first: a fork in another thread, between the two, closes it in the child."""
    fd = getattr(owner, name)
    setattr(owner, name, -1)
    if fd >= 0:
        os.close(fd)


class Stream:
    """The reading end of a pipe whose writing end is the command's.

    A copy of the writing end stays open here until the command has ended: so its output wakes us, and its end, which PID 1 tells
    of a moment later, does not wake us a second time.
    """

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self.fd, self.theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        self._sink = sink
        self.total = 0

    def read(self) -> None:
        """Takes what is there, one chunk."""
        try:
            self._take(os.read(self.fd, CHUNK))
        except BlockingIOError:
            pass

    def drain(self) -> bool:
        """Takes what was there when the command ended, and not what a child left behind goes on writing. Whether one may."""
        close_end(self, "theirs")
        try:
            if not self._take(os.read(self.fd, CHUNK)):
                return False
            waiting = array.array("i", [0])
            fcntl.ioctl(self.fd, termios.FIONREAD, waiting)
            left = waiting[0]
            while left > 0:
                taken = self._take(os.read(self.fd, min(CHUNK, left)))
                if not taken:
                    return False
                left -= taken
            return os.read(self.fd, 1) != b""  # false: nobody holds it open any more
        except BlockingIOError:
            return True

    def _take(self, data: bytes) -> int:
        if data:
            self.total += len(data)
            self._sink(data)
        return len(data)

    def close(self) -> None:
        close_end(self, "fd")
        close_end(self, "theirs")


class Input:
    """The writing end of a command's stdin, and the bytes that go into it."""

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self.theirs, self.fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        self._rest = memoryview(data)

    def readers(self) -> tuple[int, ...]:
        return ()

    def writers(self) -> tuple[int, ...]:
        return (self.fd,) if self._rest and self.fd >= 0 else ()

    def advance(self, ready: frozenset[int]) -> None:
        """Writes what fits; closes the pipe when all is written or nobody reads it."""
        if self.fd >= 0 and self._write() and not self.readers():
            close_end(self, "fd")

    def close(self) -> None:
        close_end(self, "fd")
        close_end(self, "theirs")

    def _write(self) -> bool:
        """True when there is nothing left to write, or nobody to read it."""
        try:
            while self._rest:
                self._rest = self._rest[os.write(self.fd, self._rest[: 1 << 20]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            self._rest = memoryview(b"")  # a program need not read its input
        return True


class Pump(Input):
    """Stdin from a descriptor of ours, as it comes.

    The descriptor itself must not go into the sandbox: through /proc/self/fd a program there could open the file
    behind it again, to write to it.
    """

    def __init__(self, source: int) -> None:
        super().__init__()
        self._source = source

    def readers(self) -> tuple[int, ...]:
        return (self._source,) if self._source >= 0 and not self._rest else ()

    def advance(self, ready: frozenset[int]) -> None:
        if self._source in ready:
            data = os.read(self._source, CHUNK)
            self._rest = memoryview(data)
            if not data:
                self._source = -1
        super().advance(ready)
