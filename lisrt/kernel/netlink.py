"""Netlink sockets that were opened in another network namespace: what is sent by them holds there.

links.py and nftables.py have the messages; the sockets come from csrc/network.c, which alone can open them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

REQUEST, ACK, REPLACE, EXCLUSIVE, DUMP, CREATE = 0x1, 0x4, 0x100, 0x200, 0x300, 0x400
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, number, port."""
_BUFFER = 1 << 16
_SOL_NETLINK, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 270, 1, 2

_FLAGS, _NUMBER, _FLAGS_AT, _NUMBER_AT = struct.Struct("=H"), struct.Struct("=I"), 6, 8


class Netlink:
    """Safe to use from many threads: one request after the other. The kernel carries a request out before the call that sends it
    returns, so nothing here waits."""

    def __init__(self, fd: int) -> None:
        """Owns the descriptor from now on."""
        self.sock = socket.socket(fileno=fd)
        self.sock.bind((0, 0))  # one without a number of its own hears no news: the kernel's is 0, too
        self._lock = threading.Lock()
        self._number = 0

    def ask(self, *messages: bytes) -> None:
        """Carries them out in this order, as far as the first that fails. OSError with the kernel's reason."""
        with self._lock:
            numbers = self._send(messages)
            self._answers(numbers, None)

    def get(self, message: bytes, *, within: float = -1) -> bytes:
        """The one answer to a request, undecoded. OSError; TimeoutError when others have the socket for longer (seconds)."""
        answers: list[bytes] = []
        if not self._lock.acquire(timeout=within):
            raise TimeoutError("others have the socket")
        try:
            self._answers(self._send((message,)), answers.append)
        finally:
            self._lock.release()
        return answers[0]

    def dump(self, message: bytes) -> list[bytes]:
        """All answers to a request, undecoded. OSError."""
        answers: list[bytes] = []
        with self._lock:
            self._answers(self._send((message,)), answers.append)
        return answers

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextlib.contextmanager
    def news(self, group: int) -> Iterator[Callable[[], bytes]]:
        """Hears of changes meanwhile, by a function that returns what has come, b"" for nothing; requests wait."""
        with self._lock:
            self.sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            try:
                yield self._news
            finally:
                self.sock.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, group)

    def _news(self) -> bytes:
        try:
            return self.sock.recv(_BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Again is allowed."""
        self.sock.close()

    def _send(self, messages: tuple[bytes, ...]) -> set[int]:
        numbers = set()
        data = bytearray()
        for message in messages:
            self._number = self._number % 0x7FFFFFFF + 1
            start = len(data)
            data += message
            _NUMBER.pack_into(data, start + _NUMBER_AT, self._number)
            if _FLAGS.unpack_from(message, _FLAGS_AT)[0] & (ACK | DUMP):
                numbers.add(self._number)
        self.sock.send(data)
        return numbers

    def _answers(self, waiting: set[int], take: Callable[[bytes], None] | None) -> None:
        """Until all have been answered, or one has failed; what belongs to an earlier request that failed is passed over."""
        while waiting:
            try:
                data = self.sock.recv(_BUFFER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                raise OSError(errno.EPROTO, "the kernel has left a request unanswered") from None
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, _, number, _ = _HEADER.unpack_from(data, at)
                if number in waiting and kind in (_ERROR, _DONE):
                    (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    waiting.discard(number)
                elif number in waiting and take is not None:
                    take(data[at : at + size])
                at += (size + 3) & ~3
