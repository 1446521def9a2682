"""The files of an episode's sandbox, kept from time to time for a process that may be killed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from lisrt.agent.tools.observation import SandboxFault
from lisrt.aio import AsyncSandbox

__all__ = ["Checkpoints"]

# A checkpoint that took a second is not followed by another for so many.
_SPARING = 20.0


class Checkpoints:
    """Of one episode, in a directory of its own; None for none."""

    def __init__(self, box: AsyncSandbox, directory: Path | None) -> None:
        self._box = box
        self._directory = directory
        self._last = float("-inf")
        self._took = 0.0

    async def keep(self, turn: int) -> str | None:
        """Keeps them, unless that was done a moment ago; the name of the directory in the one for all.

        An interrupted one leaves the one before it in force: names are new each time. Raises LisrtError or SandboxFault.
        """
        started = time.monotonic()
        if self._directory is None or started - self._last < _SPARING * self._took:
            return None
        name = f"turn-{turn}"
        place = self._directory / name
        shutil.rmtree(place, ignore_errors=True)  # of an episode that was resumed before that turn
        try:
            place.mkdir(parents=True)
            await self._box.save(place)
        except OSError as error:
            raise SandboxFault(f"the checkpoint could not be written: {error}") from error
        self._last = time.monotonic()
        self._took = self._last - started
        return name

    def forget_others(self, name: str) -> None:
        """Once the record says that this one is the last."""
        assert self._directory is not None
        for path in self._directory.iterdir():
            if path.name != name:
                shutil.rmtree(path, ignore_errors=True)
