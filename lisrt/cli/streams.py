"""Standard streams as they are in the wild: closed, non-blocking, or left by their reader."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READER_LEFT = 128 + 13
"""The status of a program whose output nobody reads any more: that of SIGPIPE."""


def open_missing() -> None:
    """Opens /dev/null for every standard stream that is closed, or the next file opened would become one."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it, also where another program has made the file non-blocking. OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """A reader that has left (`lisrt doctor | head -n 1`) ends the program without a word, as it ends any other."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        abandon_unwritable_stdout()
        sys.exit(READER_LEFT)


def abandon_unwritable_stdout() -> None:
    """What is still in Python's buffer is written at exit; where that fails it would say so, and change the status."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
