"""The directory of a run: what has ended, and where each episode lies. One process at a time may use it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lisrt.agent.trajectory import read_trajectory

__all__ = ["Place", "RunFolder"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Place:
    """Where one task's files are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "files"
        self.checkpoint = directory / "checkpoint"

    def trajectory(self, attempt: int) -> Path:
        """Of that attempt, counted from 1."""
        return self.directory / ("trajectory.jsonl" if attempt == 1 else f"trajectory-{attempt}.jsonl")

    def last_attempt(self) -> int:
        """0 where there was none."""
        attempt = 0
        while self.trajectory(attempt + 1).exists():
            attempt += 1
        return attempt


class RunFolder:
    """`results.jsonl`, a line for each task that has ended, and `episodes/`, a directory for each task.

    A context manager. Raises FileExistsError for a directory that another process is using, or that holds a run where none is to
    be resumed; FileNotFoundError where there is none to resume.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.results = self.path / "results.jsonl"
        self._resume = resume
        self._lock: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self._adding = threading.Lock()
        self.ended: set[str] = set()

    def __enter__(self) -> RunFolder:
        if self._resume and not self.path.is_dir():
            raise FileNotFoundError(f"there is no run to resume in {self.path}")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.results.exists() and not self._resume:
                raise FileExistsError(f"{self.path} holds a run already: resume it, or choose another directory")
            self._file = self.results.open("a+b", buffering=0)
            self.ended = self._read_ended()
        except BlockingIOError:
            self._lock.close()
            raise FileExistsError(f"another process is running the tasks of {self.path}") from None
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.close()

    def _read_ended(self) -> set[str]:
        assert self._file is not None
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        self._file.truncate(whole)  # a process that was killed may have left half a line
        return {str(json.loads(line)["task"]) for line in data[:whole].splitlines()}

    def place(self, task: str) -> Place:
        """Of the task with that id, whatever characters that has."""
        name = _UNSAFE.sub("_", task)[:80]
        if name != task or name.startswith("."):
            digest = hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{name.lstrip('.')}-{digest[:8]}"
        return Place(self.path / "episodes" / name)

    def add(self, result: Mapping[str, Any]) -> None:
        """A task has ended. The line is on the disk when this returns; from any thread. Raises OSError."""
        assert self._file is not None
        line = json.dumps(result, default=str).encode("ascii") + b"\n"
        with self._adding:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
            self.ended.add(str(result["task"]))


def begun(place: Place) -> tuple[int, list[dict[str, Any]]]:
    """The last attempt at a task, and its records; (0, []) where there was none, or none that has said anything.

    An attempt whose file has not even a beginning is removed: nothing had happened in it.
    """
    attempt = place.last_attempt()
    while attempt:
        records = read_trajectory(place.trajectory(attempt))
        if records:
            return attempt, records
        place.trajectory(attempt).unlink()
        attempt -= 1
    return 0, []


def clear(directory: Path) -> None:
    """What an attempt that came to nothing has left."""
    shutil.rmtree(directory, ignore_errors=True)
