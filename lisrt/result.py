"""What you get back: the result of one command, the account of one transfer."""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from lisrt.errors import CommandFailed


class Outcome(StrEnum):
    """How a command ended."""

    EXITED = "exited"
    SIGNALED = "signaled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    """The sandbox ran over `Limits.memory`. Every program in it was killed; its files are still there."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command used."""

    cpu: float
    """User and system time in seconds, of the command and the children that it waited for."""
    memory_peak: int
    """Bytes at the highest. With a memory limit: of the whole sandbox, since the command began (a control group of version 2
    before Linux 6.12: since the sandbox was made). Without: of the largest single process (getrusage's ru_maxrss)."""
    written: int = 0
    """Bytes that were to go to a disk (getrusage's ru_oublock), of the command and the children that it waited for."""
    sent: int = 0
    """Bytes that went out through the sandbox's Proxy meanwhile, whichever of its commands has sent them."""
    received: int = 0
    """Likewise, that came in."""
    denied: int = 0
    """Connections and requests that the Proxy has denied meanwhile."""


@dataclass(frozen=True)
class ExecResult:
    """What one command did. A failing program is a result, not an exception: see `check()`."""

    argv: tuple[str, ...]
    outcome: Outcome
    exit_code: int | None
    """Exit status; None unless the outcome is `exited`."""
    signal: int | None
    """Number of the signal that ended it; None when the outcome is `exited`."""
    stdout_bytes: bytes
    """What was kept: all of it, or head and tail without a mark between them when `dropped_stdout` is above 0."""
    stderr_bytes: bytes
    dropped_stdout: int
    """Bytes left out in the middle, because there were more than `max_output`."""
    dropped_stderr: int
    duration: float
    """Wall-clock seconds from start to end, measured inside the sandbox."""
    usage: Usage
    started: bool = True
    """False when there was no such program: the exit code is 127, as in a shell, and stderr says so."""
    exhausted: tuple[str, ...] = ()
    """Limits that were reached while it ran: "memory", "pids", "disk", "output", "wall_time"."""

    @cached_property
    def stdout(self) -> str:
        """`stdout_bytes` as text; bytes that are not UTF-8 become U+FFFD. A line says where how much was dropped."""
        return _marked(self.stdout_bytes, self.dropped_stdout)

    @cached_property
    def stderr(self) -> str:
        """`stderr_bytes` as text, likewise."""
        return _marked(self.stderr_bytes, self.dropped_stderr)

    @property
    def truncated(self) -> bool:
        """Whether any output was dropped: more came than `max_output` of the call."""
        return bool(self.dropped_stdout or self.dropped_stderr)

    @property
    def returncode(self) -> int:
        """The shell's view: the exit code, or 128 + the signal's number."""
        return self.exit_code if self.exit_code is not None else 128 + (self.signal or 0)

    @property
    def ok(self) -> bool:
        """Whether it exited with status 0."""
        return self.exit_code == 0

    def check(self) -> ExecResult:
        """Returns itself, or raises CommandFailed when not `ok`."""
        if not self.ok:
            raise CommandFailed(self)
        return self

    def summary(self) -> str:
        """One line about how it ended, for messages."""
        name = self.argv[0] if self.argv else "command"
        if self.outcome is Outcome.TIMED_OUT:
            return f"{name} was killed after its time limit ({self.duration:.1f} s)"
        if self.outcome is Outcome.OUT_OF_MEMORY:
            return f"{name} was killed: the sandbox ran over its memory limit (peak {self.usage.memory_peak >> 20} MiB)"
        for limit in ("disk", "output"):
            if limit in self.exhausted and self.signal is not None:
                return f"{name} was killed: over the limit on {limit}"
        if self.signal is not None:
            return f"{name} was killed by {_signal_name(self.signal)}"
        return f"{name} was not found" if not self.started else f"{name} exited with status {self.exit_code}"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What freezing a sandbox came to: how many `processes` were stopped, and how many bytes of memory the kernel took back.

    `reclaimed` is None where nobody could ask it to: without a control group that limits the sandbox's memory, its pages stay
    until the kernel itself needs some.
    """

    processes: int
    reclaimed: int | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an upload or a download moved."""

    files: int = 0
    directories: int = 0
    bytes: int = 0
    skipped: tuple[str, ...] = ()
    """Paths left out: devices, FIFOs, sockets, and, in a download, links that lead out of the tree."""


def _marked(kept: bytes, dropped: int) -> str:
    """Head and tail joined would read as one: a number made of two, a JSON document that parses and is another one."""
    if not dropped:
        return kept.decode(errors="replace")
    head = (len(kept) + 1) // 2
    mark = f"\n[lisrt: {dropped} bytes dropped here; max_output was {len(kept)}]\n"
    return kept[:head].decode(errors="replace") + mark + kept[head:].decode(errors="replace")


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
