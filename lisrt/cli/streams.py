"""Standard streams as they are in the wild: closed, non-blocking, or left by their reader."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

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


def tell(line: str) -> None:
    """A line on stderr, for whoever watches. When nobody does, the work goes on."""
    try:
        click.echo(line, err=True)
    except OSError:
        abandon_unwritable(sys.stderr)


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """A reader that has left (`lisrt doctor | head -n 1`) ends the program without a word, as it ends any other."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        abandon_unwritable(sys.stdout)
        sys.exit(READER_LEFT)


def abandon_unwritable(stream: TextIO | None) -> None:
    """Sends a stream to /dev/null if it can't be written to.

    What is in Python's buffer is written again at exit; where that fails Python says so, and changes the exit status.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
