"""What a row of the doctor is, and what a table of them amounts to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """Verdict on one row."""

    PASS = "pass"
    NOTE = "note"
    """Nothing is lost; something to know."""
    WEAKER = "weaker"
    """Works, but less than the best is enforced, or there is less room than asked for."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Could not be tried: something that it needs failed."""


class Group(StrEnum):
    """What a row is about."""

    ISOLATION = "isolation"
    LIMITS = "limits"
    ROOM = "room"
    HOST = "host"
    """Facts beside: nothing is refused for them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What looking at one thing gave: the verdict, what there is, and the one thing to do unless it passed."""

    status: Status
    found: str
    fix: str = ""
    room: int | None = None
    """For a ceiling: how many sandboxes it leaves room for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    group: Group
    status: Status
    found: str
    meaning: str
    """What the thing is for: what is not guaranteed where it is missing."""
    fix: str = ""
    room: int | None = None

    @property
    def good(self) -> bool:
        """Whether a job that requires this row may go on."""
        return self.status in (Status.PASS, Status.NOTE)

    def as_json(self) -> dict[str, object]:
        """For --json. `room` is there for ceilings only."""
        values = {key: str(value) if isinstance(value, StrEnum) else value for key, value in asdict(self).items()}
        if self.room is None:
            del values["room"]
        return values


STRONG = "strong"
"""What `require` calls full isolation: all rows of that group, and the filter for system calls."""


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, examined for `concurrency` sandboxes at once."""

    rows: tuple[Check, ...]
    concurrency: int

    @property
    def works(self) -> bool:
        """Whether sandboxes work here: no row fails."""
        return not any(row.status is Status.FAIL for row in self.rows)

    @property
    def verdict(self) -> str:
        """`strong`: full isolation; `weaker`: works, less is isolated; `fails`."""
        if not self.works:
            return "fails"
        return "weaker" if self.lacking([STRONG]) else STRONG

    @property
    def room(self) -> int | None:
        """How many sandboxes the lowest ceiling leaves room for; None when no ceiling could be read."""
        return min((row.room for row in self.rows if row.room is not None), default=None)

    def lacking(self, required: Iterable[str]) -> list[Check]:
        """The rows that are required and not there: by name those that don't pass, of "strong" those that are not good.

        KeyError for a name that is no row.
        """
        wanted: set[str] = set()
        named: set[str] = set()
        known = {row.name for row in self.rows}
        for name in required:
            if name == STRONG:
                wanted |= {row.name for row in self.rows if row.group is Group.ISOLATION} | {"system-calls"}
            elif name in known:
                named.add(name)
            else:
                raise KeyError(name)
        return [
            row
            for row in self.rows
            if (row.name in named and row.status is not Status.PASS) or (row.name in wanted and not row.good)
        ]

    def as_json(self) -> dict[str, object]:
        """For --json."""
        summary = {
            "verdict": self.verdict,
            "works": self.works,
            "concurrency": self.concurrency,
            "room": self.room,
            **{str(status): [row.name for row in self.rows if row.status is status] for status in Status},
        }
        return {"rows": [row.as_json() for row in self.rows], "summary": summary}
