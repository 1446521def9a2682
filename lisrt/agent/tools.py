"""The model's three tools: `execute_bash`, `str_replace_editor`, `submit`.

`TOOLS` is what the model is told; the same data checks the arguments it sends. A call always ends in an
`Observation`, whatever the arguments: mistakes are answered, not raised. Only a fault of the sandbox is an
exception (`LisrtError` or `SandboxFault`), because it is none of the model's business.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lisrt.agent.editor import Editor, observed
from lisrt.agent.edits import ToolError, cap
from lisrt.agent.reply import parse_arguments
from lisrt.aio import AsyncSandbox
from lisrt.result import ExecResult, Outcome

__all__ = ["TOOLS", "Observation", "Tools"]

_BASH = {
    "name": "execute_bash",
    "description": (
        "Run a bash script and get its exit code, stdout and stderr. Every call starts a new shell in the "
        "working directory: files and background processes stay, but cd, variables and functions are gone "
        "afterwards. stdin is empty. A script that takes too long is killed with all it started; what it had "
        "printed is returned. Long output loses its middle."
    ),
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string", "description": "The script, one line or many."}},
        "required": ["command"],
        "additionalProperties": False,
    },
}

_EDITOR = {
    "name": "str_replace_editor",
    "description": (
        "Look at text files and directories, create files and change them.\n"
        "- view: a file with line numbers, or what a directory holds: two levels, without hidden names.\n"
        "- create: a new file with exactly file_text; parent directories are made. An existing file is never "
        "overwritten: change it with str_replace, or remove it first.\n"
        "- str_replace: put new_str in place of old_str, which must occur exactly once. The match is exact, "
        "white space and line ends included.\n"
        "- insert: add new_str as lines of its own after line insert_line; 0 puts it before the first line."
    ),
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            "path": {"type": "string", "description": "Absolute, or relative to the working directory."},
            "file_text": {"type": "string", "description": "create: the whole content of the new file."},
            "old_str": {"type": "string", "description": "str_replace: the text to replace."},
            "new_str": {
                "type": "string",
                "description": "str_replace: the new text, nothing if left out. insert: the text to insert.",
            },
            "insert_line": {"type": "integer", "description": "insert: the line after which new_str goes."},
            "view_range": {
                "type": "array",
                "items": {"type": "integer"},
                "description": "view, files only: [first, last] line, counted from 1; last -1 is the end.",
            },
        },
        "required": ["command", "path"],
        "additionalProperties": False,
    },
}

_SUBMIT = {
    "name": "submit",
    "description": "Finish. Call it once, after the answer has been written to the answer file.",
    "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
}

TOOLS: tuple[dict[str, Any], ...] = tuple(
    {"type": "function", "function": function} for function in (_BASH, _EDITOR, _SUBMIT)
)

_PARAMETERS: dict[str, dict[str, Any]] = {
    tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS
}

_TYPES: dict[str, type] = {"string": str, "integer": int, "array": list}


@dataclass(frozen=True)
class Observation:
    """What one call came to. `text` is for the model, the rest for the record."""

    text: str
    outcome: str
    """`exited`, `signaled`, `timed_out` or `out_of_memory` for a command, `done` for the editor, `submitted`; `refused` for a
    call that could not be carried out, `not_run` for one after submit."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """A command's exit_code, signal, truncated, cpu (seconds), memory_peak and written (bytes), exhausted; else empty."""


class Tools:
    """The tools at work in one sandbox.

    working_dir: where commands start and relative paths begin. command_timeout: seconds for one command.
    max_output: characters kept of a command's stdout, of its stderr, and of any other answer.
    """

    def __init__(
        self, box: AsyncSandbox, *, working_dir: str, command_timeout: float, max_output: int
    ) -> None:
        self._box = box
        self._working_dir = working_dir
        self._command_timeout = command_timeout
        self._max_output = max_output
        self._editor = Editor(box, working_dir=working_dir, max_output=max_output)
        self._handlers: dict[str, Callable[[Mapping[str, Any]], Awaitable[Observation]]] = {
            "execute_bash": self._bash,
            "str_replace_editor": self._edit,
            "submit": self._submit,
        }

    async def call(self, name: str, arguments: str) -> Observation:
        """Carry out one call; `arguments` is the JSON text of the model.

        Raises LisrtError or SandboxFault when the sandbox fails, nothing for any mistake of the model.
        """
        try:
            if name not in self._handlers:
                raise ToolError(f"there is no tool {name!r}; the tools are {', '.join(self._handlers)}")
            return await self._handlers[name](_checked(arguments, _PARAMETERS[name]))
        except ToolError as error:
            return Observation(cap(f"Error: {error}", self._max_output), "refused")

    async def _bash(self, values: Mapping[str, Any]) -> Observation:
        command = values["command"]
        if not command.strip():
            raise ToolError("command is empty")
        if "\0" in command:
            raise ToolError("command contains a NUL character")
        try:
            try:
                result = await self._sh(command)
            except (FileNotFoundError, NotADirectoryError):
                # the model has removed or replaced the directory that commands start in: without it none ever would
                await self._box.run(
                    ["mkdir", "-p", "--", self._working_dir], cwd="/", timeout=self._command_timeout
                )
                result = await self._sh(command)
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise ToolError(
                    "the script is too long to start; write it to a file with str_replace_editor and run that"
                ) from error
            raise observed(error, self._working_dir) from error
        return Observation(self._report(result), result.outcome.value, _figures(result))

    async def _sh(self, command: str) -> ExecResult:
        return await self._box.sh(
            command,
            cwd=self._working_dir,
            timeout=self._command_timeout,
            # Bytes kept by the sandbox: enough that no character within our own cap is lost.
            max_output=max(1 << 20, 4 * self._max_output),
        )

    def _report(self, result: ExecResult) -> str:
        parts = [_ending(result, self._command_timeout)]
        streams = (
            ("stdout", result.stdout_bytes, result.dropped_stdout),
            ("stderr", result.stderr_bytes, result.dropped_stderr),
        )
        for name, kept, dropped in streams:
            if kept:
                text = kept.decode(errors="replace")  # cap() marks what is missing, also what the sandbox has dropped
                parts.append(f"[{name}]\n{cap(text, self._max_output, dropped_bytes=dropped)}")
        if len(parts) == 1:
            parts.append("(no output)")
        return "\n".join(parts)

    async def _edit(self, values: Mapping[str, Any]) -> Observation:
        command, path = values["command"], values["path"]
        if command == "view":
            text = await self._editor.view(path, values.get("view_range"))
        elif command == "create":
            text = await self._editor.create(path, _needed(values, "file_text"))
        elif command == "str_replace":
            text = await self._editor.str_replace(path, _needed(values, "old_str"), values.get("new_str", ""))
        else:
            line = _needed(values, "insert_line")
            text = await self._editor.insert(path, line, _needed(values, "new_str"))
        return Observation(text, "done")

    async def _submit(self, values: Mapping[str, Any]) -> Observation:
        return Observation("Submitted.", "submitted")


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
    limit = next((name for name in ("disk", "output") if name in result.exhausted), None)
    if limit and result.signal == signal.SIGKILL:
        if limit == "disk":
            return (
                "Killed: the sandbox ran over its limit on disk (bytes or number of files). Every program in it was killed; its"
                " files are still there: delete some. What it had printed until then follows."
            )
        return "Killed: it wrote more output than it may. The beginning and the end follow."
    if result.signal is not None:
        return f"Killed by signal {result.signal} ({_signal_name(result.signal)})"
    full = ", and the limit on processes was reached" if "pids" in result.exhausted else ""
    return f"Exit code: {result.exit_code}{full}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "real-time"


def _figures(result: ExecResult) -> dict[str, Any]:
    return {
        "exit_code": result.exit_code,
        "signal": result.signal,
        "truncated": result.truncated,
        "cpu": result.usage.cpu,
        "memory_peak": result.usage.memory_peak,
        "written": result.usage.written,
        "exhausted": list(result.exhausted),
    }


def _checked(arguments: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, held against the schema the model was given. A null counts as left out."""
    try:
        values = {name: value for name, value in parse_arguments(arguments).items() if value is not None}
    except ValueError as error:
        raise ToolError(f"the arguments are not a JSON object ({error}): {cap(arguments, 400)}") from error
    known: Mapping[str, Mapping[str, Any]] = schema["properties"]
    for name, value in values.items():
        if name not in known:
            raise ToolError(
                f"there is no parameter {name!r}; the parameters are {', '.join(known) or 'none'}"
            )
        _check(name, value, known[name])
    for name in schema["required"]:
        _needed(values, name)
    return values


def _check(name: str, value: Any, schema: Mapping[str, Any]) -> None:
    if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool):
        raise ToolError(f"{name} must be of type {schema['type']}, not {type(value).__name__}")
    if "enum" in schema and value not in schema["enum"]:
        raise ToolError(f"{name} must be one of {', '.join(schema['enum'])}, not {value!r}")
    if isinstance(value, list):
        for item in value:
            _check(f"every item of {name}", item, schema["items"])
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ToolError(f"{name} holds half of a surrogate pair, which is no character") from error


def _needed(values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise ToolError(f"{name} is missing")
    return values[name]
