"""The spawner processes of this Python process, one for each launcher: started when the first sandbox is made.

One ends when this process does, however that happens; a forked child starts one of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lisrt import bwrap, settings
from lisrt import idmap as subordinate
from lisrt.errors import HostError, LisrtError, SandboxGone
from lisrt.explain import bwrap_error, fault_error, limit_error, no_launcher
from lisrt.kernel import bubblewrap, cgroup, helper, scope, scratch, wire
from lisrt.plan import Plan
from lisrt.roots import Roots

LAUNCHERS = ("auto", "native", "bwrap")
WITH_IDS = "native+subuid"
"""In the place of a launcher: the spawner of sandboxes with idmap="subuid", which has a user namespace of its own."""
START_TIMEOUT = 30.0
START_TRIES = 3
STOP_TIMEOUT = 5.0


class Closable(Protocol):
    """Something with descriptors."""

    def close(self) -> None:
        """Closes them."""


class Spawner:
    """A running spawner. Sends never block; each is one message, so threads need no lock among themselves."""

    def __init__(
        self, sock: socket.socket, owner: scratch.Owner, program: bubblewrap.Program | None, idmap: str = "single"
    ) -> None:
        self.pid = 0
        """As this process sees it; known once it is ready."""
        self.bubblewrap = program
        """What makes the sandboxes, when it is not the spawner itself."""
        self.idmap = idmap
        self.scratch = owner.path
        self.base = os.path.dirname(owner.path)
        self._sock = sock
        self._owner = owner
        self.roots = Roots(self.base, self.scratch)
        self._discarded: deque[str] = deque()
        """Frozen layers that nobody needs any more, and that the spawner could not be told of yet."""
        self._controllers: dict[str, int] | None = None
        self._settled: dict[str, dict[str, int]] = {}
        """What was found out, by who was asked to enforce."""
        self._groups: dict[str, cgroup.Place] = {}
        self._lock = threading.Lock()

    @property
    def control(self) -> socket.socket:
        """The socket that requests go out on, to wait for."""
        return self._sock

    @property
    def alive(self) -> bool:
        """Whether its socket is still open at the other end."""
        return not self.dead_within(0)

    def dead_within(self, seconds: float) -> bool:
        """Whether that socket is closed by then; waits for it."""
        if self._sock.fileno() < 0:
            return True
        poll = select.poll()
        try:
            poll.register(self._sock, 0)
        except ValueError:
            return True  # closed between the two lines
        return bool(poll.poll(seconds * 1000))  # POLLHUP is reported unasked

    def known_controllers(self, enforce: str) -> dict[str, int] | None:
        """Versions of the control groups that sandboxes can have, by controller; None when that is to be found out."""
        found = self._controllers
        return found if found and "memory" in found else self._settled.get(enforce)

    def find_controllers(self, enforce: str) -> dict[str, int]:
        """Looks for control groups that this user may make, and hands the spawner a place for them. Blocks: offload it."""
        with self._lock:
            if self.bubblewrap is not None:  # its processes would have to be moved there one by one
                self._controllers = {}
                self._settled[enforce] = {}
                return {}
            if self._controllers is None:
                named = settings.get("cgroup")
                found = cgroup.find(named)
                if named and not found:
                    raise HostError(
                        f"none of the control groups that $LISRT_CGROUP names can be used: {named}",
                        check="cgroups",
                        fix="Name directories below /sys/fs/cgroup that you may write to, with ':' between them, or unset it",
                    )
                self._controllers = self._hand_over(found)
            # only where nothing was handed over yet: the spawner takes groups once
            unit = None if self._controllers else scope.wanted(enforce, settings.get("cgroup"))
            place = scope.adopt(unit, self.pid) if unit else None
            if place:
                self._controllers = self._hand_over(cgroup.find(place))
            self._settled[enforce] = self._controllers
            return self._controllers

    def _hand_over(self, places: dict[str, cgroup.Place]) -> dict[str, int]:
        self._groups = places
        prepared = cgroup.prepare(places)
        fds = [fd for _, fd in prepared.values()]
        versions = {name: version for name, (version, _) in prepared.items()}
        memory, pids, cpu = (versions.get(name, 0) for name in cgroup.CONTROLLERS)
        try:
            if fds:
                self._send(wire.encode_cgroups((memory, pids, cpu)), tuple(fds))
        finally:
            for fd in fds:
                os.close(fd)
        return versions

    def create(self, name: str, plan: Plan, sock: socket.socket, *, trusted: bool = True) -> None:
        """Asks for a sandbox whose PID 1 will answer on `sock`. BlockingIOError when the spawner is behind."""
        self._discard_rest()
        if self.bubblewrap is None:
            self._send(wire.encode_create(name, plan.encode()), (sock.fileno(),))
            return
        words = bwrap.arguments(plan.steps, root=os.path.join(self.scratch, name), program=self.bubblewrap, trusted=trusted)
        if plan.has_mounts:
            bwrap.check_automounts(plan.steps, Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
        arguments = os.memfd_create("arguments")
        try:
            os.pwrite(arguments, b"".join(os.fsencode(word) + b"\0" for word in words), 0)
            self._send(wire.encode_create(name, plan.encode()), (sock.fileno(), arguments))
        finally:
            os.close(arguments)

    def kill(self, name: str) -> None:
        """Kills a sandbox whose PID 1 no longer answers."""
        self._send(wire.encode_kill(name))

    def discard(self, name: str) -> None:
        """Has a frozen layer deleted. Never blocks or fails: what can't be deleted now goes later, or with the spawner."""
        self._discarded.append(name)
        self._discard_rest()

    def take(self, name: str, layer: str) -> None:
        """Gives what a sandbox has written a name of its own. Waits for the answer, which comes at once. OSError, SandboxGone."""
        ours, theirs = wire.pair()
        with ours:
            with theirs:
                self._send(wire.encode_take(name, layer), (theirs.fileno(),))
            _await(ours, START_TIMEOUT)
            answer, _ = wire.receive(ours)
        if wire.kind(answer) != wire.READY:
            error = wire.decode_fault(answer).errno if answer else errno.EPIPE
            raise OSError(error, os.strerror(error), os.path.join(self.scratch, name))

    def _discard_rest(self) -> None:
        while self._discarded:
            try:
                name = self._discarded.popleft()
            except IndexError:
                return  # another thread was faster
            try:
                self._send(wire.encode_discard(name))
            except (OSError, SandboxGone):
                self._discarded.appendleft(name)
                return

    def wait_ready(self) -> None:
        """Waits for the first message; raises what it reports."""
        _await(self._sock, START_TIMEOUT)
        answer, self.pid = wire.receive_from(self._sock)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        if wire.kind(answer) == wire.FAULT:
            raise fault_error(wire.decode_fault(answer))
        if wire.kind(answer) != wire.READY:
            raise _Vanished

    def stop(self) -> None:
        """Ends the spawner and all its sandboxes, and waits (5 s at most) until it has cleaned up."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            _await(self._sock, STOP_TIMEOUT)
        except OSError:
            pass  # it was gone already
        cgroup.remove_manager(self._groups)
        self.forget()

    def forget(self) -> None:
        """Closes our ends and nothing else: in a forked child all of this belongs to the parent."""
        self._sock.close()
        self._owner.close()
        self.roots.forget()

    def _send(self, message: bytes, fds: tuple[int, ...] = ()) -> None:
        try:
            wire.send(self._sock, message, fds)
        except OSError as error:
            # EBADF: another thread has seen it dead, and forgotten it
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF):
                raise
            raise SandboxGone("the spawner process of this program has ended, and all its sandboxes with it") from None


def _await(sock: socket.socket, timeout: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(timeout * 1000):
        raise TimeoutError(f"the spawner did not answer within {timeout} s")


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


class _Vanished(Exception):
    """The spawner ended before it was ready, and did not say why: somebody has killed it."""


def _start(launcher: str) -> Spawner:
    for _ in range(START_TRIES):
        with contextlib.suppress(_Vanished):
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
