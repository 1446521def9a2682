"""Terminals: what is typed into one by a program must not be read by another."""

from support.subjects import Box


def test_no_character_is_put_into_a_terminal(box: Box) -> None:
    """CVE-2017-5226 (TIOCSTI), CVE-2023-1523 (TIOCLINUX), and CVE-2019-7303: the same with bits above the 32nd."""
    source = """
import ctypes, fcntl, os
from kernel import call
master, slave = os.openpty()
character = ctypes.create_string_buffer(b"x")
for request in (0x5412, 0x541C, 0x5423, 0x541D):  # TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS
    for high in (0, 1 << 32, 1 << 63, 0xFFFFFFFF << 32):
        print(call("ioctl", slave, request | high, character))
os.set_blocking(slave, False)
try:
    print("there is something to read:", os.read(slave, 10))
except BlockingIOError:
    pass
"""
    assert box.python(source).check().stdout == "EPERM\n" * 16


def test_no_terminal_of_the_host(box: Box) -> None:
    """A command has no controlling terminal, its descriptors are none, and it can't take one that it did not open."""
    source = """
import fcntl, os
from kernel import attempt
print(attempt(os.open, "/dev/tty", os.O_RDWR), [os.isatty(fd) for fd in range(3)])
print([attempt(fcntl.ioctl, fd, 0x540E, 1) for fd in range(3)])  # TIOCSCTTY, by force
print(sorted(os.listdir("/dev/pts")), os.path.exists("/dev/console"), os.path.exists("/dev/tty1"))
"""
    assert box.python(source).check().stdout.splitlines() == [
        "ENXIO [False, False, False]",
        str(["ENOTTY"] * 3),
        "['ptmx'] False False",
    ]


def test_terminals_work_otherwise(box: Box) -> None:
    """A pseudo terminal of one's own is a terminal: sizes, modes, a session that it controls."""
    source = """
import fcntl, os, pty, struct, termios
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    print(os.get_terminal_size(0), os.tcgetpgrp(0) == os.getpid(), os.ttyname(0)[:9], flush=True)
    os._exit(0)
print(os.read(master, 1000).decode(), end="")
os.waitpid(pid, 0)
"""
    assert box.python(source).check().stdout.split("\r")[0] == "os.terminal_size(columns=77, lines=33) True /dev/pts/"
