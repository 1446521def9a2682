"""Other runtimes for `lisrt bench`, made of lisrt's own sandboxes: one works, others fail in known ways, one is not there."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from lisrt import LisrtError, Sandbox
from lisrt.bench.backend import Backend, BackendError, Done, Unavailable


class Rented:
    """An instance that is a sandbox, and does not show it."""

    def __init__(self, box: Sandbox, owner: "Rival") -> None:
        self._box, self._owner = box, owner

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> Done:
        if self._owner.is_mute:
            raise BackendError("it does not answer")
        result = self._box.run(argv, stdin=stdin)
        return Done(result.returncode, result.stdout_bytes)

    def write(self, path: str, data: bytes) -> None:
        self._box.write(path, data)

    def read(self, path: str) -> bytes:
        try:
            return self._box.read(path)
        except (LisrtError, OSError) as error:
            raise BackendError(str(error)) from error

    def destroy(self) -> None:
        self._box.close()
        self._owner.ended()


class Rival:
    """`fails`: every so manieth creation fails. `is_mute`: no command works."""

    def __init__(self, memory: int | None = None, *, fails: int = 0, is_mute: bool = False) -> None:
        self.name, self.memory, self.is_mute = "rival", memory, is_mute
        self.alive = self.most = self.created = self.stopped = 0
        self._fails, self._lock = fails, threading.Lock()
        MADE.append(self)

    def start(self, image: str | None) -> None:
        self._image = image

    def settings(self) -> Mapping[str, str]:
        return {"version": "1.2.3"}

    def create(self) -> Rented:
        with self._lock:
            self.created += 1
            if self._fails and self.created % self._fails == 0:
                raise BackendError("no more of them")
            self.alive += 1
            self.most = max(self.most, self.alive)
        return Rented(Sandbox(self._image), self)

    def ended(self) -> None:
        with self._lock:
            self.alive -= 1

    def stop(self) -> None:
        self.stopped += 1


MADE: list[Rival] = []


def working(memory: int | None) -> Backend:
    return Rival(memory)


def failing(memory: int | None) -> Backend:
    return Rival(memory, fails=3)


def mute(memory: int | None) -> Backend:
    return Rival(memory, is_mute=True)


def absent(memory: int | None) -> Backend:
    raise Unavailable("it is not installed")


class Leaving(Rival):
    """What it starts stays until it is stopped."""

    def start(self, image: str | None) -> None:
        super().start(image)
        Path("daemon").touch()

    def stop(self) -> None:
        super().stop()
        Path("daemon").unlink(missing_ok=True)


def leaving(memory: int | None) -> Backend:
    return Leaving(memory)
