"""Real `lisrt` processes, and proof that they leave nothing behind."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fresh import environment
from support.procs import mounts_naming
from support.waiting import eventually

#: How long a command that has nothing to wait for may take, on a busy machine.
WITHIN = 50.0


@dataclass
class Cli:
    """`python -m lisrt` in a directory of its own, with a scratch base of its own."""

    cwd: Path
    scratch: Path
    env: Mapping[str, str] = field(default_factory=dict)
    killed: bool = False
    """Whether a `lisrt` was killed: its directory may then wait for the next start to sweep it."""

    def environment(self, **extra: str) -> dict[str, str]:
        """This process's, without any settings of whoever runs the tests."""
        ours = {
            "LISRT_SCRATCH": str(self.scratch),
            "LISRT_HOME": str(self.cwd / "home"),
            "LISRT_IMAGE": "",
            "XDG_CONFIG_HOME": str(self.cwd / "config"),
        }
        return environment(**{**ours, **self.env, **extra})

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "lisrt", *arguments]

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        within: float = WITHIN,
        **streams: Any,
    ) -> "subprocess.CompletedProcess[str]":
        """Run `lisrt` to its end. Its stdin is empty, its output is captured as text."""
        if "input" not in streams:
            streams.setdefault("stdin", subprocess.DEVNULL)
        streams.setdefault("stdout", subprocess.PIPE)
        streams.setdefault("stderr", subprocess.PIPE)
        done = subprocess.run(
            [*prefix, *self.command(*arguments)],
            cwd=self.cwd,
            env=self.environment(**(env or {})),
            text=True,
            errors="replace",
            timeout=within,
            **streams,
        )
        assert "Traceback" not in (done.stderr or ""), done.stderr
        return done

    @contextlib.contextmanager
    def started(self, *arguments: str, prefix: Sequence[str] = (), **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """A `lisrt` that runs, in a session of its own; on the way out it is killed if it still does."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        command = [*prefix, *self.command(*arguments)]
        with subprocess.Popen(command, cwd=self.cwd, env=self.environment(), start_new_session=True, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def assert_clean(self) -> None:
        """No mount of the scratch base in any process of this host, and no directory of an owner in it."""
        eventually(lambda: not mounts_naming(str(self.scratch)), within=10, what=f"the end of all mounts of {self.scratch}")
        eventually(self._is_empty, within=20, what=f"an empty {self.scratch}")

    def _is_empty(self) -> bool:
        if self.killed and self.owners():
            self("exec", "--", "true")
        return not self.owners()

    def owners(self) -> list[str]:
        """The directories of living, or of badly killed, programs under the scratch base."""
        return [f"{base.name}/{name}" for base in self.scratch.glob("lisrt-*") for name in os.listdir(base) if name[0] != "."]


def ended(process: "subprocess.Popen[bytes]", *, within: float = WITHIN) -> tuple[int, str, str]:
    """Wait for a started `lisrt`; its status and what it printed."""
    stdout, stderr = process.communicate(timeout=within)
    errors = (stderr or b"").decode(errors="replace")
    assert "Traceback" not in errors, errors
    return process.returncode, (stdout or b"").decode(errors="replace"), errors
