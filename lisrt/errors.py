"""Every error lisrt raises.

LisrtError                      the sandbox failed, not the program in it
├── HostError(check, fix)       this host can't do it; `lisrt doctor` says why
├── ImageError                  unknown or unusable image
├── SetupError(stage, errno, path)   a sandbox could not be set up
├── SandboxBusy                 commands run in it, and no snapshot can be taken
├── SandboxGone                 PID 1 has died, the sandbox is closed, or this is a forked child
├── PoolClosed                  the pool is closed, was not entered, or this is a forked child
├── PoolTimeout                 no sandbox within the time that `take` was given
└── CommandFailed(result)       only from `result.check()`

What a program did is never an exception: it is `ExecResult.outcome`. A caller's own mistakes are ValueError and
TypeError. The file verbs raise Python's FileNotFoundError, IsADirectoryError, PermissionError, with the path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lisrt.result import ExecResult


class LisrtError(Exception):
    """Base of all errors that are the sandbox's fault, or the host's."""


class HostError(LisrtError):
    """This host can't do what was asked for.

    `check` names the row of `lisrt doctor`; `fix` says what to do about it.
    """

    def __init__(self, message: str, *, check: str, fix: str) -> None:
        super().__init__(f"{message}. {fix}" if fix else message)
        self.check = check
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call __init__ without the keywords: errors cross process pools.
        return _rebuild, (type(self), self.args, self.__dict__)


class ImageError(LisrtError):
    """An image that is unknown, or that can't be used."""


class SetupError(LisrtError):
    """A sandbox could not be set up: `stage` failed with `errno` at `path` ("" where there is none)."""

    def __init__(self, message: str, *, stage: str, errno: int, path: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        self.errno = errno
        self.path = path

    @property
    def strerror(self) -> str:
        """The errno in words."""
        return os.strerror(self.errno)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class SandboxBusy(LisrtError):
    """The sandbox is in use, or is being frozen by somebody else. Nothing has happened."""


class SandboxGone(LisrtError):
    """The sandbox is not there any more. What its command did is unknown: never show this to a model as output."""


class PoolClosed(LisrtError):
    """The pool gives no sandboxes any more. Also raised in those that waited when it was closed."""


class PoolTimeout(LisrtError):
    """A pool had no sandbox within the time that its taker gave it. The message has the figures, and what holds it back."""


class CommandFailed(LisrtError):
    """A command did not exit with status 0. Raised by `ExecResult.check()` only; `result` has the whole story."""

    def __init__(self, result: ExecResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        tail = (self.result.stderr.strip() or self.result.stdout.strip())[-2000:]
        return f"{self.result.summary()}{': ' + tail if tail else ''}"


def _rebuild(kind: type[LisrtError], args: tuple[object, ...], state: dict[str, object]) -> LisrtError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
