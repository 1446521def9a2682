"""llm-sandbox's bubblewrap backend: fresh namespaces for each command, and a workspace that stays."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters import with_stdin
from llm_sandbox.bubblewrap import BubblewrapSession
from llm_sandbox.local.config import LocalSandboxConfig


class Adapter:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._seccomp = True

    def start(self) -> None:
        if not self._options["is_host"]:
            raise RuntimeError("it has no images: it shows directories of the host where they are")
        os.environ["TMPDIR"] = tempfile.tempdir = self._options["scratch"]
        try:
            self.create().destroy()
        except Exception as error:
            if "seccomp" not in str(error).lower():
                raise
            self._seccomp = False
            self.create().destroy()

    def settings(self) -> dict[str, str]:
        return {
            "version": f"llm-sandbox {importlib.metadata.version('llm-sandbox')}",
            "an instance is": "a directory; each command makes namespaces and mounts of its own",
            "root": "this host's /usr, /bin, /lib, read-only; only the workspace and /tmp can be written to",
            "system calls": "its default filter" if self._seccomp else "not filtered: libseccomp is not installed",
            "memory limit": "none; it would be of addresses, for each process",
            "stdin": "it has none: a file, written before",
        }

    def create(self) -> Instance:
        config = LocalSandboxConfig() if self._seccomp else LocalSandboxConfig(seccomp=None)
        session = BubblewrapSession(
            sandbox_config=config,
            workdir=self._options["workdir"],
            skip_environment_setup=True,
            encoding_errors="surrogateescape",
        )
        session.open()
        return Instance(session)

    def stop(self) -> None:
        """Nothing to do."""


class Instance:
    def __init__(self, session: BubblewrapSession) -> None:
        self._session = session

    def run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        command = shlex.join(argv)
        if stdin:
            self.write("/tmp/.stdin", stdin)
            command = with_stdin(argv, "/tmp/.stdin")
        done = self._session.execute_command(command)
        return done.exit_code, done.stdout.encode(errors="surrogateescape")

    def write(self, path: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self._session.copy_to_runtime(file.name, path)

    def read(self, path: str) -> bytes:
        with tempfile.TemporaryDirectory() as place:
            target = Path(place) / "file"
            self._session.copy_from_runtime(path, str(target))
            return target.read_bytes()

    def destroy(self) -> None:
        self._session.close()
