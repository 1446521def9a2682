"""A fresh Python process per scenario, for what can't be tried on the test process itself."""

import os
import selectors
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import lisrt

_PACKAGE_PARENT = str(Path(lisrt.__file__).resolve().parent.parent)
_TESTS = str(Path(__file__).resolve().parent.parent)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment, with the lisrt under test and the tests' helpers importable."""
    path = os.pathsep.join([_PACKAGE_PARENT, _TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **extra}


class Program:
    """A running script that talks in lines: it says `ready`, is told `go`, and so on."""

    def __init__(self, process: "subprocess.Popen[bytes]", stderr: IO[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self._stderr = stderr
        self._pending = b""
        self._selector = selectors.DefaultSelector()
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ)

    def stderr(self) -> str:
        """What the script has said on its stderr so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def hear(self, *, within: float = 30.0) -> str:
        """The next line the script says."""
        deadline = time.monotonic() + within
        assert self.process.stdout is not None
        while b"\n" not in self._pending:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise AssertionError(f"the script said nothing for {within} s; stderr:\n{self.stderr()}")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise AssertionError(f"the script ended, after {self._pending!r}; stderr:\n{self.stderr()}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def expect(self, wanted: str, *, within: float = 30.0) -> None:
        """The next line is this one."""
        line = self.hear(within=within)
        assert line == wanted, f"the script said {line!r}, not {wanted!r}; stderr:\n{self.stderr()}"

    def tell(self, line: str) -> None:
        """Say a line to the script's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self, *, within: float = 30.0) -> int:
        """Wait for the script's end; its return code."""
        return self.process.wait(timeout=within)


@contextmanager
def program(source: str, *, cwd: Path, options: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Start a script in a fresh Python; on the way out it is killed if it still runs."""
    script = cwd / "scenario.py"
    script.write_text(textwrap.dedent(source))
    with tempfile.TemporaryFile() as stderr:
        command = [sys.executable, *options, str(script)]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(**(env or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # what a terminal sends to its foreground group can be sent to this one
        )
        try:
            yield Program(process, stderr)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def python(
    source: str,
    *,
    cwd: Path,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    within: float = 60.0,
    prefix: Sequence[str] = (),
) -> "subprocess.CompletedProcess[str]":
    """Run a script in a fresh Python to its end; a failure of the script is a failure of the test."""
    script = cwd / "scenario.py"
    script.write_text(textwrap.dedent(source))
    done = subprocess.run(
        [*prefix, sys.executable, *options, str(script)],
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
    )
    assert done.returncode == 0, f"the script ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def sweep(scratch: Path, cwd: Path) -> None:
    """A program that has nothing to do with the dead ones but their scratch base: its start deletes what they left.

    What bubblewrap works in may be a copy of the image, a thousand files, and this program ends before all are deleted;
    then `lisrt gc` waits for the rest.
    """
    env = {"LISRT_SCRATCH": str(scratch)}
    python("from lisrt import Sandbox\nwith Sandbox() as box:\n    assert box.run(['true']).ok", cwd=cwd, env=env)
    if os.environ.get("LISRT_LAUNCHER") == "bwrap":
        subprocess.run([sys.executable, "-m", "lisrt", "gc"], env=environment(**env), check=True, capture_output=True, timeout=60)
