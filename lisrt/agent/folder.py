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

from lisrt.agent.episode import UNFINISHED, ExitReason
from lisrt.agent.trajectory import read_trajectory
from lisrt.store.home import write_synced

__all__ = ["Place", "RunFolder"]

_DIGEST = re.compile(r"-[0-9a-f]{16}$")
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

    When a run is resumed what was not the model's doing is done again.

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
        self.ended: dict[str, str] = {}
        """The exit reason of each task that has ended."""

    def __enter__(self) -> RunFolder:
        if self._resume and not self.path.is_dir():
            raise FileNotFoundError(f"there is no run to resume in {self.path}")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.results.exists() and not self._resume:
                raise FileExistsError(f"{self.path} holds a run already: resume it (resume=True), or choose another directory")
            self.ended = self._read_ended()
            self._file = self.results.open("ab", buffering=0)
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

    def _read_ended(self) -> dict[str, str]:
        """What stands. Lines of what is to be done again go to `faults.jsonl`: in the results each task is once."""
        data = self.results.read_bytes() if self.results.exists() else b""
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)  # a process that was killed may have left half a line
        known = [(line, json.loads(line)) for line in lines]
        again = [(line, one) for line, one in known if one["exit_reason"] in UNFINISHED]
        if again or len(data) != sum(map(len, lines)):
            with (self.path / "faults.jsonl").open("ab") as file:  # a line that is no task would be there again each time
                file.write(b"".join(line for line, one in again if one["exit_reason"] != ExitReason.BAD_TASK))
            new = self.path / "results.new"
            write_synced(new, b"".join(line for line, one in known if one["exit_reason"] not in UNFINISHED))
            new.replace(self.results)
        return {str(one["task"]): str(one["exit_reason"]) for _, one in known if one["exit_reason"] not in UNFINISHED}

    def place(self, task: str) -> Place:
        """Of the task with that id, whatever characters that has."""
        name = _UNSAFE.sub("_", task)[:80]
        if name != task or name.startswith(".") or _DIGEST.search(name):  # else two ids could have one directory
            digest = hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{name.lstrip('.')}-{digest[:16]}"
        return Place(self.path / "episodes" / name)

    def add(self, result: Mapping[str, Any]) -> None:
        """A task has ended. The line is on the disk when this returns; from any thread. Raises OSError."""
        assert self._file is not None
        line = json.dumps(result, default=str).encode("ascii") + b"\n"
        with self._adding:
            before = os.fstat(self._file.fileno()).st_size
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                os.truncate(self._file.fileno(), before)  # half a line in the middle could not be read any more
                raise
            self.ended[str(result["task"])] = str(result["exit_reason"])


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
