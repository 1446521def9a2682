"""What an agent is asked: a prompt, the files that come with it, and where its answer is looked for."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["BadTask", "Task", "read_tasks"]


@dataclass(frozen=True)
class Task:
    """One task. Raises ValueError for an empty prompt, and names of files that would leave their directory."""

    prompt: str
    id: str = ""
    """A name for results; in a batch the number of the line where there is none."""
    input_dir: str | os.PathLike[str] | None = None
    """A directory or file of the host, uploaded to `Prompts.input_dir`."""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """More files for `Prompts.input_dir`, by their paths in there."""
    answer_file: str | None = None
    """An absolute path in the sandbox; None for `Prompts.answer_file`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else belongs to it, a ground truth for example: recorded, and never shown to the model."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("the prompt is empty")
        if self.answer_file is not None and (not self.answer_file.startswith("/") or "\0" in self.answer_file):
            raise ValueError(f"answer_file must be an absolute path inside the sandbox, not {self.answer_file!r}")
        for name, data in self.files.items():
            _check_name(name)
            if any(above in self.files for above in _above(name)):
                raise ValueError(f"{name!r} lies in what is a file itself")
            if isinstance(data, str):
                data.encode()  # UnicodeEncodeError is a ValueError

    def prompted(self, prompt: str) -> Task:
        """The same with another prompt."""
        return replace(self, prompt=prompt)


@dataclass(frozen=True)
class BadTask:
    """A line of a file of tasks that is none."""

    id: str
    error: str


def _above(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _check_name(name: str) -> None:
    parts = name.split("/")
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(os.fsencode(name)) > 3000:
        raise ValueError(f"a file's name is too long: {name[:50]!r}...")
    if not name or "\0" in name or name.startswith("/") or ".." in parts or posixpath.normpath(name) in (".", ""):
        raise ValueError(f"a file's name must be a path inside the input directory, not {name!r}")


def read_tasks(path: str | os.PathLike[str], *, input_root: str | os.PathLike[str] | None = None) -> Iterator[Task | BadTask]:
    """The tasks of a JSON Lines file, one object a line:

        {"prompt": "...", "id": "...", "input": "DIRECTORY OR FILE", "files": {"NAME": "TEXT"}, "answer_file": "/..."}

    Only the prompt is needed. `input` is a path below `input_root`, by default the file's own directory: who writes tasks does
    not choose among all files of this host. Other keys are the task's data. The paper's records
    (`problem_statement`, and `input_files` as JSON text) are understood as they are. A line that is no task is a BadTask: it says
    why. Empty lines are passed over. Raises OSError.
    """
    place = Path(path)
    root = (place.parent if input_root is None else Path(input_root)).resolve()
    seen: set[str] = set()
    with place.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _read_line(line, number, place, root, seen)


def _read_line(line: bytes, number: int, place: Path, root: Path, seen: set[str]) -> Task | BadTask:
    name = f"line-{number}"
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError(f"a JSON object is expected, not {type(value).__name__}")
        name = str(value.get("id") or name)
        if name in seen:
            name, known = f"line-{number}", name
            raise ValueError(f"the id {known!r} is that of an earlier line")
        seen.add(name)
        return _task(value, name, root)
    except json.JSONDecodeError as error:  # its own words have a line 1, too, which is this line
        array = "; one JSON object a line is expected, not an array" if line.lstrip().startswith(b"[") else ""
        return BadTask(name, f"{place}, line {number}: no JSON: {error.msg} at column {error.colno}{array}")
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        return BadTask(name, f"{place}, line {number}: {error}")


def _task(value: dict[str, Any], name: str, root: Path) -> Task:
    prompt = _text(value, "prompt", value.get("problem_statement"))
    files = value.get("files", value.get("input_files")) or {}
    if isinstance(files, str):
        files = json.loads(files)
    if not isinstance(files, dict) or not all(isinstance(text, str) for text in files.values()):
        raise ValueError("files must be an object of names and texts")
    source = None if value.get("input") is None else _below(root, _text(value, "input"))
    known = {"prompt", "problem_statement", "files", "input_files", "input", "answer_file", "id"}
    answer_file = _text(value, "answer_file") if value.get("answer_file") is not None else None
    data = {key: one for key, one in value.items() if key not in known}
    return Task(prompt, name, source, files, answer_file, data)


def _below(root: Path, name: str) -> Path:
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"input: {name!r} leads out of {root}")
    if not path.exists():
        raise ValueError(f"input: there is no {path}")
    return path


def _text(value: dict[str, Any], key: str, other: Any = None) -> str:
    text = value.get(key, other)
    if not isinstance(text, str):
        raise ValueError(f"{key} must be text, and is {'missing' if text is None else type(text).__name__}")
    return text
