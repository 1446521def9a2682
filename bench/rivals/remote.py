"""A rival in a process of its own, with its own Python: worker.py, to which this talks in lines of JSON."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lisrt import spawner
from lisrt.bench.backend import BackendError, Done, Unavailable
from lisrt.bench.backends.content import INITS, unpacked
from lisrt.image import DEFAULT_ENV, HOST, resolve_name
from lisrt.plan import DEFAULT_WORKDIR
from rivals.trees import delete

HERE = Path(__file__).resolve().parent
VENVS = HERE.parents[1] / "build" / "rivals"
"""Where `bench/rivals/venv` makes them. $LISRT_RIVALS is another place."""
NAMESPACED = ("crun", "runsc")
"""They need the standard library only, and are run as root of a user namespace, as rootless podman runs them."""
OUTER = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
STOP_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class TimedDone(Done):
    """What became of a command, and how long it took the rival itself."""

    seconds: float


class Remote:
    """Calls carry how long they took in there, so that our pipe is in no figure: `seconds` of the instance, after each."""

    def __init__(self, name: str, memory: int | None) -> None:
        self.name = name.replace("_", "-")
        self._adapter = name
        self._memory = memory
        self._engine: Any = None
        self._place: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._settings: dict[str, str] = {}

    def start(self, image: str | None) -> None:
        """Starts the worker, and has it get ready."""
        command = self._command()
        try:
            options = self._options(image)
            with open(Path(options["scratch"]) / "log", "wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
                )
            threading.Thread(target=self._receive, args=(self._process,), daemon=True).start()
            self._settings = self.call("start", options=options)["value"]
        except BackendError as error:
            self.stop()
            raise Unavailable(str(error)) from None
        except BaseException:
            self.stop()
            raise

    def _command(self) -> list[str]:
        worker = [str(HERE / "worker.py"), self._adapter]
        if self._adapter in NAMESPACED:
            if shutil.which(self._adapter) is None:
                raise Unavailable(f"{self._adapter} is not installed")
            init = next(filter(None, map(shutil.which, INITS)), None)
            if init is None:
                raise Unavailable(f"it needs one of {', '.join(INITS)}: something has to reap what {self._adapter} leaves")
            return [*OUTER, init, "--", sys.executable, *worker]
        python = Path(os.environ.get("LISRT_RIVALS") or VENVS) / self.name / "bin" / "python"
        if not python.exists():
            raise Unavailable(f"{self.name} is not installed: bench/rivals/venv {self.name}")
        return [str(python), *worker]

    def _options(self, image: str | None) -> dict[str, Any]:
        root = unpacked(image)
        self._place = Path(tempfile.mkdtemp(prefix="rival-", dir=os.path.dirname(spawner.current().base)))
        options = {
            "image": resolve_name(image),
            "is_host": resolve_name(image) == HOST,
            "layers": root.layers,
            "binds": [(source, f"/{target}") for source, target in root.binds],
            "env": {**dict(DEFAULT_ENV), **dict(root.env)},
            "workdir": root.workdir or DEFAULT_WORKDIR,
            "memory": self._memory,
            "scratch": str(self._place),
        }
        if self._adapter == "llm_in_sandbox":
            options |= self._engine_has(image)
        return options

    def _engine_has(self, image: str | None) -> dict[str, Any]:
        """Its containers are Docker's, so the image is brought there as for the backend `docker`."""
        from lisrt.bench.backends.docker import Docker

        self._engine = Docker(self._memory)
        self._engine.start(image)
        return {"reference": self._engine.content.reference}

    def settings(self) -> Mapping[str, str]:
        """As the worker says."""
        return self._settings

    def create(self) -> RemoteInstance:
        """In the worker."""
        answer = self.call("create")
        return RemoteInstance(self, answer["value"], answer["seconds"])

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer. BackendError, with what the worker says."""
        process = self._process
        assert process is not None and process.stdin is not None
        answer: Future[dict[str, Any]] = Future()
        number = next(self._numbers)
        self._answers[number] = answer
        line = json.dumps({"number": number, "verb": verb, **arguments}).encode() + b"\n"
        try:
            with self._lock:
                process.stdin.write(line)
                process.stdin.flush()
        except OSError as error:
            raise BackendError(f"the worker of {self.name} is gone: {error}; {self._said()}") from None
        said = answer.result()
        if "error" in said:
            raise BackendError(str(said["error"]))
        return said

    def _receive(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            self._answers.pop(said["number"]).set_result(said)
        while self._answers:
            with contextlib.suppress(KeyError):
                self._answers.popitem()[1].set_result({"error": f"the worker of {self.name} has ended: {self._said()}"})

    def _said(self) -> str:
        """Its last words."""
        log = self._place / "log" if self._place else None
        lines = log.read_text(errors="replace").strip().splitlines() if log and log.exists() else []
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """The end of its stdin tells the worker to clean up."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WITHIN)
            with contextlib.suppress(ProcessLookupError):  # nitrobox's buildkit outlives it, and so may what hangs
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()
        place, self._place = self._place, None
        if place is not None:
            delete(place)


class RemoteInstance:
    """One of the rival's sandboxes."""

    def __init__(self, backend: Remote, handle: int, seconds: float) -> None:
        self._backend = backend
        self._handle = handle
        self.seconds = seconds
        """How long its last call took the rival; at first, its creation."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> TimedDone:
        """In the worker."""
        code, stdout = self._call("run", argv=list(argv), data=_text(stdin))
        return TimedDone(code, base64.b64decode(stdout), self.seconds)

    def write(self, path: str, data: bytes) -> None:
        """In the worker."""
        self._call("write", path=path, data=_text(data))

    def read(self, path: str) -> bytes:
        """In the worker."""
        return base64.b64decode(self._call("read", path=path))

    def destroy(self) -> None:
        """In the worker."""
        self._call("destroy")

    def _call(self, verb: str, **arguments: Any) -> Any:
        answer = self._backend.call(verb, handle=self._handle, **arguments)
        self.seconds = answer["seconds"]
        return answer["value"]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
