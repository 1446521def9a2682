"""The files of an episode's sandbox, kept from time to time for a process that may be killed."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from lisrt.aio import AsyncSandbox
from lisrt.errors import LisrtError, SandboxGone

__all__ = ["Checkpoints", "NotKept"]

# A checkpoint that took a second is not followed by another for so many.
_SPARING = 20.0


class NotKept(Exception):
    """A checkpoint could not be made; the episode goes on without."""


class Checkpoints:
    """Of one episode, in a directory of its own; None for none."""

    def __init__(self, box: AsyncSandbox, directory: Path | None, above: Path | None) -> None:
        """`above`: the one that the sandbox was restored from."""
        self._box = box
        self._above = above
        self._directory = directory
        self._last = float("-inf")
        self._took = 0.0

    async def keep(self, turn: int) -> str | None:
        """Keeps them, unless that was done a moment ago; the name of the directory in the one for all.

        An interrupted one leaves the one before it in force: names are new each time. Raises SandboxGone, and NotKept: programs
        may bring that about, with names that no layer can hold, and must not end their episode with it.
        """
        started = time.monotonic()
        if self._directory is None or started - self._last < _SPARING * self._took:
            return None
        name = f"turn-{turn}"
        place = self._directory / name
        try:
            await asyncio.to_thread(_made_empty, place)  # it may be of an episode that was resumed before that turn
            await self._box.save(place, above=self._above)
        except SandboxGone:
            raise
        except (OSError, LisrtError) as error:
            raise NotKept(str(error)) from error
        finally:
            self._last = time.monotonic()
            self._took = self._last - started
        self._above = place
        return name

    async def forget_others(self, name: str) -> None:
        """Once the record says that this one is the last."""
        assert self._directory is not None
        await asyncio.to_thread(_remove_all_but, self._directory, name)


def _made_empty(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _remove_all_but(directory: Path, name: str) -> None:
    for path in directory.iterdir():
        if path.name != name:
            shutil.rmtree(path, ignore_errors=True)
