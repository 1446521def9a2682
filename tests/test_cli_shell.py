"""`lisrt shell` on a real terminal: a pty that a process of its own has as controlling terminal."""

import array
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import WITHIN, Cli
from support.procs import assert_gone, assert_lives, sleeping
from support.waiting import eventually, not_blocked

pytestmark = pytest.mark.usefixtures("working_host")

#: Takes fd 0 as controlling terminal, as a login does, and becomes the program; pytest itself must not fork.
LOGIN = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"

PROMPT = r"sandbox:\S*[#$] $"

#: Switched on and off around each line by readline; no part of what a person sees.
BRACKETED_PASTE = re.compile(r"\x1b\[\?2004(h|l\r)")

#: No pattern that is waited for is longer.
OVERLAP = 1000


class Terminal:
    """The side of a terminal where a person sits."""

    def __init__(self, rows: int, columns: int) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = ""
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self, *, within: float) -> str:
        """What has appeared; empty at the end of the terminal or of the time."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        if not poll.poll(within * 1000):
            return ""
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            return ""

    def expect(self, pattern: str, *, within: float = WITHIN) -> str:
        """Reads until the pattern appears; returns what came before it and has not been returned yet."""
        deadline = time.monotonic() + within
        start = 0
        while not (match := re.compile(pattern).search(self.seen, start)):
            start = max(0, len(self.seen) - OVERLAP)
            text = self.read(within=max(0.0, deadline - time.monotonic()))
            assert text, f"{pattern!r} did not appear; the terminal shows {self.seen[-2000:]!r}"
            self.seen = self.seen[:start] + BRACKETED_PASTE.sub("", self.seen[start:] + text)
        before, self.seen = self.seen[: match.start()], self.seen[match.end() :]
        return before

    def enter(self, command: str) -> str:
        """Types a command at the prompt; what appears until the next prompt."""
        self.type(command + "\r")
        self.expect(re.escape(command) + r"\r?\n")
        return self.expect(PROMPT).replace("\r\n", "\n")

    def hang_up(self) -> None:
        """Closes the master: the modem is off, the window is closed."""
        if self.master >= 0:
            os.close(self.master)
        self.master = -1

    def leave_slave(self) -> None:
        if self.slave >= 0:
            os.close(self.slave)
        self.slave = -1

    def close(self) -> None:
        self.hang_up()
        self.leave_slave()


@pytest.fixture
def cli(tmp_path: Path, scratch: Path) -> Iterator[Cli]:
    """`lisrt`; afterwards nothing of it is left."""
    made = Cli(tmp_path, scratch)
    yield made
    made.assert_clean()


@contextlib.contextmanager
def opened(cli: Cli, *options: str, rows: int = 24, columns: int = 80) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    """A `lisrt shell` in a terminal, at its first prompt."""
    terminal = Terminal(rows, columns)
    command = [sys.executable, "-c", LOGIN, *cli.command("shell", *options)]
    streams = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
    process = subprocess.Popen(command, cwd=cli.cwd, env=cli.environment(TERM="xterm"), **streams)
    terminal.leave_slave()  # so that the end of the shell is the end of what can be read
    try:
        terminal.expect(PROMPT)
        yield terminal, process
    finally:
        process.kill()
        process.wait()
        terminal.close()


def finish(terminal: Terminal, process: "subprocess.Popen[bytes]") -> int:
    """The status of a shell that was told to end; its last words are read, so that it never waits for a reader."""
    deadline = time.monotonic() + WITHIN
    while terminal.master >= 0 and (text := terminal.read(within=max(0.0, deadline - time.monotonic()))):
        terminal.seen += text
    try:
        return process.wait(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pytest.fail(f"the shell did not end; the terminal shows {terminal.seen[-2000:]!r}")


def test_commands_are_typed_and_answered(cli: Cli) -> None:
    """A prompt, a command, its output, what persists between commands, and the status of `exit`."""
    with opened(cli) as (terminal, process):
        assert terminal.enter("echo $((6 * 7))") == "42\n"
        assert terminal.enter("cd /usr && X=kept") == ""
        assert terminal.enter('echo "$X in $PWD; $(id -u)"') == "kept in /usr; 0\n"
        terminal.type("exit 5\r")
        assert finish(terminal, process) == 5


def test_end_of_file_ends_the_shell(cli: Cli) -> None:
    """Ctrl-D at the prompt: the status is that of the last command."""
    with opened(cli) as (terminal, process):
        terminal.enter("(exit 3)")
        terminal.type("\x04")
        assert finish(terminal, process) == 3


def test_ctrl_c_interrupts_the_inner_command_only(cli: Cli, marker: str) -> None:
    """The command dies of SIGINT, the shell and lisrt go on; at an empty prompt Ctrl-C does nothing but a new one."""
    with opened(cli) as (terminal, process):
        terminal.type(f"sleep {marker}\r")
        assert_lives(marker)
        terminal.type("\x03")
        terminal.expect(PROMPT)
        assert_gone(marker)
        assert terminal.enter("echo status $?") == "status 130\n"
        terminal.type("half a com\x03")
        terminal.expect(PROMPT)
        assert terminal.enter("echo still here") == "still here\n"
        assert process.poll() is None
        terminal.type("exit 0\r")
        assert finish(terminal, process) == 0


def test_job_control_works(cli: Cli, marker: str) -> None:
    """Ctrl-Z stops the inner command, not lisrt; fg and kill find it."""
    with opened(cli) as (terminal, process):
        terminal.type(f"sleep {marker}\r")
        assert_lives(marker)
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.expect(PROMPT)
        assert terminal.enter("jobs -r | wc -l; jobs -s | wc -l") == "0\n1\n"
        terminal.enter("kill -9 %1")
        assert_gone(marker)
        # or bash may still count it among its stopped jobs, and not exit
        eventually(lambda: terminal.enter("jobs -s | wc -l").endswith("0\n"), within=20, what="a shell without jobs")
        terminal.type("exit\r")
        finish(terminal, process)


def test_the_size_of_the_window_is_passed_on(cli: Cli) -> None:
    """At the start, and whenever the window changes: programs inside get SIGWINCH and see the new size."""
    with opened(cli, rows=30, columns=97) as (terminal, process):
        assert terminal.enter("stty size") == "30 97\n"
        terminal.type("sh -c 'trap \"stty size; exit\" WINCH; echo wait\"\"ing; sleep 1000 & wait'\r")
        terminal.expect(r"waiting\r\n")
        terminal.resize(41, 133)
        terminal.expect(r"41 133\r\n")
        terminal.expect(PROMPT)
        for rows in range(20, 40):
            terminal.resize(rows, 100)
        eventually(lambda: terminal.enter("stty size") == "39 100\n", within=20, what="the last of many sizes")
        terminal.type("exit\r")
        assert finish(terminal, process) == 0


def test_the_terminal_is_left_as_it_was(cli: Cli) -> None:
    """Raw while the shell runs, and with all its settings restored after."""
    with opened(cli) as (terminal, process):
        assert not termios.tcgetattr(terminal.master)[3] & termios.ECHO, "raw while the sandbox's terminal does the echo"
        terminal.type("exit 0\r")
        assert finish(terminal, process) == 0
        after = termios.tcgetattr(terminal.master)
    fresh = Terminal(24, 80)
    assert after == termios.tcgetattr(fresh.slave)
    fresh.close()


def test_it_is_a_terminal_of_its_own(cli: Cli) -> None:
    """Programs inside see a terminal, with the caller's TERM; it is the sandbox's first one and not the caller's."""
    with opened(cli) as (terminal, process):
        assert terminal.enter("tty; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo terminal") == "/dev/pts/0\nxterm\nterminal\n"
        assert terminal.enter("ls /dev/pts") == "0  ptmx\n"
        terminal.type("exit\r")
        assert finish(terminal, process) == 0


def test_options_are_those_of_exec(cli: Cli) -> None:
    """Mounts, variables, the workdir, the user and the host name."""
    (cli.cwd / "data").mkdir()
    (cli.cwd / "data" / "file").write_text("of the host\n")
    options = ("-m", "data:/data", "-e", "A=1 2", "--workdir", "/work", "--user", "1000", "--hostname", "box")
    with opened(cli, *options) as (terminal, process):
        assert terminal.enter('cat /data/file; echo "$A"; pwd; id -u; uname -n') == "of the host\n1 2\n/work\n1000\nbox\n"
        terminal.type("exit\r")
        assert finish(terminal, process) == 0


def test_much_output_arrives_completely(cli: Cli) -> None:
    """A hundred thousand lines, in order, faster than they are read."""
    with opened(cli) as (terminal, process):
        lines = terminal.enter("seq 100000").splitlines()
        assert lines == [str(number) for number in range(1, 100_001)]
        terminal.type("exit\r")
        assert finish(terminal, process) == 0


def test_the_last_words_are_shown(cli: Cli) -> None:
    """What is printed right before the end is not cut off."""
    with opened(cli) as (terminal, process):
        terminal.type("seq 20000; exit 4\r")
        assert finish(terminal, process) == 4
        assert terminal.seen.replace("\r\n", "\n").endswith("19999\n20000\nexit\n")


def test_every_key_reaches_the_program(cli: Cli) -> None:
    """All bytes pass unchanged to a program that reads its terminal raw: none is a command to lisrt."""
    (cli.cwd / "keys.py").write_text(
        "import os, tty\ntty.setraw(0)\nprint('ready', flush=True)\nprint(''.join(f'{os.read(0, 1)[0]:02x}' for _ in range(256)))"
    )
    with opened(cli, "-m", "keys.py:/keys.py") as (terminal, process):
        terminal.type("python3 /keys.py; stty sane\r")
        terminal.expect("ready")
        os.write(terminal.master, bytes(range(256)))
        terminal.expect(bytes(range(256)).hex())
        terminal.expect(PROMPT)
        terminal.type("exit\r")
        assert finish(terminal, process) == 0


def test_background_jobs_end_with_the_shell(cli: Cli, marker: str) -> None:
    """`exit` is not held up by what still writes to the terminal, and nothing of it is left."""
    with opened(cli) as (terminal, process):
        terminal.enter(f"sleep {marker} & (setsid sleep {marker} &) ; sleep 0")
        eventually(lambda: len(sleeping(marker)) == 2, what="two sleeps")
        with not_blocked():
            terminal.type("exit 6\r")
            assert finish(terminal, process) == 6
    assert_gone(marker)


@pytest.mark.parametrize("how", ["hang-up", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_when_it_is_ended_from_outside(cli: Cli, marker: str, how: str) -> None:
    """The window is closed, or lisrt is killed: no process of the sandbox stays."""
    cli.killed = True
    with opened(cli) as (terminal, process):
        terminal.type(f"trap '' HUP TERM; (setsid sleep {marker} &); sleep {marker}\r")
        eventually(lambda: len(sleeping(marker)) == 2, within=20, what="two sleeps")
        if how == "hang-up":
            terminal.hang_up()
        else:
            process.send_signal(getattr(signal, how))
        assert finish(terminal, process) != 0
        assert_gone(marker)


def test_the_death_of_the_sandbox_is_told(cli: Cli, marker: str) -> None:
    """When PID 1 is gone, lisrt says so, exits 125 and gives the terminal back."""
    with opened(cli) as (terminal, process):
        terminal.type(f"sleep {marker}\r")
        sleeper = assert_lives(marker)
        shell = int(Path(f"/proc/{sleeper}/stat").read_text().rpartition(")")[2].split()[1])
        init = int(Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(init, signal.SIGKILL)
        assert finish(terminal, process) == 125
        assert "lisrt:" in terminal.seen and "gone" in terminal.seen
        assert termios.tcgetattr(terminal.master)[3] & termios.ECHO
    assert_gone(marker)


@pytest.mark.parametrize("missing", ["stdin", "stdout", "both"])
def test_without_a_terminal_it_says_what_to_use(cli: Cli, missing: str) -> None:
    """A pipe on either side: no sandbox, status 1 or 2, and the way to run a script instead."""
    terminal = Terminal(24, 80)
    try:
        streams = {} if missing == "both" else {"stdin" if missing == "stdout" else "stdout": terminal.slave}
        with not_blocked():
            done = cli("shell", **streams)
        assert done.returncode in (1, 2)
        assert "needs a terminal" in done.stderr and "lisrt exec" in done.stderr
    finally:
        terminal.close()


def test_a_bad_option_leaves_the_terminal_alone(cli: Cli) -> None:
    """The message comes before anything is changed."""
    terminal = Terminal(24, 80)
    try:
        before = termios.tcgetattr(terminal.slave)
        done = cli("shell", "--image", "nonesuch", stdin=terminal.slave, stdout=terminal.slave)
        assert done.returncode == 125
        assert "'nonesuch'" in done.stderr
        assert termios.tcgetattr(terminal.slave) == before
        waiting = array.array("i", [0])
        fcntl.ioctl(terminal.master, termios.FIONREAD, waiting)
        assert waiting[0] == 0, "nothing was printed on it"
    finally:
        terminal.close()


def test_a_published_port(cli: Cli) -> None:
    """What listens in the background of the shell is reached at the port that was chosen."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with opened(cli, "--publish", f"{port}:7000", columns=200) as (terminal, process):
        listen = "import socket; s = socket.create_server(('', 7000)); print('listening'); s.accept()[0].sendall(b'hello')"
        terminal.type(f'python3 -u -c "{listen}" &\r')
        terminal.expect(r"listening\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as client:
            assert client.recv(5) == b"hello"
        terminal.type("exit 0\r")
        assert finish(terminal, process) == 0
