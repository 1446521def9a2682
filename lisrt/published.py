"""The host's half of a published port: who connects there is connected with the sandbox, on the gateway's event loop."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Callable
from concurrent.futures import Future

from lisrt import spawner
from lisrt.egress import gateway
from lisrt.egress.guest import MOST_CONNECTIONS
from lisrt.egress.relay import Idle, Relay
from lisrt.errors import LisrtError
from lisrt.waiting import Flow, adrive

ACCEPT_PAUSE = 0.2
"""Seconds until the next try where this process may open no more files. Nothing tells when it may again."""


class Entrance:
    """One sandbox's. `dial(port)` is a flow that connects with it: OSError, LisrtError. May be used from any thread."""

    def __init__(self, dial: Callable[[int], Flow[socket.socket]]) -> None:
        self._gateway = gateway.current()
        self._dial = dial
        self._turn = asyncio.Semaphore(MOST_CONNECTIONS)
        self._listeners: dict[socket.socket, asyncio.Task[None]] = {}
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        """By whose listener they came."""

    @property
    def alive(self) -> bool:
        """Whether anybody is served."""
        return self._gateway.alive

    def open(self, listener: socket.socket, port: int) -> None:
        """Serves what connects to it, a socket that does not block, from now on."""
        self._gateway.run(self._begin(listener, port))

    def close(self, *listeners: socket.socket) -> Future[None]:
        """Ends those, and what has come by them; when that is done, their ports are free. Nobody is taken in from now on."""
        for one in listeners:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its gateway has ended
        return self._gateway.run(self._end(listeners))

    def cut(self) -> None:
        """Ends all connections that there are."""
        self._gateway.run(self._cut(tuple(self._listeners)))

    async def _begin(self, listener: socket.socket, port: int) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(listener, port))
        self._listeners[listener] = task
        task.add_done_callback(lambda _: listener.close())

    async def _end(self, listeners: tuple[socket.socket, ...]) -> None:
        tasks = [task for one in listeners if (task := self._listeners.pop(one, None)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._cut(listeners)

    async def _cut(self, listeners: tuple[socket.socket, ...]) -> None:
        tasks = [task for task, one in self._connections.items() if one in listeners]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, listener: socket.socket, port: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._turn:  # before it is taken: those that wait are the kernel's
                pass
            await _readable(listener)
            try:
                client, _ = listener.accept()
                client.setblocking(False)
            except OSError as error:
                if error.errno == errno.EINVAL:  # it has been shut down
                    return
                if error.errno not in (errno.ECONNABORTED, errno.EAGAIN):
                    await asyncio.sleep(ACCEPT_PAUSE)
                continue
            spawner.keep_from_children(client)
            task = loop.create_task(self._connect(client, port))
            self._connections[task] = listener
            task.add_done_callback(functools.partial(self._forget, client))

    def _forget(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        client.close()

    async def _connect(self, client: socket.socket, port: int) -> None:
        async with self._turn:
            try:
                inside = await adrive(self._dial(port))
            except (OSError, LisrtError):
                return  # nobody listens, or there is no sandbox any more: that the connection ends says so
            with inside:
                try:
                    await Relay(inside, client, lambda _sent, _received: None).run()
                except* (OSError, Idle):
                    pass  # one of the two has broken off: the other one sees an end, too


async def _readable(listener: socket.socket) -> None:
    """Waits. Not by the loop's sock_accept: cancelled at the moment at which its callback was due, that complained of itself on
    stderr (CPython 3.11), whenever a sandbox with two ports was closed at the wrong moment."""
    loop = asyncio.get_running_loop()
    come: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not come.done():
            come.set_result(None)

    loop.add_reader(listener.fileno(), ready)
    try:
        await come
    finally:
        loop.remove_reader(listener.fileno())
