"""The spawner processes of this Python process, one for each launcher: started when the first sandbox is made.

One ends when this process does, however that happens; a forked child starts one of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from lisrt import idmap as subordinate
from lisrt import settings
from lisrt.errors import HostError, LisrtError
from lisrt.explain import bwrap_error, limit_error, no_launcher
from lisrt.kernel import bubblewrap, helper, scratch, wire
from lisrt.spawned import Spawner, Vanished

LAUNCHERS = ("auto", "native", "bwrap")
WITH_IDS = "native+subuid"
"""In the place of a launcher: the spawner of sandboxes with idmap="subuid", which has a user namespace of its own."""
START_TRIES = 3


class Closable(Protocol):
    """Something with descriptors."""

    def close(self) -> None:
        """Closes them."""


_lock = threading.Lock()
_current: dict[str, Spawner] = {}
_no_native = ""
"""Why launcher "auto" has not taken the native one, when it has not."""
_forked: weakref.WeakSet[Closable] = weakref.WeakSet()
_generation = 0


def generation() -> int:
    """A number that is another one in every forked child."""
    return _generation


def keep_from_children(what: Closable) -> None:
    """Has forked children close their copy, so that an end of file on a socket or pipe still means what it should."""
    _forked.add(what)


def resolve(launcher: str) -> str:
    """One of LAUNCHERS; for "auto" what `$LISRT_LAUNCHER` or the settings file says, if they do. ValueError."""
    chosen = (settings.get("launcher") if launcher == "auto" else None) or launcher
    if chosen not in LAUNCHERS:
        raise ValueError(f"launcher must be one of {', '.join(LAUNCHERS)}: {chosen!r}")
    return chosen


def current(launcher: str | None = None, idmap: str = "single") -> Spawner:
    """The spawner of this process; starts one when there is none, or when it has died. Blocks: offload it. HostError.

    `launcher` is a resolved one; None is whatever Sandbox would take.
    """
    global _no_native
    launcher = resolve("auto") if launcher is None else launcher
    if idmap == "subuid" and launcher == "bwrap":
        raise HostError("bubblewrap maps one id", check=subordinate.ROW, fix='For idmap="subuid" use launcher="native"')
    if idmap == "subuid":
        return _current_of(WITH_IDS)
    if launcher != "auto":
        return _current_of(launcher)
    found = running(launcher)
    if found is not None:
        return found
    try:
        return _current_of("native")
    except HostError as error:
        if error.check != "user-namespaces":
            raise
        try:
            found = _current_of("bwrap")
        except HostError as other:
            raise no_launcher(error, other) from None
        _no_native = str(error)
        return found


def running(launcher: str | None = None, idmap: str = "single") -> Spawner | None:
    """The spawner of this process if there is one that lives, without waiting for anything."""
    launcher = resolve("auto") if launcher is None else launcher
    if idmap == "subuid":
        wanted = [] if launcher == "bwrap" else [WITH_IDS]
    else:
        wanted = [launcher] if launcher != "auto" else ["native", "bwrap"] if _no_native else ["native"]
    return next((home for name in wanted if (home := _current.get(name)) is not None and home.alive), None)


def running_all() -> list[Spawner]:
    """The spawners that live, of any launcher."""
    return [home for home in list(_current.values()) if home.alive]


def why_not_native() -> str:
    """The reason for which launcher "auto" has taken another than the native one; empty when it has not."""
    return _no_native


def _current_of(launcher: str) -> Spawner:
    with _lock:
        home = _current.get(launcher)
        if home is not None and home.alive:
            return home
        if home is not None:
            home.forget()
            del _current[launcher]
        _current[launcher] = _start(launcher)
        return _current[launcher]


def _start(launcher: str) -> Spawner:
    for _ in range(START_TRIES):
        with contextlib.suppress(Vanished):
            return _start_somewhere(launcher)
    raise HostError(
        f"the spawner ended before it was ready, {START_TRIES} times",
        check="helper",
        fix="Something kills it, or memory is short: see `dmesg`, and run `lisrt doctor`",
    )


def _start_somewhere(launcher: str) -> Spawner:
    if not os.access(helper.PATH, os.R_OK):
        raise HostError(
            f"lisrt's helper program is missing ({helper.PATH})", check="helper", fix="Install lisrt again: pip install lisrt"
        )
    named = settings.get("scratch")
    refused: list[tuple[str, LisrtError | OSError]] = []
    for directory in scratch.candidates(named):
        try:
            return _start_on(directory, launcher)
        except HostError as error:
            if error.check != "scratch":
                raise
            refused.append((directory, error))
        except OSError as error:
            limit = limit_error(error, "start lisrt's helper")
            if limit:
                raise limit from None
            refused.append((directory, error))
    reasons = "; ".join(f"{directory}: {error}" for directory, error in refused)
    raise HostError(
        f"no directory can hold the writable layers ({reasons})",
        check="scratch",
        fix="Name a directory on a local disk (ext4, xfs, btrfs or tmpfs), one that exists, with $LISRT_SCRATCH",
    )


def _start_on(directory: str, launcher: str) -> Spawner:
    cleanups: list[Callable[[], object]] = []
    try:
        owner = scratch.claim(directory, launcher)
        cleanups.append(owner.close)
        cleanups.append(owner.remove)
        program = bubblewrap.find(owner.path) if launcher == "bwrap" else None
        if isinstance(program, list):
            raise bwrap_error([(str(error), error.words) for error in program])
        mode = ["spawn", owner.path, *(subordinate.find().arguments() if launcher == WITH_IDS else [])]
        if program is not None:
            mode = ["spawn-bwrap", owner.path, program.path, "overlay" if program.overlay else "copy"]
        ours, theirs = wire.pair()
        cleanups.append(ours.close)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # the first message tells who the spawner is
        with theirs:
            pidfd = os.pidfd_open(os.getpid())
            try:
                helper.start(mode, (theirs.fileno(), pidfd, owner.fd, owner.base_fd))
            finally:
                os.close(pidfd)
        spawner = Spawner(ours, owner, program, "subuid" if launcher == WITH_IDS else "single")
        spawner.wait_ready()
        keep_from_children(ours)
        return spawner
    except BaseException:
        for cleanup in reversed(cleanups):
            try:
                cleanup()
            except OSError:
                pass  # the helper may have removed the directory itself
        raise


def _stop_at_exit() -> None:
    for spawner in running_all():
        spawner.stop()


def _after_fork_in_child() -> None:
    global _lock, _generation, _forked, _no_native
    _lock = threading.Lock()  # another thread may have held the old one at the moment of the fork
    _generation += 1
    _no_native = ""
    while _current:
        _current.popitem()[1].forget()
    inherited, _forked = list(_forked), weakref.WeakSet()
    for one in inherited:
        with contextlib.suppress(OSError):  # a thread was about to close it; the others have to be closed all the same
            one.close()


atexit.register(_stop_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
