"""The record of one episode: a JSON Lines file, written while it happens. docs/trajectory.md describes every record.

A line is flushed before the episode goes on: of a run that is killed, at most the last line is not whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

__all__ = ["FORMAT", "TrajectoryWriter", "read_trajectory"]

FORMAT = 2
"""Of the records, in `start`: raised when a reader would misunderstand what it knows. 1 had no `agent`."""


class TrajectoryWriter:
    """Writes the records of one episode to a new file, or on to one that was cut off; a path of None keeps nothing.

    Parent directories are made. Raises FileExistsError rather than mix two episodes in one file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        watch: Callable[[dict[str, Any]], None] | None = None,
        *,
        goes_on: bool = False,
    ) -> None:
        """`watch` is called with each record, after it was written. `goes_on`: the file is there, and records are added."""
        self.path = None if path is None else Path(path)
        self._watch = watch
        self._file: BinaryIO | None = None
        if self.path is not None:
            if not goes_on:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = self.path.open("r+b" if goes_on else "xb", buffering=0)
            except FileExistsError:
                raise FileExistsError(f"{self.path} is the record of another episode: choose a new name") from None
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if goes_on:
                    self._drop_unfinished_line()
            except BlockingIOError:
                self._file.close()
                raise FileExistsError(f"another run is writing {self.path}") from None

    def _drop_unfinished_line(self) -> None:
        assert self._file is not None
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)
        self._file.seek(whole)

    def write(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Add one record, and return it. Raises OSError when it cannot be written: a record is never lost in silence."""
        record = {"type": kind, "time": datetime.now(UTC).isoformat(), **fields}
        if self._file is not None:
            # ASCII: replies may hold lone surrogates, which JSON escapes can carry and UTF-8 cannot.
            line = memoryview(json.dumps(record, default=str).encode("ascii") + b"\n")
            while line:
                line = line[self._file.write(line) :]
        if self._watch is not None:
            self._watch(record)
        return record

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
        if not isinstance(record, dict) or not isinstance(record.get("type"), str):
            raise ValueError(f"{path}, line {number}: not a record of a trajectory")
        records.append(record)
    return records
