"""The record of one episode: a JSON Lines file, written while it happens.

Each line is an object with `type` and `time` (UTC). In order of appearance:

    start     task, model settings (never the API key), limits, prompts as sent, tools, versions
    sandbox   id, image and guarantees of the sandbox; what was uploaded
    response  turn, message as the model sent it, usage, finish_reason, latency in seconds
    retry     turn, attempt, reason, delay in seconds
    tool      turn, id, name, arguments as sent, observation, outcome, duration in seconds, a command's figures;
              no observation where the outcome is `sandbox_error` or `interrupted`
    egress    turn, host, port, method, allowed, rule, why, at, sent, received: what programs have asked of a Proxy since the last
              tool; the bytes of connections that go on are those so far
    reminder  turn, content: the user message that answers a reply without a tool call
    output    files, directories, bytes and skipped entries of the download
    end       exit_reason, answer, turns, usage, duration in seconds, error, output

A line is flushed before the episode goes on: of a run that is killed, at most the last line is not whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

__all__ = ["TrajectoryWriter", "read_trajectory"]


class TrajectoryWriter:
    """Writes the records of one episode to a new file; a path of None keeps nothing.

    Parent directories are made. Raises FileExistsError rather than mix two episodes in one file.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, watch: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """`watch` is called with each record, after it was written."""
        self.path = None if path is None else Path(path)
        self._watch = watch
        self._file: TextIO | None = None
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("x", encoding="ascii")

    def write(self, kind: str, **fields: Any) -> None:
        """Add one record. Raises OSError when it cannot be written: a record is never lost in silence."""
        record = {"type": kind, "time": datetime.now(UTC).isoformat(), **fields}
        if self._file is not None:
            # ASCII: replies may hold lone surrogates, which JSON escapes can carry and UTF-8 cannot.
            self._file.write(json.dumps(record, default=str) + "\n")
            self._file.flush()
        if self._watch is not None:
            self._watch(record)

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def read_trajectory(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a trajectory file. A last line that a killed run left unfinished is dropped.

    Raises ValueError, naming the line, for any other line that is not a JSON object.
    """
    records: list[dict[str, Any]] = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: not a JSON object")
        records.append(record)
    return records
