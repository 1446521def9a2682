"""The runtime of "LLM-in-Sandbox Elicits General Agentic Intelligence": one Docker container for each agent, as it makes them."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters import with_stdin


class Adapter:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._runtime: Any = None

    def start(self) -> None:
        os.environ.setdefault("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._runtime = _runtime()
        self.create().destroy()

    def settings(self) -> dict[str, str]:
        memory = self._options["memory"]
        return {
            "version": f"llm-in-sandbox {importlib.metadata.version('llm-in-sandbox')}",
            "SDK": importlib.metadata.version("docker"),
            "image": self._options["reference"],
            "network": "none",
            "memory limit": "none" if memory is None else f"{memory} bytes, no swap",
            "create": "as it does: starts the container, and runs four commands in it that set it up",
            "exec": "as it does: the command in bash in timeout in bash; output as text without carriage returns",
            "destroy": "as it does: stop with five seconds of grace, which sleep as PID 1 uses up, and remove",
            "stdin": "it has none: a file, written before",
        }

    def create(self) -> Instance:
        volumes = {source: {"bind": target, "mode": "ro"} for source, target in self._options["binds"]}
        memory = self._options["memory"]
        limits = {} if memory is None else {"mem_limit": memory, "memswap_limit": memory}
        runtime = self._runtime(
            self._options["reference"],
            repo_path="/testbed",
            logger=False,
            network_mode="none",
            volumes=volumes,
            environment={name: value for name, value in self._options["env"].items() if name != "PATH"},
            **limits,
        )
        return Instance(runtime)

    def stop(self) -> None:
        """Nothing to do."""


class Instance:
    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        command = shlex.join(argv)
        if stdin:
            self.write("/testbed/.stdin", stdin)
            command = with_stdin(argv, "/testbed/.stdin")
        stdout, _, status = self._runtime.demux_run(command)
        if status == "-1":
            raise RuntimeError(stdout)
        return int(status.removeprefix("Error: Exit code ")), stdout.encode()

    def write(self, path: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "file"
            file.write_bytes(data)
            self._runtime.copy_to_container(str(file), path)

    def read(self, path: str) -> bytes:
        with tempfile.TemporaryDirectory() as place:
            self._runtime.copy_from_container(os.path.dirname(path), place)
            return (Path(place) / os.path.basename(path)).read_bytes()

    def destroy(self) -> None:
        self._runtime.close()


def _runtime() -> Any:
    """Its class, without its package's __init__, which would import the agent, and with it litellm and datasets."""
    import importlib.util

    spec = importlib.util.find_spec("llm_in_sandbox")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError("llm-in-sandbox is not installed")
    [place] = spec.submodule_search_locations
    package = types.ModuleType("llm_in_sandbox")
    package.__path__ = [place]
    sys.modules["llm_in_sandbox"] = package
    for line in (Path(place) / "__init__.py").read_text().splitlines():  # the two constants that the runtime takes from it
        if line.startswith(("CMD_TIMEOUT = ", "DOCKER_PATH = ")):
            exec(line, package.__dict__)
    from llm_in_sandbox.docker_runtime import DockerRuntime

    return DockerRuntime
