"""Bytes from one socket to another, both ways, in little memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

CHUNK = 16 << 10
"""Bytes held for one direction of one connection: five hundred of them are 16 MiB."""
IDLE = 600.0
"""Seconds without a byte either way, and a connection is given up."""


class Idle(Exception):
    """Nothing has come for too long."""


class Relay:
    """One connection's two directions. `count(sent, received)` is told of bytes as they go, and may raise to end it."""

    def __init__(self, inside: socket.socket, outside: socket.socket, count: Callable[[int, int], None]) -> None:
        self._inside = inside
        self._outside = outside
        self._count = count
        self._moved = 0.0

    async def run(self) -> None:
        """Until both have ended. A group of OSError where one breaks off, Idle, and what `count` raises."""
        self._moved = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy(self._inside, self._outside, lambda size: self._count(size, 0)))
            group.create_task(self._copy(self._outside, self._inside, lambda size: self._count(0, size)))

    async def _copy(self, source: socket.socket, target: socket.socket, count: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        while data := await self._next(source):
            count(len(data))
            self._moved = loop.time()
            await loop.sock_sendall(target, data)
            await asyncio.sleep(0)  # neither of the two does, where it need not wait: others want a turn
        try:
            target.shutdown(socket.SHUT_WR)  # the other way may go on
        except OSError:
            pass  # it has gone altogether

    async def _next(self, source: socket.socket) -> bytes:
        """What comes next, however long it takes, as long as something comes the other way. Idle."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    return await loop.sock_recv(source, CHUNK)
            except TimeoutError:
                if loop.time() - self._moved >= IDLE:
                    raise Idle from None
