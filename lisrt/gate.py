"""Who may use a sandbox, and when."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from lisrt.errors import SandboxBusy


class Gate:
    """Many may use a sandbox at once; whoever freezes it is alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._alone = False
        self._pid = os.getpid()

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """SandboxBusy while it is being frozen. In a forked child anything goes: the sandbox itself says that it is not there."""
        if self._pid != os.getpid():
            yield
            return
        with self._lock:
            if self._alone:
                raise SandboxBusy("the sandbox is being frozen by another thread or task: wait for that first")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """SandboxBusy while anybody uses it."""
        if self._pid != os.getpid():
            yield
            return
        with self._lock:
            if self._users or self._alone:
                raise SandboxBusy("commands or transfers run in the sandbox: wait for them, and try again")
            self._alone = True
        try:
            yield
        finally:
            with self._lock:
                self._alone = False
