"""bubblewrap as it is used without a runtime around it: a process of it for each command, and a directory for what is written."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lisrt import spawner
from lisrt.bench.backend import BackendError, Done, Unavailable
from lisrt.bench.backends.content import unpacked
from lisrt.image import DEFAULT_ENV, Root
from lisrt.kernel import bubblewrap
from lisrt.plan import DEFAULT_WORKDIR
from rivals.trees import delete

WRITABLE = ("root", "testbed", "tmp", "home/user", "var/tmp")
"""What is bound from the instance's directory where this bubblewrap can't mount overlays."""


class BwrapEach:
    """The same namespaces, files and variables as lisrt's sandboxes have, without its filter of system calls."""

    name = "bwrap-each"

    def __init__(self, memory: int | None) -> None:
        self._memory = memory
        self._root = Root(())
        self._place: Path | None = None
        self._program: bubblewrap.Program | None = None

    def start(self, image: str | None) -> None:
        """Finds a bubblewrap that works."""
        self._root = unpacked(image)
        base = spawner.current().base  # where lisrt's sandboxes write, too: the same disk
        self._place = Path(tempfile.mkdtemp(prefix="bwrap-each-", dir=os.path.dirname(base)))
        try:
            self._program = self._found(str(self._place))
        except BaseException:
            self.stop()
            raise

    def _found(self, place: str) -> bubblewrap.Program:
        """The first one that works; for an image that can't be shown read-only, the first that mounts overlays. Unavailable."""
        refused: list[str] = []
        for path in bubblewrap.candidates():
            try:
                program = bubblewrap.examine(path, place)
            except (bubblewrap.Unusable, OSError) as error:
                refused.append(str(error))
                continue
            if program.overlay or self._has_mount_points():
                return program
            refused.append(f"{path}, bubblewrap {program.version}, mounts no overlays, which this image needs")
        raise Unavailable("; ".join(refused) or "bwrap is not installed")

    def _has_mount_points(self) -> bool:
        """Of one layer, which has all that is mounted over it: nothing can be made in what is read-only."""
        return len(self._root.layers) == 1 and all(
            os.path.isdir(os.path.join(self._root.layers[0], name)) for name in (*WRITABLE, "proc", "dev")
        )

    def settings(self) -> Mapping[str, str]:
        """What an instance is, above all: create and destroy are nearly nothing here, and each command pays for it."""
        assert self._program is not None
        overlay = "an overlay, all of it writable" if self._program.overlay else "read-only, with directories to write to"
        return {
            "version": f"bubblewrap {self._program.version}",
            "an instance is": "a directory; each command makes namespaces and mounts of its own",
            "root": overlay,
            "memory limit": "none: it has none" if self._memory is not None else "none",
            "system calls": "not filtered",
        }

    def create(self) -> Directory:
        """Directories."""
        assert self._program is not None and self._place is not None
        try:
            place = Path(tempfile.mkdtemp(dir=self._place))
            for name in ("upper", "work"):
                (place / name).mkdir()
            if not self._program.overlay:
                for name in WRITABLE:
                    (place / "upper" / name).mkdir(parents=True)
            return Directory(place, self._arguments(place, self._program), self._root.layers)
        except OSError as error:
            raise BackendError(str(error)) from error

    def _arguments(self, place: Path, program: bubblewrap.Program) -> list[str]:
        made = [program.path, "--unshare-all", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
        made += ["--uid", "0", "--gid", "0", "--hostname", "sandbox"]
        if program.overlay:
            made += [word for layer in reversed(self._root.layers) for word in ("--overlay-src", layer)]
            made += ["--overlay", f"{place}/upper", f"{place}/work", "/"]
        else:
            made += ["--ro-bind", self._root.layers[0], "/"]
            made += [word for name in WRITABLE for word in ("--bind", f"{place}/upper/{name}", f"/{name}")]
        for source, target in self._root.binds:
            made += ["--ro-bind", source, f"/{target}"]
        made += ["--proc", "/proc", "--dev", "/dev"]
        workdir = self._root.workdir or DEFAULT_WORKDIR
        if program.overlay:
            made += ["--dir", workdir]
        for name, value in {**dict(DEFAULT_ENV), **dict(self._root.env)}.items():
            made += ["--setenv", name, value]
        return [*made, "--chdir", workdir, "--"]

    def stop(self) -> None:
        """Instances that nobody has destroyed go with the rest."""
        place, self._place = self._place, None
        if place is not None:
            delete(place)


class Directory:
    """An instance. Nothing runs in it between commands, so files are written and read from outside."""

    def __init__(self, place: Path, arguments: list[str], layers: tuple[str, ...]) -> None:
        self._place = place
        self._arguments = arguments
        self._layers = layers

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> Done:
        """One bubblewrap."""
        try:
            done = subprocess.run([*self._arguments, *argv], input=stdin, capture_output=True, env={})
        except OSError as error:
            raise BackendError(str(error)) from error
        if done.returncode == 1 and done.stderr.startswith(b"bwrap: ") and not done.stderr.startswith(b"bwrap: execvp"):
            raise BackendError(done.stderr.decode(errors="replace").strip())
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Done(code, done.stdout)

    def write(self, path: str, data: bytes) -> None:
        """Into the upper directory."""
        file = self._place / "upper" / path.lstrip("/")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        except OSError as error:
            raise BackendError(str(error)) from error

    def read(self, path: str) -> bytes:
        """From the topmost directory that has it."""
        for layer in (self._place / "upper", *map(Path, self._layers)):
            try:
                return (layer / path.lstrip("/")).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BackendError(str(error)) from error
        raise BackendError(f"{path}: there is no such file")

    def destroy(self) -> None:
        """Deletes them."""
        delete(self._place)

