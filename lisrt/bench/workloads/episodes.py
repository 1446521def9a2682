"""Recorded agent episodes, and how one is played again, whatever runtime carries it out.

An episode is a trajectory as `lisrt run` writes it (lisrt/agent/trajectory.py). Of its records those of type `tool` are played:
name, arguments, outcome and exit_code. The record `start` may have `files`, what the task is about: a tar archive, gzip, base64,
with names like testbed/data.csv.
"""

from __future__ import annotations

import base64
import gzip
import json
import posixpath
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from lisrt.agent.tools.edits import insert, replace_once
from lisrt.agent.tools.observation import ToolError
from lisrt.agent.trajectory import read_trajectory
from lisrt.bench.backend import Unavailable

HOME = "/testbed"
"""Where commands start and relative paths begin."""
_HERE = Path(__file__).resolve()
_OWN = (_HERE.parents[1] / "episodes", _HERE.parents[3] / "bench" / "episodes")
"""Where they are installed, and where they are in a checkout."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call. `exit_code` is that of the recorded command; None where there was none, or it was killed."""

    name: str
    arguments: dict[str, Any]
    outcome: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Episode:
    """What one agent did."""

    name: str
    files: bytes
    """A tar archive of what is there before the first call, for /; empty where that is nothing."""
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Think:
    """The model is at work, for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Command:
    """To be run to its end; the answer is its status."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """The answer is the file's bytes."""

    path: str


@dataclass(frozen=True, slots=True)
class Write:
    """No answer."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Unpack:
    """A tar archive, for /. No answer."""

    data: bytes


Step: TypeAlias = Think | Command | Read | Write | Unpack
Replay: TypeAlias = Generator[Step, Any, None]


@dataclass(slots=True)
class Tally:
    """What a replay came to."""

    thought: float = 0.0
    """Seconds."""
    own: float | None = 0.0
    """Seconds that commands ran, as the sandbox's PID 1 has measured it; None where nobody does."""
    calls: list[float] = field(default_factory=list)
    """Seconds that each tool call took."""
    wrong: list[str] = field(default_factory=list)
    """Calls that did not end as recorded."""


class Differs(Exception):
    """A file is not what it was when the episode was recorded."""


def load(directory: str | None) -> list[Episode]:
    """All of a directory, or those that come with lisrt. Unavailable where there are none."""
    places = _OWN if directory is None else (Path(directory),)
    files = sorted(file for place in places for file in place.glob("*.jsonl"))
    if not files:
        raise Unavailable(f"no recorded episodes (*.jsonl) in {directory or 'this installation'}")
    return [_episode(file) for file in files]


def _episode(file: Path) -> Episode:
    files, calls = b"", []
    for record in read_trajectory(file):
        if record.get("type") == "start":
            files = _archive(file, record.get("files", ""))
        if record.get("type") == "tool" and record.get("outcome") not in ("sandbox_error", "interrupted", "not_run"):
            try:
                arguments = json.loads(record["arguments"] or "{}")
                calls.append(Call(record["name"], arguments, record["outcome"], record.get("exit_code")))
            except (KeyError, TypeError) as error:
                words = "a record of type tool has name, arguments (JSON, as text) and outcome"
                raise Unavailable(f"{file}: {words}; one has not: {error}") from error
            except ValueError:
                continue  # the model's mistake: it never reached the sandbox
    return Episode(file.stem, files, tuple(calls))


def _archive(file: Path, text: str) -> bytes:
    try:
        return gzip.decompress(base64.b64decode(text, validate=True)) if text else b""
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise Unavailable(f"{file}: the files of its task are no gzip in base64: {error}") from None


def replay(episode: Episode, thinks: Iterator[float], tally: Tally) -> Replay:
    """All steps of an episode. What does not end as it did then is noted in the tally; the episode goes on."""
    yield Unpack(episode.files) if episode.files else Command(("mkdir", "-p", HOME))
    for number, call in enumerate(episode.calls, 1):
        yield Think(next(thinks))
        try:
            status = yield from _play(call)
        except Differs as error:
            tally.wrong.append(f"{episode.name}, call {number}: {error}")
            continue
        if call.exit_code is not None and status != call.exit_code:
            tally.wrong.append(f"{episode.name}, call {number}: exited with {status}, when it was recorded with {call.exit_code}")


def _bash(script: str) -> Command:
    return Command(("bash", "-c", f"cd {HOME} || exit 125\n{script}"))


def _play(call: Call) -> Generator[Step, Any, int | None]:
    """As lisrt's own tools do it: commands by bash, edits as a file read, changed here and written."""
    if call.name == "execute_bash" and call.outcome != "refused":
        status: int = yield _bash(call.arguments["command"])
        return status
    if call.name == "str_replace_editor":
        yield from _edit(call)
    return None


def _edit(call: Call) -> Generator[Step, Any, None]:
    verb, values = call.arguments.get("command"), call.arguments
    path = posixpath.join(HOME, values.get("path", ""))
    if call.outcome == "refused":
        yield Command(("test", "-e", path))
    elif verb == "create":
        yield Write(path, values["file_text"].encode())
    elif verb == "view":
        yield Command(("find", path, "-maxdepth", "2")) if path.endswith("/") else Read(path)
    else:
        data = yield Read(path)
        try:
            if verb == "insert":
                edited, _ = insert(data, values["insert_line"], values["new_str"].encode())
            else:
                edited, _ = replace_once(data, values["old_str"].encode(), values.get("new_str", "").encode())
        except ToolError as error:
            raise Differs(f"{path} is not what it was then: {error}") from error
        yield Write(path, edited)
