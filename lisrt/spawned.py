"""A running spawner, as this process talks with it. Who has one, and how it is started, is in spawner.py."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections import deque
from pathlib import Path

from lisrt import bwrap, settings
from lisrt.errors import HostError, SandboxGone
from lisrt.explain import fault_error
from lisrt.kernel import bubblewrap, cgroup, scope, scratch, wire
from lisrt.plan import Plan
from lisrt.roots import Roots

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0


class Vanished(Exception):
    """The spawner ended before it was ready, and did not say why: somebody has killed it."""


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

    def group(self, controller: str, name: str) -> cgroup.Place:
        """Where the group of a sandbox is that `controller` limits."""
        place = self._groups[controller]
        return cgroup.Place(place.version, os.path.join(place.path, cgroup.manager_name(), name))

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

    def create(
        self,
        name: str,
        plan: Plan,
        sock: socket.socket,
        *,
        trusted: bool = True,
        network: int = -1,
        follows: str = "",
        inherits: bool = False,
    ) -> None:
        """Asks for a sandbox whose PID 1 will answer on `sock`. BlockingIOError when the spawner is behind.

        `network`: a namespace that it is to have. `follows`, `inherits`: see follower.py. Not where bubblewrap makes them.
        """
        self._discard_rest()
        if self.bubblewrap is None:
            fds = (sock.fileno(),) if network < 0 else (sock.fileno(), network)
            self._send(wire.encode_create(name, plan.encoded, follows, inherits=inherits), fds)
            return
        words = bwrap.arguments(plan.steps, root=os.path.join(self.scratch, name), program=self.bubblewrap, trusted=trusted)
        if plan.has_mounts:
            bwrap.check_automounts(plan.steps, Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
        arguments = os.memfd_create("arguments")
        try:
            os.pwrite(arguments, b"".join(os.fsencode(word) + b"\0" for word in words), 0)
            self._send(wire.encode_create(name, plan.encoded), (sock.fileno(), arguments))
        finally:
            os.close(arguments)

    def ask_for_network(self, sock: socket.socket, *, is_hub: bool = False) -> None:
        """Has a network namespace made, and handed over on that socket: LIS_NAMESPACE and LIS_HUB in csrc/lis.h."""
        self._send(wire.encode_plain(wire.HUB if is_hub else wire.NAMESPACE), (sock.fileno(),))

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
            raise Vanished

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
