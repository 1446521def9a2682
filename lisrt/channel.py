"""The control socket of one sandbox: requests go out here, each with a socket of its own for the answer."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lisrt import hubs, spawner
from lisrt.egress.proxy import Proxy
from lisrt.errors import SandboxGone
from lisrt.explain import fault_error, limit_error
from lisrt.hubs import Line
from lisrt.kernel import wire
from lisrt.plan import Plan
from lisrt.spawned import Spawner
from lisrt.waiting import Flow, Offload, Ready

if TYPE_CHECKING:
    from lisrt.egress.guest import Guest
    from lisrt.nat.hub import Namespace, Wire

T = TypeVar("T")

CREATE_TIMEOUT = 120.0
CLOSE_TIMEOUT = 5.0
SEND_TIMEOUT = 30.0
FLIGHT_TIMEOUT = 5.0
FLIGHT_PAUSES = 0.005, 0.1
"""A user may have as many descriptors in flight between processes as one process may open: many, if the limit is low and the
receiver slow. Nothing tells when that is over: so tries begin with the shorter pause, which grows to the longer one."""


class Heir:
    """What a sandbox that ends leaves to the one that takes its place: its guest at the gateway (limits on bytes, and what was
    written down, are the sandbox's for life), and its network namespace, where that is wanted."""

    def __init__(self, guest: Guest | None = None, wire: Wire | None = None, *, is_wanted: bool = True) -> None:
        self.guest = guest
        self.wire = wire
        self.fd = -1
        self._is_wanted = is_wanted
        spawner.keep_from_children(self)

    def take(self, fd: int) -> None:
        """Has this descriptor from now on, and no other one; none, if it is not wanted."""
        self.close()
        self.fd = fd
        if not self._is_wanted:
            self.close()

    def close(self) -> None:
        """Lets go of it. Again is allowed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made."""

    home: Spawner
    plan: Plan
    trusted: bool = True
    proxy: Proxy | None = None
    """The way out; None where there is none, or another one."""
    line: Line | None = None
    """What it is to be connected with; None where its network is its own, or the host's."""


class Channel:
    """Safe to use from many threads and several event loops at once.

    One that is not ready yet may be used all the same: requests wait in its socket for PID 1. When that never comes to be,
    they fail as if it had died, with the reason.
    """

    def __init__(
        self,
        name: str,
        home: Spawner,
        sock: socket.socket,
        guest: Guest | None = None,
        wire: Wire | None = None,
        *,
        is_ready: bool = True,
    ) -> None:
        self._is_ready = is_ready
        self.name = name
        self.guest = guest
        """It at the gateway, where it has a proxy."""
        self.wire = wire
        """Its end of a hub, where it is connected to one."""
        self._home = home
        self._sock = sock
        self._lock = threading.Lock()
        self._closed = False
        self._lost = ""
        """Why it was given up, when it was."""
        self._generation = spawner.generation()
        spawner.keep_from_children(sock)

    @property
    def alive(self) -> bool:
        """Whether PID 1 lives and this process owns it."""
        self._see_whether_ready()
        if self._closed or self._lost or self._generation != spawner.generation():
            return False
        try:
            return self._sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True  # nothing to read: nobody has hung up
        except OSError:
            return False

    def send(self, message: bytes, fds: tuple[int, ...] = ()) -> Flow[None]:
        """Sends one request; waits when PID 1 is behind. SandboxGone."""
        deadline = time.monotonic() + SEND_TIMEOUT
        while not (yield from landing("hand descriptors to the sandbox", partial(self._try_send, message, fds))):
            if time.monotonic() > deadline:
                raise self.give_up("its PID 1 has stopped answering")
            # Not Ready: two tasks of one loop may wait here, and a loop takes one watcher a descriptor.
            yield Offload(lambda: _wait(self._sock, select.POLLOUT))

    def gone(self, why: str = "its PID 1 has died") -> SandboxGone:
        """The exception that says what has become of the sandbox."""
        self._see_whether_ready()
        if self._generation != spawner.generation():
            return SandboxGone(f"sandbox {self.name} belongs to the process that this one was forked from; make a new one here")
        if self._lost:
            return SandboxGone(f"sandbox {self.name} is gone: {self._lost}")
        return SandboxGone(f"sandbox {self.name} is closed" if self._closed else f"sandbox {self.name} is gone: {why}")

    def give_up(self, why: str) -> SandboxGone:
        """Ends a sandbox that can't be used any more, by way of the spawner. The exception to raise."""
        try:
            self._home.kill(self.name)
        except (SandboxGone, BlockingIOError, OSError):
            pass  # the spawner has ended, and everything with it
        with self._lock:
            self._lost = self._lost or why
            with contextlib.suppress(OSError):  # nobody is at the other end any more
                self._sock.shutdown(socket.SHUT_RDWR)  # not closed: close() may be waiting on it in another thread
        return self.gone()

    def close(self, heir: Heir | None = None) -> Flow[bool]:
        """Kills everything in the sandbox and waits until it is dead. Again is allowed, and does nothing.

        False when it was not seen dead: it was closed before, or has been given up to the spawner. `heir` gets its network
        namespace, if there is one to be had; then all but PID 1 are dead, and that is about to be: see `ended`, and `forget` it.
        """
        bequeath = heir is not None
        with self._lock:
            if self._closed or self._generation != spawner.generation():
                return False
            self._closed = True
            try:
                wire.send(self._sock, wire.encode_plain(wire.BEQUEATH if bequeath else wire.QUIT))
            except OSError:
                with contextlib.suppress(OSError):  # nobody is at the other end any more
                    self._sock.shutdown(socket.SHUT_WR)  # full: end of file says the same
        is_dead = yield from self._last_words(heir)
        if self.wire is not None and (heir is None or heir.wire is not self.wire):
            self.wire.close()
        return is_dead

    def ended(self) -> Flow[bool]:
        """After `close` with an heir: waits for what that has not waited for. False as there."""
        return self._sock.fileno() < 0 or (yield from self._last_words(None))

    def forget(self) -> None:
        """After `close` with an heir: lets go of the socket. Again is allowed."""
        self._sock.close()

    def kill(self) -> None:
        """Has the spawner kill PID 1, if that is there."""
        with contextlib.suppress(SandboxGone, OSError):
            self._home.kill(self.name)

    def _last_words(self, heir: Heir | None) -> Flow[bool]:
        deadline = time.monotonic() + CLOSE_TIMEOUT
        is_heard = False
        try:
            while True:
                ready = yield Ready(readers=(self._sock.fileno(),), deadline=deadline)
                try:
                    message, fd = wire.receive(self._sock, with_fd=True)
                except BlockingIOError:
                    message, fd = b"?", -1
                if fd >= 0 and heir is not None and wire.kind(message) == wire.NETWORK:
                    heir.take(fd)
                    # the last thing that PID 1 does (init.c); bubblewrap can't begin before it has ended
                    is_heard = self._home.bubblewrap is None
                elif fd >= 0:
                    os.close(fd)
                if not message or is_heard:
                    return True
                if not ready:
                    self.kill()
                    return False
        finally:
            if not is_heard:
                self._sock.close()

    def arrived(self) -> Flow[None]:
        """Waits until PID 1 is there, for those who need more of it than its socket. SandboxGone."""
        deadline = time.monotonic() + CREATE_TIMEOUT
        self._see_whether_ready()
        while not self._is_ready:
            if time.monotonic() > deadline:
                raise self.give_up(f"it was not ready within {CREATE_TIMEOUT:.0f} s")
            # Not Ready: two tasks of one loop may wait here, and a loop takes one watcher a descriptor.
            yield Offload(lambda: _wait(self._sock, select.POLLIN))
            self._see_whether_ready()
        if not self.alive:
            raise self.gone()

    def _see_whether_ready(self) -> None:
        """Takes the first message, if it has come by now. Without the lock: whom it makes wait may hold that."""
        if self._is_ready or self._closed:
            return
        self._is_ready = True
        try:
            message, _ = wire.receive(self._sock)
        except BlockingIOError:
            self._is_ready = False
            return
        except OSError:
            message = b""
        if wire.kind(message) == wire.FAULT:
            self._lost = f"it could not be started again: {fault_error(wire.decode_fault(message))}"
        elif wire.kind(message) != wire.READY:
            self._lost = "it died while it was being started again"

    def abandon(self) -> None:
        """Has it end by itself: waits for nothing."""
        with self._lock:
            if not self._closed and self._generation == spawner.generation():
                self._closed = True
                self._sock.close()

    def _try_send(self, message: bytes, fds: tuple[int, ...]) -> bool:
        with self._lock:  # against close(): another socket may get this one's number
            if self._closed or self._lost or self._generation != spawner.generation():
                raise self.gone()
            try:
                wire.send(self._sock, message, fds)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                    raise self.gone() from None
                raise
        return True


def _wait(sock: socket.socket, event: int) -> None:
    poll = select.poll()
    try:
        poll.register(sock, event)
    except ValueError:
        return  # closed meanwhile; the next try says so
    poll.poll(1000)


def landing(task: str, send: Callable[[], T]) -> Flow[T]:
    """What `send` returns; tried again for a while where too many descriptors of the user are in flight. HostError with the
    task, or what `send` raises."""
    (pause, longest), deadline = FLIGHT_PAUSES, 0.0
    while True:
        try:
            return send()
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            now = time.monotonic()
            deadline = deadline or now + FLIGHT_TIMEOUT
            if now > deadline:
                raise limit_error(error, task) or error from None
        yield Ready(deadline=now + pause)
        pause = min(2 * pause, longest)


def create(order: Order, heir: Heir | None = None) -> Flow[Channel]:
    """Has the spawner make a sandbox and waits for its PID 1. HostError, SetupError, SandboxGone."""
    started = yield from start(order, heir)
    yield from started.admit(order, heir)
    return (yield from started.arrive(order.home))


def again(order: Order, heir: Heir | None = None) -> Flow[Channel]:
    """One that is not waited for: see Channel. SandboxGone."""
    started = yield from start(order, heir)
    yield from started.admit(order, heir)
    return started.later(order.home)


@dataclass(slots=True)
class Started:
    """A sandbox that the spawner makes. Closed when anything fails."""

    name: str
    sock: socket.socket
    namespace: Namespace | None = None
    """Its network's, until that is connected."""
    guest: Guest | None = None
    wire: Wire | None = None

    def admit(self, order: Order, heir: Heir | None) -> Flow[None]:
        """Connects it, while its root is being made. Has PID 1 listen for programs that want out, if it has a proxy: before it is
        there, so that no command comes first."""
        try:
            if self.namespace is not None and order.line is not None:
                self.wire = hubs.attach(order.home, self.namespace, order.line)
            elif heir is not None:
                self.wire = heir.wire
            if order.proxy is not None:
                yield from self._admit_to(order.proxy, heir)
        except BaseException:
            self.close()
            raise

    def _admit_to(self, proxy: Proxy, heir: Heir | None) -> Flow[None]:
        from lisrt.egress import gateway  # asyncio and HTTP, for those alone who have a proxy

        doorman = gateway.current()
        guest = doorman.admit(proxy, heir.guest if heir else None)
        self.guest = guest

        def introduce() -> None:
            # it has failed already: `arrive` has the reason
            with doorman.connect(guest) as end, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                wire.send(self.sock, wire.encode_plain(wire.LISTEN), (end.fileno(),))

        yield from landing("make a sandbox", introduce)

    def close(self) -> None:
        """Its PID 1 ends, or never comes to be. Again is allowed."""
        self.sock.close()
        if self.namespace is not None:
            self.namespace.close()

    def arrive(self, home: Spawner) -> Flow[Channel]:
        """Waits for PID 1. HostError, SetupError, SandboxGone."""
        try:
            deadline = time.monotonic() + CREATE_TIMEOUT
            ready = yield Ready(readers=(self.sock.fileno(),), deadline=deadline)
            if not ready:
                home.kill(self.name)
                raise SandboxGone(f"the sandbox was not ready within {CREATE_TIMEOUT:.0f} s")
            message, _ = wire.receive(self.sock)
            if wire.kind(message) == wire.FAULT:
                raise fault_error(wire.decode_fault(message))
            if wire.kind(message) != wire.READY:
                raise SandboxGone("the sandbox died while it was being set up (killed from outside, or out of memory)")
            return Channel(self.name, home, self.sock, self.guest, self.wire)
        except BaseException:
            self.sock.close()
            raise

    def later(self, home: Spawner) -> Channel:
        """Not waited for: see Channel."""
        return Channel(self.name, home, self.sock, self.guest, self.wire, is_ready=False)


def start(order: Order, heir: Heir | None, *, follows: str = "", inherits: bool = False) -> Flow[Started]:
    """Has the spawner begin with a sandbox. `follows`, `inherits`: see follower.py."""
    network, namespace = (-1 if heir is None else heir.fd), None
    if heir is not None and heir.fd < 0:
        heir.wire = None
    if order.line is not None and not inherits and (heir is None or heir.wire is None):
        namespace = yield from hubs.new_namespace(order.home)
        network = namespace.fd
    name = f"b{os.urandom(8).hex()}"
    ours, theirs = wire.pair()
    spawner.keep_from_children(ours)
    try:
        with theirs:
            while True:
                try:
                    send = partial(order.home.create, name, order.plan, theirs, trusted=order.trusted, network=network)
                    yield from landing("make a sandbox", partial(send, follows=follows, inherits=inherits))
                    return Started(name, ours, namespace)
                except BlockingIOError:
                    yield Offload(lambda: _wait(order.home.control, select.POLLOUT))
    except BaseException:
        ours.close()
        if namespace is not None:
            namespace.close()
        raise
