"""The tool `execute_bash`: one script, with its time limit, its output cut to what a model should read."""

from __future__ import annotations

import errno
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lisrt.agent.tools import shell
from lisrt.agent.tools.editor import observed
from lisrt.agent.tools.edits import cap, cut
from lisrt.agent.tools.observation import Observation, ToolError
from lisrt.aio import AsyncSandbox
from lisrt.result import ExecResult, Outcome

__all__ = ["Bash", "figures", "killed_by"]


@dataclass(frozen=True)
class Bash:
    """Scripts in one sandbox. `timeout`, `longest`: seconds. `max_output`, `max_lines`: characters and lines of each stream."""

    box: AsyncSandbox
    working_dir: str
    persistent: bool
    timeout: float
    longest: float
    max_output: int
    max_lines: int | None

    async def run(self, values: Mapping[str, Any]) -> Observation:
        """One call. Raises ToolError, and LisrtError or SandboxFault where it is the sandbox that failed."""
        command, timeout = values.get("command"), self._seconds(values.get("timeout"))
        if values.get("restart"):
            if not (done := await self._run(["rm", "-rf", "--", shell.STATE], 30.0)).ok:
                raise ToolError(f"the shell's state can't be removed: {done.stderr.strip()}")
            if not command:
                return Observation("The shell begins anew.", "done")
        if command is None:
            raise ToolError("command is missing")
        if not command.strip():
            raise ToolError("command is empty")
        if "\0" in command:
            raise ToolError("command contains a NUL character")
        argv = shell.argv(command) if self.persistent else ["bash", "-c", command]
        result = await self._run(argv, timeout)
        if not result.started:
            raise ToolError("this sandbox has no bash")
        text, left_out = self._report(result, timeout)
        return Observation(text, result.outcome.value, {**figures(result), "cut": left_out})

    def _seconds(self, asked: float | None) -> float:
        if asked is None:
            return self.timeout
        if not 0 < asked <= self.longest:
            raise ToolError(f"timeout is {asked:g}, but it can be above 0 and up to {self.longest:g} seconds")
        return float(asked)

    async def _run(self, argv: list[str], timeout: float) -> ExecResult:  # noqa: ASYNC109 - it is PID 1 that keeps the time
        try:
            try:
                return await self._once(argv, timeout)
            except (FileNotFoundError, NotADirectoryError):
                # the model has removed or replaced the directory that commands start in: without it none ever would
                await self.box.run(["mkdir", "-p", "--", self.working_dir], cwd="/", timeout=timeout)
                return await self._once(argv, timeout)
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise ToolError(
                    "the script is too long to start; write it to a file with str_replace_editor and run that"
                ) from error
            raise observed(error, self.working_dir) from error

    async def _once(self, argv: list[str], timeout: float) -> ExecResult:  # noqa: ASYNC109
        # Bytes kept by the sandbox: enough that no character within our own cap is lost.
        kept = max(1 << 20, 4 * self.max_output)
        if argv[:2] == ["bash", "-c"] and len(argv) == 3:
            return await self.box.sh(argv[2], cwd=self.working_dir, timeout=timeout, max_output=kept)
        return await self.box.run(argv, cwd=self.working_dir, timeout=timeout, max_output=kept)

    def _report(self, result: ExecResult, timeout: float) -> tuple[str, int]:
        """What the model sees, and how many bytes it does not."""
        parts, left_out = [_ending(result, timeout)], 0
        streams = (
            ("stdout", result.stdout_bytes, result.dropped_stdout),
            ("stderr", result.stderr_bytes, result.dropped_stderr),
        )
        for name, kept, dropped in streams:
            if kept:
                text = kept.decode(errors="replace")  # cap() marks what is missing, also what the sandbox has dropped
                head, tail = cut(text, self.max_output, self.max_lines)
                left_out += dropped + len(text[head:tail].encode())
                parts.append(f"[{name}]\n{cap(text, self.max_output, lines=self.max_lines, dropped_bytes=dropped)}")
        if len(parts) == 1:
            parts.append("(no output)")
        return "\n".join(parts), left_out


def _ending(result: ExecResult, timeout: float) -> str:
    if result.outcome is Outcome.TIMED_OUT:
        return (
            f"Timed out after {timeout:g} s: the command and all it started were killed. "
            "What it had printed until then follows."
        )
    if result.outcome is Outcome.OUT_OF_MEMORY:
        return (
            f"Out of memory (peak {result.usage.memory_peak >> 20} MiB): every program in the sandbox was killed, those in the"
            " background too. Its files are still there. What it had printed until then follows."
        )
    limit = killed_by(result)
    if limit == "disk":
        return (
            "Killed: the sandbox ran over its limit on disk (bytes or number of files). Every program in it was killed; its"
            " files are still there: delete some. What it had printed until then follows."
        )
    if limit == "output":
        return "Killed: it wrote more output than it may. The beginning and the end follow."
    if result.signal is not None:
        return f"Killed by signal {result.signal} ({_signal_name(result.signal)})"
    full = ", and the limit on processes was reached" if "pids" in result.exhausted else ""
    return f"Exit code: {result.exit_code}{full}"


def killed_by(result: ExecResult) -> str | None:
    """The limit that it was killed for, where that is no outcome of its own: "disk" or "output"."""
    limit = next((name for name in ("disk", "output") if name in result.exhausted), None)
    return limit if result.signal == signal.SIGKILL else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "real-time"


def figures(result: ExecResult) -> dict[str, Any]:
    """A command's figures for the record."""
    usage = result.usage
    return {
        "exit_code": result.exit_code,
        "signal": result.signal,
        "truncated": result.truncated,
        "cpu": usage.cpu,
        "memory_peak": usage.memory_peak,
        "written": usage.written,
        "sent": usage.sent,
        "received": usage.received,
        "denied": usage.denied,
        "exhausted": list(result.exhausted),
    }
