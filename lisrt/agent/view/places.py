"""What a path is that somebody wants to see: an episode, or the folder of a run."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lisrt.agent import folder
from lisrt.agent.view.episode import NotATrajectory, Trajectory
from lisrt.agent.view.head import UNFINISHED, answer, reason
from lisrt.agent.view.words import first_line, mapping, number, text_of, whole

__all__ = ["Place", "Row", "Run", "find"]


@dataclass(frozen=True)
class Place:
    """Where one episode is."""

    trajectory: Path
    files: Path | None
    """What was downloaded from its sandbox; None where nothing was, or where it belongs to a later attempt."""
    earlier: tuple[Path, ...] = ()
    """Trajectories of attempts before this one."""


@dataclass(frozen=True)
class Row:
    """One task of a run."""

    id: str
    reason: str
    """Its exit reason, or UNFINISHED."""
    turns: int
    tokens: int
    duration: float | None
    """Seconds."""
    cost: float | None
    answer: str
    """Its first line; "" without one."""
    error: str
    attempts: int
    place: Place | None
    """None where no episode was begun, or it is gone."""


class Run:
    """The folder of a batch: see `lisrt.agent.Batch`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = folder.RunFolder(path)

    def rows(self) -> list[Row]:
        """A row for each task: those that have ended, and those that were begun; by id, numbers in their order. Raises
        NotATrajectory for a `results.jsonl` that is something else, and OSError."""
        rows = list(self._ended())
        known = {row.place.trajectory.parent.name for row in rows if row.place is not None}
        rows += [row for name in self._episodes() if name not in known and (row := self._begun(name)) is not None]
        return sorted(rows, key=lambda row: _in_order(row.id))

    def _ended(self) -> Iterator[Row]:
        try:
            file = self._folder.results.open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield self._row(_result(self._folder.results, number, line))

    def _row(self, result: dict[str, Any]) -> Row:
        name, usage = text_of(result.get("task")), mapping(result.get("usage"))
        return Row(
            id=name,
            reason=text_of(result.get("exit_reason")),
            turns=whole(result.get("turns")),
            tokens=whole(usage.get("prompt")) + whole(usage.get("completion")),
            duration=number(result.get("duration")),
            cost=number(result.get("cost")),
            answer=first_line(text_of(result.get("answer"))),
            error=first_line(text_of(result.get("error")), 300),
            attempts=whole(result.get("attempts")),
            place=self._place(name),
        )

    def _place(self, name: str) -> Place | None:
        try:
            return _episode(self._folder.place(name).directory)
        except ValueError:  # no file can be named after half of a surrogate pair
            return None

    def _episodes(self) -> list[str]:
        try:
            return os.listdir(self.path / "episodes")
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _begun(self, name: str) -> Row | None:
        """A task without a result: it runs, or was cut off."""
        place = _episode(self.path / "episodes" / name)
        if place is None:
            return None
        try:
            seen = Trajectory(place.trajectory).overview
        except NotATrajectory as error:
            return Row(name, UNFINISHED, 0, 0, None, None, "", str(error), 0, None)
        return Row(
            id=text_of(seen.start.get("id")) or name,
            reason=reason(seen),  # it may have ended, and its process before it could say so elsewhere
            turns=seen.turns,
            tokens=seen.usage["prompt"] + seen.usage["completion"],
            duration=number((seen.end or {}).get("duration")),
            cost=number((seen.end or {}).get("cost")),
            answer=first_line(answer(seen)[0] or ""),
            error=first_line(text_of((seen.end or {}).get("error")), 300),
            attempts=len(place.earlier) + 1,
            place=place,
        )


def find(path: str | os.PathLike[str]) -> Place | Run:
    """A trajectory file, the directory of an episode, or that of a run. Raises NotATrajectory for anything else, and OSError."""
    place = Path(path)
    if not stat.S_ISDIR(os.stat(place).st_mode):
        if place.name == "results.jsonl":
            return Run(place.parent)
        return _of_file(place)
    if (place / "results.jsonl").exists() or (place / "episodes").is_dir():
        return Run(place)
    found = _episode(place)
    if found is None:
        raise NotATrajectory(f"{place} holds no trajectory: neither trajectory.jsonl nor, as the folder of a run, results.jsonl")
    return found


def _of_file(file: Path) -> Place:
    last = _episode(file.parent)
    if last is not None and file.name == last.trajectory.name:
        return Place(file, last.files, last.earlier)
    return Place(file, None)


def _episode(directory: Path) -> Place | None:
    """The last attempt: the files are its own."""
    place = folder.Place(directory)
    last = place.last_attempt()
    if not last:
        return None
    files = place.files if place.files.is_dir() and not place.files.is_symlink() else None
    return Place(place.trajectory(last), files, tuple(place.trajectory(attempt) for attempt in range(1, last)))


def _result(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict) or "task" not in result:
        raise NotATrajectory(f"{file}, line {number}: not the result of a task")
    return result


def _in_order(name: str) -> list[tuple[int, int, str]]:
    """So that task-2 comes before task-10."""
    return [(1, 0, part) if at % 2 == 0 else (0, int(part[:18]), part) for at, part in enumerate(re.split(r"([0-9]+)", name))]
