"""pybubble: a bubblewrap for each command, on a root that is unpacked once."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pybubble import Sandbox

T = TypeVar("T")


class Adapter:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._loop = asyncio.new_event_loop()

    def start(self) -> None:
        if not self._options["is_host"]:
            raise RuntimeError("it takes a root as one tarball: it is measured with the one that it brings along")
        os.environ["HOME"] = self._options["scratch"]  # where it unpacks
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.create().destroy()

    def settings(self) -> dict[str, str]:
        return {
            "version": f"pybubble {importlib.metadata.version('pybubble')}",
            "an instance is": "two directories; each command makes namespaces and mounts of its own",
            "root": "the one that it brings along, read-only, for it can't show this host's /usr; two directories to write to",
            "system calls": "not filtered",
            "memory limit": "none: it has none",
        }

    def create(self) -> Instance:
        return Instance(Sandbox(enable_network=False, work_dir=tempfile.mkdtemp(dir=self._options["scratch"])), self.wait)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In the one event loop of this process."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class Instance:
    """Files are written and read from outside, in its work directory, as its documents say."""

    def __init__(self, box: Sandbox, wait: Any) -> None:
        self._box = box
        self._wait = wait

    def run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        return self._wait(self._run(argv, stdin))

    async def _run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        process = await self._box.run(shlex.join(argv), timeout=None)
        stdout, _ = await process.raw.communicate(stdin)
        return process.returncode, stdout

    def _path(self, path: str) -> Path:
        return self._box.work_dir / path.lstrip("/").removeprefix("testbed/")

    def write(self, path: str, data: bytes) -> None:
        file = self._path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def read(self, path: str) -> bytes:
        return self._path(path).read_bytes()

    def destroy(self) -> None:
        self._box.tmp_dir.cleanup()
        shutil.rmtree(self._box.work_dir)
