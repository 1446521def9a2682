"""Ports of the host's loopback that lead into a sandbox.

Nothing inside can begin with it: PID 1 connects to its own loopback when the host asks (csrc/dial.c), and hands the connection
out. So it needs no way out, and works with every network that is the sandbox's own.
"""

from __future__ import annotations

import operator
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lisrt import spawner
from lisrt.errors import SandboxGone
from lisrt.kernel import wire
from lisrt.waiting import Flow, Offload, Ready

if TYPE_CHECKING:
    from lisrt.channel import Channel
    from lisrt.published import Entrance

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
DIAL_TIMEOUT = 10.0
"""Seconds for a connection inside: it takes no time unless the queue of who listens there is full."""
END_TIMEOUT = 5.0
"""For a gateway that ends at that moment; one that lives answers at once."""
AnyPorts = Sequence[int] | Mapping[int, int]


def number(value: int, *, lowest: int = 1) -> int:
    """A port. TypeError, ValueError."""
    if isinstance(value, bool) or not lowest <= operator.index(value) <= 65535:
        raise ValueError(f"a port is a number from {lowest} to 65535: {value!r}")
    return operator.index(value)


def wanted(ports: AnyPorts, network: str) -> dict[int, int]:
    """By port of the sandbox, that of the host; 0 for any free one. `network`: what kind it has. TypeError, ValueError."""
    if isinstance(ports, (str, bytes)) or not isinstance(ports, (Mapping, Iterable)):
        raise TypeError(f"ports is a list of the sandbox's, or a dict from those to the host's, not {ports!r}")
    pairs = list(ports.items()) if isinstance(ports, Mapping) else [(port, 0) for port in ports]
    found = {number(port): number(host_port, lowest=0) for port, host_port in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"ports names one of the sandbox's twice: {list(ports)!r}")
    if found:
        check_network(network)
    return found


def check_network(network: str) -> None:
    """ValueError where the sandbox has the host's loopback."""
    if network == "filtered":
        raise ValueError('with network="filtered" a sandbox has no sockets that could be reached')
    if network == "host":
        raise ValueError('with network="host" there is nothing to publish: a port of the sandbox is one of the host already')


def dial(channel: Channel, port: int) -> Flow[socket.socket]:
    """A connection with what listens on that port of the sandbox's loopback. OSError, SandboxGone."""
    ours, theirs = wire.pair()
    spawner.keep_from_children(ours)
    with ours:
        with theirs:
            yield from channel.send(wire.encode_dial(port), (theirs.fileno(),))
        if not (yield Ready((ours.fileno(),), deadline=time.monotonic() + DIAL_TIMEOUT)):
            raise TimeoutError(f"nobody has taken a connection to port {port} within {DIAL_TIMEOUT:.0f} s")
        message, fd = wire.receive(ours, with_fd=True)
    made = socket.socket(fileno=fd) if fd >= 0 else None
    if made is not None and made.family == socket.AF_INET and made.type == socket.SOCK_STREAM:
        made.setblocking(False)
        spawner.keep_from_children(made)
        return made
    if made is not None:  # PID 1 hands over nothing else
        made.close()
    if made is None and wire.kind(message) == wire.DIALLED:
        error = wire.decode_dialled(message)
        raise OSError(error, os.strerror(error))
    raise channel.gone()


class HasChannel(Protocol):
    """A sandbox. Another channel takes the place of its own when it is frozen or set back."""

    @property
    def channel(self) -> Channel:
        """SandboxGone."""


class Ports:
    """Those of one sandbox, which this does not keep alive; they are closed when nobody refers to that any more."""

    def __init__(self, box: HasChannel, ports: AnyPorts, network: str) -> None:
        """TypeError, ValueError."""
        self._box = weakref.ref(box)
        self._network = network
        self._wanted = wanted(ports, network)
        self._lock = threading.Lock()
        self._generation = spawner.generation()
        self._is_closed = False
        self._entrance: Entrance | None = None
        self._listeners: dict[int, socket.socket] = {}

    def around(self, making: Flow[None]) -> Flow[None]:
        """Makes the sandbox. Listens first: what is taken already should be seen before it costs anything. OSError."""
        self._generation = spawner.generation()
        try:
            for port, host_port in self._wanted.items():
                self.publish(port, host_port)
            yield from making
        except BaseException:
            making.close()
            self._drop()
            raise

    def listening(self) -> dict[int, int]:
        """By port of the sandbox, that of the host."""
        if self._is_foreign or self._entrance is None or not self._entrance.alive:
            return {}
        with self._lock:
            return {port: listener.getsockname()[1] for port, listener in self._listeners.items()}

    def publish(self, port: int, host_port: int) -> int:
        """Listens; returns the port of the host. ValueError, OSError, SandboxGone."""
        check_network(self._network)
        port, host_port = number(port), number(host_port, lowest=0)
        box = self._box()
        if box is None or self._is_foreign:
            raise SandboxGone("the sandbox is not this process's")
        with self._lock:
            if self._is_closed:
                raise box.channel.gone()
            entrance = self._entrance_of(box)
            if port in self._listeners:
                raise ValueError(f"port {port} is published already, as {self._listeners[port].getsockname()[1]}")
            listener = _listen(host_port)
            self._listeners[port] = listener
            entrance.open(listener, port)
            return int(listener.getsockname()[1])

    def unpublish(self, port: int) -> Flow[None]:
        """Listens no more, and ends what has come that way. Again is allowed, and does nothing."""
        number(port)
        yield from finished(self._drop(port))

    def close(self) -> Future[None] | None:
        """Has all of it end, for good; when that is done, if there is anything to do, all ports are free."""
        self._is_closed = True
        return self._drop()

    def cut(self) -> None:
        """Ends the connections that there are."""
        if self._entrance is not None and not self._is_foreign:
            self._entrance.cut()

    @property
    def _is_foreign(self) -> bool:
        """In a forked child: it has closed its copies, and the sockets themselves are not its own to end."""
        return self._generation != spawner.generation()

    def _entrance_of(self, box: HasChannel) -> Entrance:
        if self._entrance is None or not self._entrance.alive:
            from lisrt.published import (
                Entrance,  # asyncio and the gateway, for those alone who publish something
            )

            self._listeners.clear()  # closed with their gateway
            self._entrance = Entrance(self._dial)
            weakref.finalize(box, _let_go, self._entrance, self._listeners, self._generation).atexit = False
        return self._entrance

    def _dial(self, port: int) -> Flow[socket.socket]:
        box = self._box()
        if box is None:
            raise SandboxGone("nobody refers to the sandbox any more")
        channel = box.channel
        del box  # it may go meanwhile
        return (yield from dial(channel, port))

    def _drop(self, *ports: int) -> Future[None] | None:
        """Those, or all."""
        if self._is_foreign:
            return None
        with self._lock:
            found = [self._listeners.pop(port) for port in ports or tuple(self._listeners) if port in self._listeners]
            return self._entrance.close(*found) if self._entrance is not None and found else None


def finished(ending: Future[None] | None) -> Flow[None]:
    """Waits for what `close` has returned."""
    if ending is not None:
        yield Offload(partial(wait, [ending], END_TIMEOUT))


def _let_go(entrance: Entrance, listeners: Mapping[int, socket.socket], generation: int) -> None:
    if listeners and generation == spawner.generation():
        entrance.close(*listeners.values())  # no lock: whoever held it may be this thread


def _listen(port: int) -> socket.socket:
    """OSError with the address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        spawner.keep_from_children(listener)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is left of earlier connections is in nobody's way
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, os.strerror(error.errno or 0), f"{LOOPBACK}:{port}") from None
    return listener
