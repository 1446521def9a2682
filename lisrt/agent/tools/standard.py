"""The three tools as models are told of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lisrt.agent.tools.definitions import Definition

__all__ = ["TOOLS", "WITHOUT", "definitions"]

WITHOUT = ("network", "files", "execution")
"""What can be taken away from an agent, as the paper's analysis of capabilities does."""

_FRESH = (
    "Every call starts a new shell in the working directory: files and background processes stay, but cd, variables and "
    "functions are gone afterwards."
)
_PERSISTENT = (
    "The shell goes on from call to call: directory, variables, functions, aliases and options stay, as do files and background "
    "processes. A call that is killed leaves them as they were before it."
)


def _bash(persistent: bool, timeout: float, longest: float) -> Definition:
    properties: dict[str, Any] = {
        "command": {"type": "string", "description": "The script, one line or many."},
        "timeout": {
            "type": "number",
            "description": f"Seconds after which it is killed: {timeout:g} if left out, {longest:g} at most.",
        },
    }
    required = ["command"]
    if persistent:
        properties["restart"] = {"type": "boolean", "description": "Forget directory, variables and functions first."}
        required = []
    return Definition(
        "execute_bash",
        "Run a bash script and get its exit code, stdout and stderr. "
        f"{_PERSISTENT if persistent else _FRESH} stdin is empty. A script that takes too long is killed with all it started; "
        "what it had printed is returned. What is to go on after the script, a server for example, belongs in the background "
        "with its output in a file. Long output loses its middle.",
        {"type": "object", "properties": properties, "required": required, "additionalProperties": False},
    )


_COMMANDS = {
    "view": "a file with line numbers, or what a directory holds: two levels, without hidden names.",
    "create": "a new file with exactly file_text; parent directories are made. An existing file is never overwritten: change it "
    "with str_replace, or remove it first.",
    "str_replace": "put new_str in place of old_str, which must occur exactly once. The match is exact, white space and line "
    "ends included.",
    "insert": "add new_str as lines of its own after line insert_line; 0 puts it before the first line.",
    "undo_edit": "take back the last edit of this tool to the file, if the file has not been changed by other means since.",
}


def _editor(commands: Collection[str]) -> Definition:
    purpose = "Look at text files and directories, create files and change them."
    if len(commands) == 1:
        purpose = "Look at text files and directories."
    listed = "".join(f"\n- {name}: {_COMMANDS[name]}" for name in _COMMANDS if name in commands)
    properties: dict[str, Any] = {
        "command": {"type": "string", "enum": [name for name in _COMMANDS if name in commands]},
        "path": {"type": "string", "description": "Absolute, or relative to the working directory."},
        "view_range": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "view, files only: [first, last] line, counted from 1; last -1 is the end.",
        },
    }
    if len(commands) > 1:
        properties |= {
            "file_text": {"type": "string", "description": "create: the whole content of the new file."},
            "old_str": {"type": "string", "description": "str_replace: the text to replace."},
            "new_str": {
                "type": "string",
                "description": "str_replace: the new text, nothing if left out. insert: the text to insert.",
            },
            "insert_line": {"type": "integer", "description": "insert: the line after which new_str goes."},
        }
    return Definition(
        "str_replace_editor",
        purpose + listed,
        {"type": "object", "properties": properties, "required": ["command", "path"], "additionalProperties": False},
    )


def _submit(with_answer: bool) -> Definition:
    properties: dict[str, Any] = {}
    description = "Finish. Call it once, after the answer has been written to the answer file."
    if with_answer:
        properties["answer"] = {"type": "string", "description": "The final answer, and nothing but it."}
        description = "Finish, with the answer. Call it once."
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return Definition("submit", description, schema)


def definitions(
    *, persistent: bool = False, timeout: float = 120.0, longest: float = 600.0, without: Collection[str] = ()
) -> tuple[Definition, ...]:
    """The tools of an agent that keeps its shell or not, with those time limits in seconds, and without what it may not do."""
    found = [] if "execution" in without else [_bash(persistent, timeout, longest)]
    found.append(_editor(("view",) if "files" in without else _COMMANDS))
    return (*found, _submit("files" in without))


TOOLS = definitions()
