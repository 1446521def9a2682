"""The tools as llm-in-sandbox 0.2.0 had them, for its released checkpoint: `profile="lis-0.2"`.

What a model of that time has seen is kept: names, parameters, the forms of the observations, the limits, and how the editor
changed files, which went through a shell: it views Python files only, adds a line end with each write, turns tabs into blanks,
and leaves `\\r` and colours out. Sentences that only explain are our own. What ended its episodes by a crash (arguments of the
wrong type) is answered here. Do not use it for anything but replication.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lisrt.agent.tools.bash import figures
from lisrt.agent.tools.definitions import Definition
from lisrt.agent.tools.editor import observed
from lisrt.agent.tools.observation import Observation, ToolError
from lisrt.aio import AsyncSandbox
from lisrt.result import ExecResult, Outcome

__all__ = ["CONTINUE", "TOOLS", "Lis02", "malformed"]

TIMEOUT = 120.0
_LINES = 40
_RESPONSE = 10_000
_AROUND = 4
_KEPT = 8 << 20

CONTINUE = (
    "You forgot to use a function call in your response. Go on with one of the tools, or call submit when the answer is written. "
    "NEVER ASK FOR HUMAN HELP."
)
_CLIPPED = (
    "<response clipped><NOTE>This is only the beginning, to save context. Find the lines that you need with `grep -n`, then look "
    "again.</NOTE>"
)
_DIVIDER = f"{'-' * 50}\n<Observation truncated in middle for saving context>\n{'-' * 50}"

_STRING = {"type": "string"}
TOOLS = (
    Definition(
        "str_replace_editor",
        "View, create and edit files; what it has done stays from call to call. view: a Python file with line numbers, or what a "
        "directory holds, two levels deep. create: a file with file_text. str_replace: new_str for old_str, which must be unique "
        "in the file. insert: new_str after line insert_line.",
        {
            "type": "object",
            "properties": {
                "command": {**_STRING, "enum": ["view", "create", "str_replace", "insert"], "description": "What to do."},
                "path": {**_STRING, "description": "Absolute path of the file or directory."},
                "file_text": {**_STRING, "description": "For create: the content."},
                "old_str": {**_STRING, "description": "For str_replace: what to replace."},
                "new_str": {**_STRING, "description": "For str_replace and insert: what comes in."},
                "insert_line": {"type": "integer", "description": "For insert: the line after which new_str comes."},
                "view_range": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "For view of a file: first and last line; -1 is the end.",
                },
            },
            "required": ["command", "path"],
        },
    ),
    Definition(
        "execute_bash",
        "Run a bash command in the sandbox, and get its standard output and error.",
        {"type": "object", "properties": {"command": {**_STRING, "description": "The command."}}, "required": ["command"]},
    ),
    Definition("submit", "Finish the task.", {"type": "object", "properties": {}, "required": []}),
)

_COLOURS = re.compile(r"\x1b\[[0-9;]*m|\r")


class Lis02:
    """Those tools at work in one sandbox."""

    definitions = TOOLS

    def __init__(self, box: AsyncSandbox, *, working_dir: str) -> None:
        self._box = box
        self._working_dir = working_dir

    async def call(self, name: str, values: Mapping[str, Any]) -> Observation:
        """One call. Raises ToolError, and LisrtError or SandboxFault where it is the sandbox that failed."""
        for value in values.values():
            if isinstance(value, str) and ("\0" in value or not _is_text(value)):
                raise ToolError("the arguments hold a NUL character, or half of a surrogate pair")
        if name == "execute_bash":
            return await self._bash(str(values.get("command", "")))
        if name == "str_replace_editor":
            text = await self._edit({key: value for key, value in values.items() if value is not None})
            return Observation(f"Execution output of \\[str_replace_editor]:\n{text}", "done")
        if name == "submit":
            return Observation("<<< Finished >>>", "submitted")
        return Observation(f"Unknown action: {name}", "refused")

    async def _bash(self, command: str) -> Observation:
        if not command:
            return Observation("Error: No command provided.", "refused")
        result = await self._run(command)
        out, err, code = _streams(result)
        text = f"Exit code: {code}\nExecution output of \\[execute_bash]:\n\\[STDOUT]\n{_shortened(out)}"
        if err.strip():
            text += f"\n\\[STDERR]\n{_shortened(err)}"
        return Observation(text, result.outcome.value, figures(result))

    async def _run(self, command: str) -> ExecResult:
        try:
            return await self._box.run(["bash", "-c", command], cwd=self._working_dir, timeout=TIMEOUT, max_output=_KEPT)
        except OSError as error:
            raise observed(error, self._working_dir) from error

    async def _merged(self, command: str) -> tuple[str, str]:
        """Output and code as the editor saw them. What could not even be started is no "Error" to it, but -1."""
        try:
            result = await self._box.run(
                ["bash", "-c", command], cwd=self._working_dir, timeout=TIMEOUT, max_output=_KEPT, merge_stderr=True
            )
        except OSError as error:
            fault = observed(error, self._working_dir)
            if not isinstance(fault, ToolError):
                raise fault from error
            return f"Error: {error.strerror}", "-1"
        out, _, code = _streams(result)
        return out, code

    async def _edit(self, values: Mapping[str, Any]) -> str:
        command, path = values.get("command"), values.get("path")
        if not command or not path:
            return "Error: command and path are required."
        verbs = {"view": self._view, "create": self._create, "str_replace": self._replace, "insert": self._insert}
        if str(command) not in verbs:
            return f"Unknown command: {command}"
        return await verbs[str(command)](str(path), values)

    async def _view(self, path: str, values: Mapping[str, Any]) -> str:
        kind, _ = await self._merged(f"test -d {path} && echo dir || (test -f {path} && echo file || echo none)")
        if kind.strip() == "dir":
            what = r"\( -type d -o -name '*.py' -o -name '*.rst' \)"
            listing, _ = await self._merged(f"find {path} -maxdepth 2 -not -path '*/.*' {what} | head -100")
            head = f"Here's the files and directories up to 2 levels deep in {path}, excluding hidden:"
            return f"{head}\n{listing}" if listing else f"(empty directory: {path})"
        if kind.strip() != "file":
            return f"Error: Path not found: {path}"
        if not path.endswith((".py", ".rst")):
            why = f"File '{path}' is not a .py or .rst file."
            return f"ERROR: Viewing non-Python files is disallowed for saving context. {why}"
        text, _ = await self._merged(f"cat {path}")
        if not text:
            return f"(empty file: {path})"
        lines = text.expandtabs().split("\n")
        first, last = 1, len(lines)
        wanted = values.get("view_range")
        if isinstance(wanted, list) and len(wanted) == 2 and all(isinstance(one, int) for one in wanted):
            first, last = wanted[0], len(lines) if wanted[1] == -1 else wanted[1]
            if not 1 <= first <= len(lines):
                return f"Error: Invalid view_range {wanted}: start line must be in [1, {len(lines)}]"
            if not first <= last <= len(lines):
                return f"Error: Invalid view_range {wanted}: the end must be from the start to {len(lines)}, or -1."
        shown = _numbered(lines[first - 1 : last], first)
        return _clipped(f"Here's the result of running `cat -n` on {path}:\n{shown}")

    async def _create(self, path: str, values: Mapping[str, Any]) -> str:
        text = str(values.get("file_text", ""))
        output, code = await self._merged(f"mkdir -p $(dirname {path}) && echo {_quoted(text)} > {path}")
        if "Error" in code:
            return f"Error creating file: {output}"
        return f"File created at {path}. {_snippet(text, path, 1)}Review the file, and edit it again if it is not as expected."

    async def _replace(self, path: str, values: Mapping[str, Any]) -> str:
        old, new = str(values.get("old_str", "")).expandtabs(), str(values.get("new_str", "")).expandtabs()
        if not old:
            return "Error: old_str is required for str_replace."
        text, _ = await self._merged(f"cat {path}")
        if not text:
            return f"Error: Could not read file {path}"
        text = text.expandtabs()
        if (count := text.count(old)) != 1:
            if not count:
                return f"Error: No occurrences of old_str found in {path} for replacement."
            return f"Error: Multiple occurrences ({count}) of old_str found in {path}. It must be unique."
        line = text[: text.index(old)].count("\n")
        edited = text.replace(old, new, 1)
        first = max(0, line - _AROUND)
        around = edited.split("\n")[first : line + _AROUND + new.count("\n") + 1]
        return await self._written(path, edited, "\n".join(around), f"a snippet of {path}", first + 1)

    async def _insert(self, path: str, values: Mapping[str, Any]) -> str:
        new, after = str(values.get("new_str", "")).expandtabs(), values.get("insert_line", 0)
        if not new:
            return "Error: new_str is required for insert."
        if isinstance(after, bool) or not isinstance(after, int):
            raise ToolError("insert_line must be an integer")
        text, _ = await self._merged(f"cat {path}")  # of a missing file that is what cat says: so it was
        lines = text.expandtabs().split("\n") if text else []
        if not 0 <= after <= len(lines):
            return f"Error: Invalid insert_line {after}. Must be in [0, {len(lines)}]."
        coming = new.split("\n")
        edited = "\n".join([*lines[:after], *coming, *lines[after:]])
        around = [*lines[max(0, after - _AROUND) : after], *coming, *lines[after : after + _AROUND]]
        return await self._written(path, edited, "\n".join(around), "a snippet of the edited file", max(1, after - _AROUND + 1))

    async def _written(self, path: str, text: str, around: str, what: str, first: int) -> str:
        _, code = await self._merged(f"echo {_quoted(text)} > {path}")
        if "Error" in code:
            return f"Error writing file: {path}"
        return f"The file {path} has been edited. {_snippet(around, what, first)}Review the changes, and edit again if need be."


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def malformed(name: str, arguments: str) -> Observation:
    """What it said to arguments that are no JSON, or JSON but no object: that nothing was called, or nothing at all."""
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return Observation(CONTINUE, "refused")
    if name == "execute_bash":
        return Observation("Exit code: 0\nExecution output of \\[execute_bash]:\n\\[STDOUT]\n", "refused")
    return Observation(f"Execution output of \\[{name}]:\n", "refused")


def _streams(result: ExecResult) -> tuple[str, str, str]:
    if result.outcome is Outcome.TIMED_OUT or result.returncode == 124:
        return f"The command took too long to execute (>{TIMEOUT:g}s)", "", "-1"
    out, err = (_COLOURS.sub("", text) for text in (result.stdout, result.stderr))
    return out, err, f"Error: Exit code {result.returncode}" if result.returncode else "0"


def _shortened(text: str) -> str:
    lines = text.splitlines()
    if len(lines) <= 2 * _LINES:
        return text
    return "\n".join([*lines[:_LINES], _DIVIDER, *lines[-_LINES:]])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _clipped(text: str) -> str:
    return text if len(text) <= _RESPONSE else text[:_RESPONSE] + _CLIPPED


def _numbered(lines: list[str], first: int) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines, first))


def _snippet(text: str, what: str, first: int) -> str:
    lines = _clipped(text).expandtabs().split("\n")
    return f"Here's the result of running `cat -n` on {what}:\n{_numbered(lines, first)}\n"
