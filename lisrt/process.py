"""One command: its pipes, its deadline, its output. A flow from request to ExecResult."""

from __future__ import annotations

import errno
import os
import signal as signals
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lisrt import spawner
from lisrt.channel import Channel
from lisrt.errors import SandboxGone, SetupError
from lisrt.explain import limit_error
from lisrt.kernel import wire
from lisrt.limits import Limits
from lisrt.pipes import Capture, Input, Pump, Stream, close_end
from lisrt.result import ExecResult, Outcome, Usage
from lisrt.waiting import Flow, Ready

# How long after its own limit, or after a kill, PID 1 may take to say that the command is dead.
GRACE = 30.0
DEFAULT_MAX_OUTPUT = 1 << 20


@dataclass(frozen=True, slots=True)
class Command:
    """A checked request: bytes, as the kernel takes them."""

    argv: list[bytes]
    env: list[bytes]
    cwd: bytes
    stdin: bytes | int
    """What the program reads; or a descriptor of ours to copy from."""
    timeout: float | None
    merge_stderr: bool
    max_output: int
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.max_output < 0:
            raise ValueError(f"max_output must be 0 or above: {self.max_output!r}")


class Running:
    """A command that was handed to PID 1: its socket and its streams."""

    def __init__(self, channel: Channel, command: Command, sinks: tuple[Callable[[bytes], object], ...]) -> None:
        self.channel = channel
        self.command = command
        self.streams: list[Stream] = []
        self.input: Input | None = None
        self.over_output = False
        try:
            self.ctl, self.ctl_theirs = wire.pair()
        except OSError as error:
            raise limit_error(error, "run a command") or error from None
        spawner.keep_from_children(self)
        try:
            for sink in sinks:
                self.streams.append(Stream(sink))
            if isinstance(command.stdin, int):
                self.input = Pump(command.stdin)
            elif command.stdin:
                self.input = Input(command.stdin)
        except OSError as error:
            self.close()
            raise limit_error(error, "run a command") or error from None
        except BaseException:
            self.close()
            raise

    def start(self) -> Flow[None]:
        flags = wire.STDOUT | wire.STDERR
        fds = [self.ctl_theirs.fileno()]
        if self.input:
            flags |= wire.STDIN
            fds.append(self.input.theirs)
        fds += [self.streams[0].theirs, self.streams[-1].theirs]
        yield from send_exec(self.channel, self.command, flags, tuple(fds))
        self.ctl_theirs.close()
        if self.input:
            close_end(self.input, "theirs")

    def wait(self) -> Flow[wire.Exit]:
        """Moves bytes until PID 1 says how the command ended."""
        timeout = self.command.timeout
        deadline = None if timeout is None else time.monotonic() + timeout + GRACE
        ctl = self.ctl.fileno()
        if self.input:
            self.input.advance(frozenset())
        outputs = (ctl, *(stream.fd for stream in self.streams))
        while True:
            source, sink = (self.input.readers(), self.input.writers()) if self.input else ((), ())
            ready = yield Ready((*outputs, *source), sink, deadline)
            if not ready:
                raise self.channel.give_up("its PID 1 has stopped answering")
            if self.input:
                self.input.advance(ready)
            for stream in self.streams:
                if stream.fd in ready:
                    stream.read()
            self._check_output()
            answer = self.answer() if ctl in ready else None
            if answer is not None:  # what is drained may be a child's that was left behind: no reason to call it over the limit
                self._leave([stream for stream in self.streams if stream.drain()])
                return answer

    def _check_output(self) -> None:
        limit = self.command.limits.output
        if limit is not None and not self.over_output and sum(stream.total for stream in self.streams) > limit:
            self.over_output = True
            self.ctl.shutdown(socket.SHUT_WR)  # PID 1 kills the tree, and says so when it is dead

    def answer(self) -> wire.Exit | None:
        """What PID 1 has said by now."""
        try:
            message, _ = wire.receive(self.ctl)
        except BlockingIOError:
            return None
        if wire.kind(message) not in (wire.EXITED, wire.NOT_STARTED):
            raise self.channel.gone()
        return wire.decode_exit(message)

    def cancel(self) -> Flow[None]:
        """Kills the command's whole tree and waits, not for ever, until it is dead."""
        try:
            self.ctl.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + GRACE
            while (yield Ready((self.ctl.fileno(),), (), deadline)):
                if self.answer() is not None:
                    return
            self.channel.give_up("its PID 1 has stopped answering")
        except (SandboxGone, OSError):
            pass  # the sandbox is gone, and the command with it

    def close(self) -> None:
        self.ctl.close()
        self.ctl_theirs.close()
        for stream in self.streams:
            stream.close()
        if self.input:
            self.input.close()

    def _leave(self, still_open: list[Stream]) -> None:
        # A child left behind holds the pipe: without a reader its next line would kill it (SIGPIPE), so PID 1 reads on.
        if still_open:
            fds = tuple(stream.fd for stream in still_open)
            try:
                for _ in self.channel.send(wire.encode_plain(wire.DRAIN), fds):
                    return  # PID 1 is behind by hundreds of messages; then they do get the SIGPIPE
            except SandboxGone:
                pass  # closed a moment after the command ended: the result stands


def send_exec(channel: Channel, command: Command, flags: int, fds: tuple[int, ...], size: tuple[int, int] = (0, 0)) -> Flow[None]:
    """Sends the request; its strings in a memory file when they are too long for a message."""
    header, body = wire.encode_exec(flags, command.cwd, command.argv, command.env, command.timeout, size)
    if len(body) <= wire.LARGE:
        yield from channel.send(header + body, fds)
        return
    header, _ = wire.encode_exec(flags | wire.BODY, command.cwd, command.argv, command.env, command.timeout, size)
    memory = os.memfd_create("lisrt-argv", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(body)
        yield from channel.send(header, (memory, *fds))
    finally:
        os.close(memory)


def open_terminal(channel: Channel, command: Command, size: tuple[int, int]) -> Flow[tuple[socket.socket, int]]:
    """Starts a command on a terminal of its own; (its socket, the terminal's master side). The caller closes both."""
    ours, theirs = wire.pair()
    try:
        with theirs:
            yield from send_exec(channel, command, wire.ON_TERMINAL, (theirs.fileno(),), size)
        message, master = yield from answer(channel, ours, wire.TERMINAL)
        if wire.kind(message) == wire.NOT_STARTED:
            _refuse(command, wire.decode_exit(message))
        if master < 0:
            raise channel.gone()
        return ours, master
    except BaseException:
        ours.close()
        raise


def answer(channel: Channel, sock: socket.socket, kind: int) -> Flow[tuple[bytes, int]]:
    """The first message on a socket, and the descriptor with it; -1 when there is none, or it is of another kind."""
    if not (yield Ready((sock.fileno(),), (), time.monotonic() + GRACE)):
        raise channel.give_up("its PID 1 has stopped answering")
    message, fd = wire.receive(sock, with_fd=True)
    if fd >= 0 and wire.kind(message) != kind:
        os.close(fd)
        fd = -1
    return message, fd


def memory(channel: Channel) -> Flow[int]:
    """The proportional set size of PID 1 in bytes. It can't be read from outside: PID 1 hides its memory from its uid."""
    ours, theirs = wire.pair()
    with ours:
        with theirs:
            yield from channel.send(wire.encode_plain(wire.MEMORY), (theirs.fileno(),))
        _, fd = yield from answer(channel, ours, wire.MEMORY)
    if fd < 0:
        raise channel.gone()
    with open(fd, "rb") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:"))


def execute(channel: Channel, command: Command) -> Flow[ExecResult]:
    """Runs one command to its end. Interrupted or cancelled, it first sees the command's whole tree dead."""
    captures = [Capture(command.max_output) for _ in range(1 if command.merge_stderr else 2)]
    exit, over_output = yield from _run(channel, command, tuple(capture.add for capture in captures))
    stdout, dropped_stdout = captures[0].result()
    stderr, dropped_stderr = captures[1].result() if len(captures) == 2 else (b"", 0)
    if exit.kind == wire.NOT_STARTED:
        message = b"lisrt: " + command.argv[0] + b": not found (nor, for a script, its interpreter)\n"
        stdout, stderr = (message, b"") if command.merge_stderr else (b"", message)
    return _result(command, exit, over_output, (stdout, dropped_stdout), (stderr, dropped_stderr))


def stream(channel: Channel, command: Command, sinks: tuple[Callable[[bytes], object], ...]) -> Flow[wire.Exit]:
    """Runs one command, handing its output to the sinks as it comes: stdout, stderr; or one for both."""
    return (yield from _run(channel, command, sinks))[0]


def _run(channel: Channel, command: Command, sinks: tuple[Callable[[bytes], object], ...]) -> Flow[tuple[wire.Exit, bool]]:
    """How it ended, and whether it was killed for writing too much."""
    running = Running(channel, command, sinks)
    try:
        yield from running.start()
        try:
            exit = yield from running.wait()
        except GeneratorExit:
            raise  # nobody drives any more; closing the socket kills it
        except SandboxGone:
            raise
        except BaseException:
            yield from running.cancel()
            raise
    finally:
        running.close()
    if exit.survivors:
        raise channel.give_up("a killed process is stuck in the kernel and would not die")
    if exit.kind == wire.NOT_STARTED:
        _refuse(command, exit)
    return exit, running.over_output


def _refuse(command: Command, exit: wire.Exit) -> None:
    """Raises for a command that could not be started, unless there simply is no such program."""
    if exit.at == wire.AT_CWD:
        raise OSError(exit.errno, os.strerror(exit.errno), os.fsdecode(command.cwd))
    if exit.at != wire.AT_PROGRAM:
        words = f"PID 1 could not start a process: {os.strerror(exit.errno)}"
        hint = ". Too many processes run in the sandbox or for this user" if exit.errno == errno.EAGAIN else ""
        raise SetupError(words + hint, stage="command", errno=exit.errno)
    if exit.errno not in (errno.ENOENT, errno.ENOTDIR):
        raise OSError(exit.errno, os.strerror(exit.errno), os.fsdecode(command.argv[0]))


def _result(
    command: Command, exit: wire.Exit, over_output: bool, stdout: tuple[bytes, int], stderr: tuple[bytes, int]
) -> ExecResult:
    exit_code: int | None = None
    signal: int | None = None
    started = exit.kind == wire.EXITED
    if not started:
        outcome, exit_code = Outcome.EXITED, 127
    elif exit.out_of_memory:
        outcome, signal = Outcome.OUT_OF_MEMORY, int(signals.SIGKILL)
    elif exit.timed_out:
        outcome, signal = Outcome.TIMED_OUT, int(signals.SIGKILL)
    elif os.WIFSIGNALED(exit.wait_status):
        outcome, signal = Outcome.SIGNALED, os.WTERMSIG(exit.wait_status)
    else:
        outcome, exit_code = Outcome.EXITED, os.WEXITSTATUS(exit.wait_status)
    return ExecResult(
        argv=tuple(os.fsdecode(item) for item in command.argv),
        outcome=outcome,
        exit_code=exit_code,
        signal=signal,
        stdout_bytes=stdout[0],
        stderr_bytes=stderr[0],
        dropped_stdout=stdout[1],
        dropped_stderr=stderr[1],
        duration=exit.wall,
        usage=Usage(exit.cpu, exit.memory_peak or exit.max_rss, exit.written),
        started=started,
        exhausted=_exhausted(command, exit, signal, over_output),
    )


def _exhausted(command: Command, exit: wire.Exit, signal: int | None, over_output: bool) -> tuple[str, ...]:
    limits = command.limits
    reached = {
        "memory": exit.out_of_memory,
        "pids": exit.pids_full,
        "disk": exit.disk_full or (limits.disk is not None and signal == signals.SIGXFSZ),
        "output": over_output,
        "wall_time": exit.timed_out and limits.wall_time is not None and command.timeout == limits.wall_time,
    }
    return tuple(name for name, is_reached in reached.items() if is_reached)
