"""Slots that all programs of a user on this host share: whoever holds one has a byte of an empty file locked.

    DIR/lisrt-UID/.slots      never written to. A name has 2**24 of its bytes:
        + 0        ...        one for each slot that is held
        + 2**20    ...        one for each that waits for a slot

They are locks of fcntl(2), which belong to a process: the kernel drops them however it dies, and a forked child has none.
(Those of flock(2), and of an open file, live on in every child.) Their price: whoever closes any descriptor of the file
loses them all. So one descriptor of it is opened in each process, by `shared`, and never closed.
"""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import os
import struct
import threading

from lisrt.kernel import scratch

MOST = 1 << 20
_FILE = ".slots"
_TRIED = 1 << 62
_FLOCK = "hhqqi4x"  # struct flock where off_t has 64 bits: type, whence, start, length, pid

_lock = threading.Lock()
_fd = -1


def shared() -> int:
    """The descriptor of the file, the same for all calls. It is in the first place that every program of the user finds, whatever
    its own scratch directory is. OSError with the reason where there is no such place."""
    global _fd
    with _lock:
        if _fd < 0:
            _fd = _opened()
        return _fd


def _opened() -> int:
    refusal = OSError("no place for it")
    for place in scratch.FIXED:
        try:
            base = scratch.open_base(scratch.base_in(place))
        except OSError as error:
            refusal = error
            continue
        try:
            fd = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base)
        except OSError as error:
            refusal = error
            continue
        finally:
            os.close(base)
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH, 1, _TRIED)  # a file system may know no locks
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, _TRIED)
            os.utime(fd)  # it is never written to, and what is old goes from /tmp and /var/tmp
        except OSError as error:
            refusal = error
            os.close(fd)
            continue
        return fd
    raise refusal


class Slots:
    """Those of one name. Not for several threads at once."""

    def __init__(self, name: str, fd: int) -> None:
        self._fd = fd
        self._start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) << 24
        self.held: set[int] = set()
        """Slots and marks; entered before they are locked, and taken out when they are not any more."""
        self._spare: list[int] = []
        """A heap of those that were ours, and may be free still."""
        self._untried = 0

    def take(self, most: int) -> int | None:
        """A free one of the first `most`; None when there is none."""
        while self._spare:
            slot = heapq.heappop(self._spare)
            if slot < most and slot not in self.held and self._try(slot):
                return slot
        for first in dict.fromkeys((self._untried, 0)):  # from where it was left off; and if there is none, all of them
            slot = first
            while slot < most:
                if slot in self.held:
                    slot += 1
                elif self._try(slot):
                    self._untried = slot + 1
                    return slot
                else:
                    found = self._in_the_way(slot, slot + 1)
                    slot = max(slot + 1, found[1] if found else 0)  # not there any more: whoever looks next finds it free
        return None

    def give(self, slot: int) -> None:
        """Gives one back."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._start + slot)
        self.held.discard(slot)
        if slot < MOST:
            heapq.heappush(self._spare, slot)

    def wait(self) -> int:
        """Says that somebody here waits for one. Returns what `rest` needs."""
        mark = MOST
        while mark in self.held or not self._try(mark):
            mark += 1
        return mark

    def rest(self, mark: int) -> None:
        """That one waits no more."""
        self.give(mark)

    def waiting_elsewhere(self) -> int:
        """How many wait in other processes."""
        return self._count(MOST, 2 * MOST)

    def held_elsewhere(self) -> int:
        """How many slots other processes hold."""
        return self._count(0, MOST)

    def _count(self, start: int, end: int) -> int:
        count = 0
        parts = [(start, end)]
        while parts:  # the kernel names any lock in the range, not the first one
            start, end = parts.pop()
            found = self._in_the_way(start, end) if start < end else None
            if found:
                first, last = max(found[0], start), min(found[1], end)
                count += last - first
                parts += [(start, first), (last, end)]
        return count

    def _try(self, slot: int) -> bool:
        self.held.add(slot)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._start + slot)
        except OSError:
            self.held.discard(slot)
            return False  # another process's; or the kernel has no memory for a lock
        return True

    def _in_the_way(self, start: int, end: int) -> tuple[int, int] | None:
        """A range of another process's locks that has something of this one; None when there is none."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, self._start + start, end - start, 0)
        kind, _, first, length, _ = struct.unpack(_FLOCK, fcntl.fcntl(self._fd, fcntl.F_GETLK, asked))
        if kind == fcntl.F_UNLCK:
            return None
        first -= self._start
        return first, first + length


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # the descriptor stays: it is the locks that a child has not


os.register_at_fork(after_in_child=_after_fork_in_child)
