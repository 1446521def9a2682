"""The floor: what the system calls alone cost, measured by a C program (bench/floor) in the same minutes as lisrt."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from lisrt import spawner
from lisrt.bench.backend import BackendError, Unavailable
from lisrt.image import resolve_name
from lisrt.kernel import helper

PROGRAM = helper.PATH.with_name("lisrt-floor")


class Times(NamedTuple):
    """Of many operations, in seconds."""

    each: list[float]
    ended: list[float]
    """When, since the first began."""
    wall: float


class Floor:
    """Makes, uses and destroys sandboxes with as few system calls as it takes. For one thread.

    They have what lisrt's have, but for what lisrt does beside: no messages, no limits on time or output, no choice. Its times
    are taken in C; Python only asks for them.

    Raises Unavailable where the program can't do it here, with the reason.
    """

    def __init__(self, image: str | None = None) -> None:
        home = spawner.current("native")
        root = home.roots.get(resolve_name(image))
        self._directory = tempfile.mkdtemp(prefix=".floor-", dir=Path(home.scratch).parent)
        binds = [f"{source}={target}" for source, target in root.binds]
        try:
            self._process = subprocess.Popen(
                [PROGRAM, self._directory, *root.layers, "--", *binds],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={},
                start_new_session=True,  # Ctrl-C is for us, who then have it clean up
            )
        except OSError as error:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise Unavailable(f"the program of the floor can't be started: {error}") from error
        try:
            self._answer()
        except BackendError as error:
            self.close()
            raise Unavailable(str(error)) from error

    def create(self) -> float:
        """Seconds that one sandbox takes, until it can run a command. There is one at a time."""
        return self._ask("create")

    def exec(self) -> float:
        """Seconds that /bin/true takes in it, with its output in two pipes that are read to their end."""
        return self._ask("exec")

    def fork(self) -> float:
        """Seconds until a twin is there that begins with its files; it is started again on them, and the twin forgotten."""
        return self._ask("fork")

    def destroy(self) -> float:
        """Seconds until it is dead; its files are deleted after that."""
        return self._ask("destroy")

    def many(self, count: int, jobs: int, commands: int, script: str = "") -> dict[str, Times]:
        """So many alive at once, `jobs` operations in flight: "create", "exec" (`commands` in each), "destroy".

        A command is /bin/true, or `bash -c script`, a line of at most 4,000 bytes; one that fails is a BackendError.
        """
        if "\n" in script or len(script.encode()) > 4000:
            raise ValueError("the script is one line of at most 4,000 bytes")
        self._send(f"many {count} {jobs} {commands} {script}")
        times = {}
        for _ in range(3):
            name, wall, *pairs = self._answer().split()
            seconds = [int(one) / 1e9 for one in pairs]
            times[name] = Times(seconds[::2], seconds[1::2], int(wall) / 1e9)
        return times

    def close(self) -> None:
        """Ends it, and all that it has made. Again is allowed."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel takes the rest along
            self._process.wait()
        self._pipe(self._process.stdout).close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _ask(self, what: str) -> float:
        self._send(what)
        return int(self._answer().split()[1]) / 1e9

    def _send(self, line: str) -> None:
        try:
            pipe = self._pipe(self._process.stdin)
            pipe.write(f"{line}\n")
            pipe.flush()
        except BrokenPipeError:
            pass  # it has ended: its answer says so

    def _answer(self) -> str:
        line = self._pipe(self._process.stdout).readline()
        if not line or line.startswith("error"):
            raise BackendError(f"the floor: {line.removeprefix('error').strip() or 'it has ended'}")
        return line

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None, "Popen was asked for it"
        return pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
