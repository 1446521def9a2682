"""Your terminal on one side, a sandbox's own terminal on the other, and bytes in between.

The sandbox never gets a descriptor of yours: what reads a terminal can also type into it (TIOCSTI).
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from lisrt import pipes, process
from lisrt.box import Box
from lisrt.cli.streams import tell, write_all
from lisrt.kernel import wire
from lisrt.waiting import drive


def interact(box: Box, argv: list[str], in_fd: int, out_fd: int) -> int:
    """Runs a command on a terminal of its own and connects it with ours; returns its status as a shell sees it."""
    command = box.command(argv, None, b"", None, None, False, 0)
    ctl, master = drive(process.open_terminal(box.channel, command, _size(out_fd)))
    with ctl, _closing(master), _raw(in_fd), _resizing(master, out_fd) as resized:
        message = _relay(ctl, master, in_fd, out_fd, resized)
    if wire.kind(message) not in (wire.EXITED, wire.NOT_STARTED):
        raise box.channel.gone()
    exit = wire.decode_exit(message)
    if exit.kind == wire.NOT_STARTED:
        raise OSError(exit.errno, os.strerror(exit.errno), argv[0])
    if exit.out_of_memory or exit.disk_full:
        what = f"memory (peak {exit.memory_peak >> 20} MiB)" if exit.out_of_memory else "disk"
        tell(f"lisrt: the sandbox ran over its limit on {what}; everything in it was killed, this shell too")
    return os.WEXITSTATUS(exit.wait_status) if os.WIFEXITED(exit.wait_status) else 128 + os.WTERMSIG(exit.wait_status)


def _relay(ctl: socket.socket, master: int, in_fd: int, out_fd: int, resized: int) -> bytes:
    poll = select.poll()
    for fd in (ctl.fileno(), master, in_fd, resized):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if master in ready:
            try:
                write_all(out_fd, os.read(master, pipes.CHUNK))
            except OSError:  # EIO: nobody has the other side open
                poll.unregister(master)
        if in_fd in ready:
            data = os.read(in_fd, pipes.CHUNK)
            if not data:
                poll.unregister(in_fd)
            write_all(master, data or b"\x04")
        if resized in ready:
            os.read(resized, 1024)
            _resize(master, out_fd)
        if ctl.fileno() in ready:
            _drain(master, out_fd)
            return wire.receive(ctl)[0]


def _drain(master: int, out_fd: int) -> None:
    os.set_blocking(master, False)
    try:
        while data := os.read(master, pipes.CHUNK):
            write_all(out_fd, data)
    except OSError:
        pass  # EAGAIN or EIO: that was all


def _size(fd: int) -> tuple[int, int]:
    columns, rows = os.get_terminal_size(fd)
    return rows, columns


def _resize(master: int, out_fd: int) -> None:
    rows, columns = _size(out_fd)
    fcntl.ioctl(master, termios.TIOCSWINSZ, array.array("H", [rows, columns, 0, 0]))


@contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # not the default: what was typed meanwhile is not thrown away
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resizing(master: int, out_fd: int) -> Iterator[int]:
    """A descriptor that can be read when our terminal has changed its size."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    old_handler = signal.signal(signal.SIGWINCH, lambda *_: None)  # a handler, or the wakeup descriptor stays silent
    old_fd = signal.set_wakeup_fd(write_end)
    try:
        yield read_end
    finally:
        signal.set_wakeup_fd(old_fd)
        signal.signal(signal.SIGWINCH, old_handler)
        os.close(read_end)
        os.close(write_end)
