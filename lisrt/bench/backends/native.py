"""lisrt itself, by either of its launchers."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence

from lisrt.bench.backend import BackendError, Done, Unavailable
from lisrt.errors import HostError, ImageError, LisrtError
from lisrt.image import resolve_name
from lisrt.limits import Limits
from lisrt.sandbox import Sandbox

MOST_OUTPUT = 64 << 20
"""Bytes of stdout that are kept: others keep all of it, and `run` answers with all of it."""


class Lisrt:
    """Sandboxes of this program's own spawner."""

    def __init__(self, launcher: str, memory: int | None) -> None:
        self.name = launcher
        self._limits = Limits(memory)
        self._image: str | None = None
        self._guarantees: dict[str, str] = {}

    def start(self, image: str | None) -> None:
        """Starts the spawner, and unpacks the image if it must be."""
        self._image = resolve_name(image)
        try:
            with Sandbox(self._image, launcher=self.name, limits=self._limits) as box:
                self._guarantees = dict(box.guarantees)
        except (HostError, ImageError) as error:
            raise Unavailable(str(error)) from None

    def settings(self) -> Mapping[str, str]:
        """What was enforced, and how, is among them: without places, which are nobody's business."""
        said = {name: words.partition(" in /")[0] for name, words in self._guarantees.items()}
        return {"version": f"lisrt {importlib.metadata.version('lisrt')}", "image": self._image or "", **said}

    def create(self) -> Box:
        """Ready when the constructor returns."""
        with _translated():
            return Box(Sandbox(self._image, launcher=self.name, limits=self._limits))

    def stop(self) -> None:
        """Nothing to do: the spawner is this process's, and ends with it."""


class Box:
    """One of them."""

    def __init__(self, box: Sandbox) -> None:
        self.sandbox = box

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> Done:
        """A signal is 128 + its number, as everywhere here."""
        with _translated():
            result = self.sandbox.run(argv, stdin=stdin, max_output=MOST_OUTPUT)
            return Done(result.returncode, result.stdout_bytes)

    def write(self, path: str, data: bytes) -> None:
        """As `Sandbox.write`."""
        with _translated():
            self.sandbox.write(path, data)

    def read(self, path: str) -> bytes:
        """As `Sandbox.read`."""
        with _translated():
            return self.sandbox.read(path)

    def destroy(self) -> None:
        """As `Sandbox.close`: when it returns all processes are gone and nobody finds the files any more; a nice process of the
        spawner's deletes them."""
        with _translated():
            self.sandbox.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (LisrtError, OSError) as error:
        raise BackendError(f"{type(error).__name__}: {error}") from error
