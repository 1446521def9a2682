"""What a benchmark asks of a sandbox runtime, so that all of them are asked the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class Unavailable(Exception):
    """This backend does not run here. The message is the reason, for the report; it is no failure."""


class BackendError(Exception):
    """The backend failed at something that it should have done: one failure in the report."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command."""

    exit_code: int
    stdout: bytes


class Instance(Protocol):
    """One sandbox, or container. Safe to use from one thread at a time."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> Done:
        """Runs a program to its end; BackendError when that can't be had. What the program did is a value."""

    def write(self, path: str, data: bytes) -> None:
        """Makes a file and its parents."""

    def read(self, path: str) -> bytes:
        """A whole file."""

    def destroy(self) -> None:
        """Ends everything in it at once and deletes what it wrote; returns when it is gone."""


@runtime_checkable
class Unpacks(Protocol):
    """An instance of a runtime that takes whole trees at once."""

    def unpack(self, data: bytes) -> None:
        """A tar archive, at /."""


class Backend(Protocol):
    """A runtime. `start` comes first, `stop` last; in between `create` is called from many threads."""

    name: str
    """As in `--backend` and in the report's rows."""

    def start(self, image: str | None) -> None:
        """Gets ready to make sandboxes of that image of lisrt's store, or of `host`: all that is done once. Unavailable with the
        reason."""

    def settings(self) -> Mapping[str, str]:
        """Its version, and what it is told: what a reader must know to call the comparison fair."""

    def create(self) -> Instance:
        """A new sandbox that can run commands when this returns."""

    def stop(self) -> None:
        """Leaves nothing behind. Again is allowed."""
