"""The process that a rival lives in: `worker.py ADAPTER`, with lines of JSON on stdin and stdout. Standard library only.

A line is {"number", "verb", ...}; its answer {"number", "value", "seconds"} or {"number", "error"}. Bytes are base64. Requests
are carried out as they come, each in a thread; `seconds` is what the rival took, without any of this.
"""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREADS = 128


class Worker:
    """What is said, and what is done."""

    def __init__(self, adapter: str, out: Any) -> None:
        self._module = importlib.import_module(f"adapters.{adapter}")
        self._out = out
        self._lock = threading.Lock()
        self._adapter: Any = None
        self._instances: dict[int, Any] = {}
        self._handles = itertools.count()

    def serve(self, lines: Any) -> None:
        """Until there are no more of them; then all is cleaned up."""
        with ThreadPoolExecutor(THREADS) as threads:
            for line in lines:
                request = json.loads(line)
                if request["verb"] == "start":
                    self._answer(request)
                else:
                    threads.submit(self._answer, request)
        for instance in self._instances.values():
            try:
                instance.destroy()
            except Exception as error:
                print(f"destroy: {error}", file=sys.stderr)
        if self._adapter is not None:
            self._adapter.stop()

    def _answer(self, request: dict[str, Any]) -> None:
        try:
            done = getattr(self, "_" + request["verb"])(request)
            said = {"number": request["number"], "value": done[0], "seconds": done[1]}
        except Exception as error:  # whatever the rival raises: it is the answer
            words = str(error).strip().splitlines()
            said = {"number": request["number"], "error": f"{type(error).__name__}: {words[-1] if words else ''}"}
        with self._lock:
            self._out.write(json.dumps(said) + "\n")
            self._out.flush()

    def _start(self, request: dict[str, Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        self._adapter = self._module.Adapter(request["options"])
        self._adapter.start()
        return self._adapter.settings(), time.perf_counter() - started

    def _create(self, request: dict[str, Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        instance = self._adapter.create()
        took = time.perf_counter() - started
        handle = next(self._handles)
        self._instances[handle] = instance
        return handle, took

    def _run(self, request: dict[str, Any]) -> tuple[Any, float]:
        instance, argv, stdin = self._instances[request["handle"]], request["argv"], base64.b64decode(request["data"])
        started = time.perf_counter()
        code, stdout = instance.run(argv, stdin)
        took = time.perf_counter() - started
        return (code, base64.b64encode(stdout).decode()), took

    def _write(self, request: dict[str, Any]) -> tuple[Any, float]:
        instance, data = self._instances[request["handle"]], base64.b64decode(request["data"])
        started = time.perf_counter()
        instance.write(request["path"], data)
        return None, time.perf_counter() - started

    def _read(self, request: dict[str, Any]) -> tuple[Any, float]:
        instance = self._instances[request["handle"]]
        started = time.perf_counter()
        data = instance.read(request["path"])
        took = time.perf_counter() - started
        return base64.b64encode(data).decode(), took

    def _destroy(self, request: dict[str, Any]) -> tuple[Any, float]:
        instance = self._instances.pop(request["handle"])
        started = time.perf_counter()
        instance.destroy()
        return None, time.perf_counter() - started


def main() -> None:
    """What rivals print goes to stderr: stdout is for answers."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    sys.path[0] = str(Path(__file__).resolve().parent)
    Worker(sys.argv[1], out).serve(sys.stdin)


if __name__ == "__main__":
    main()
