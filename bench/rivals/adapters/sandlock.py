"""sandlock: no namespaces, but Landlock and a supervisor of system calls, for each command anew."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandlock import Sandbox
from sandlock.sandbox import StdioMode

READABLE = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev")


class Adapter:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def start(self) -> None:
        if not self._options["is_host"]:
            raise RuntimeError("it is measured with the host's own files, which is how it is used")
        self.create().destroy()

    def settings(self) -> dict[str, str]:
        return {
            "version": f"sandlock {importlib.metadata.version('sandlock')}",
            "an instance is": "a directory; each command is confined anew, in the host's namespaces",
            "root": "this host's, where Landlock lets it read; only the instance's directory can be written to",
            "network": "no connections",
            "system calls": "its default filter, and a supervisor",
            "memory limit": "none" if self._options["memory"] is None else f"{self._options['memory']} bytes, for each command",
        }

    def create(self) -> Instance:
        place = Path(tempfile.mkdtemp(dir=self._options["scratch"]))
        box = Sandbox(
            fs_readable=[path for path in READABLE if Path(path).exists()],
            fs_writable=[str(place), "/dev/null"],
            cwd=str(place),
            env=self._options["env"],
            clean_env=True,
            max_memory=self._options["memory"],
        )
        return Instance(box, place)

    def stop(self) -> None:
        """Nothing to do."""


class Instance:
    """There is no file system of its own: absolute paths are taken to be below the directory."""

    def __init__(self, box: Sandbox, place: Path) -> None:
        self._box = box
        self._place = place

    def run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        if not stdin:
            done = self._box.run(list(argv))
            if done.error:
                raise RuntimeError(done.error)
            return (128 + done.signal if done.signal > 0 else done.exit_code), done.stdout
        with self._box.popen(list(argv), stdin=StdioMode.PIPED, stdout=StdioMode.PIPED, stderr=StdioMode.NULL) as process:
            feeding = threading.Thread(target=_feed, args=(process.stdin, stdin))
            feeding.start()
            stdout = process.stdout.read()
            feeding.join()
            return process.wait().exit_code, stdout

    def _path(self, path: str) -> Path:
        return self._place / path.lstrip("/").removeprefix("testbed/")

    def write(self, path: str, data: bytes) -> None:
        file = self._path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def read(self, path: str) -> bytes:
        return self._path(path).read_bytes()

    def destroy(self) -> None:
        shutil.rmtree(self._place)


def _feed(file: Any, data: bytes) -> None:
    try:
        file.write(data)
        file.close()
    except BrokenPipeError:
        pass  # it has read as much as it wanted
