"""A Docker engine of the tests' own: no network, nothing of it outside one directory. It needs root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.features import missing
from support.waiting import eventually

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Docker:
    """The command, and its engine."""

    socket: Path

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Its output. The status must be as expected."""
        done = self.run(*arguments)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": PATH, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0", "HOME": str(self.socket.parent)}
        command = [str(shutil.which("docker", path=PATH)), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Ends with the session, and its containerd with it."""
    program = shutil.which("dockerd", path=PATH)
    if program is None or shutil.which("docker", path=PATH) is None:
        missing("Docker's engine (Debian's docker.io)")
    place = tmp_path_factory.mktemp("docker")
    command = [program, "--data-root", place / "data", "--exec-root", place / "exec", "--pidfile", place / "pid"]
    command += ["--host", f"unix://{place}/sock", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    with open(place / "log", "wb") as log:
        engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": PATH})
    found = Docker(place / "sock")
    try:
        eventually(
            lambda: engine.poll() is not None or ((place / "sock").exists() and found.run("version").returncode == 0),
            within=60,
            what="the engine's start",
        )
        assert engine.poll() is None, (place / "log").read_text()[-2000:]
        yield found
    finally:
        engine.terminate()
        engine.wait(timeout=30)
