"""TLS towards hosts for which the proxy adds headers: what goes there from a sandbox in plain HTTP leaves this host encrypted."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl

CHUNK = 16 << 10


class Plain:
    """A socket as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def recv(self, size: int) -> bytes:
        """b"" at the end."""
        return await asyncio.get_running_loop().sock_recv(self._sock, size)

    async def sendall(self, data: bytes) -> None:
        """All of it."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    def finish(self) -> None:
        """There will be no more to send."""
        self._sock.shutdown(socket.SHUT_WR)


class Secured(Plain):
    """The same inside TLS. Reading and writing may go on at once, in two tasks of one loop. Failures are OSError."""

    def __init__(self, sock: socket.socket, host: str, bundle: str | None) -> None:
        super().__init__(sock)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context(bundle, os.stat(bundle).st_mtime_ns if bundle else 0).wrap_bio(
            self._in, self._out, server_hostname=host
        )
        self._turn = asyncio.Lock()
        """What is encrypted goes out in the order in which it was."""

    async def handshake(self) -> None:
        """The certificate is looked at. ssl.SSLError."""
        while True:
            try:
                self._tls.do_handshake()
                return await self._flush()
            except ssl.SSLWantReadError:
                await self._more()

    async def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                await self._more()
            except ssl.SSLZeroReturnError:
                return b""

    async def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def _more(self) -> None:
        await self._flush()
        data = await super().recv(CHUNK)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    async def _flush(self) -> None:
        async with self._turn:
            data = self._out.read()
            if data:
                await super().sendall(data)


@functools.lru_cache(maxsize=4)
def _context(bundle: str | None, _changed: int) -> ssl.SSLContext:
    """With the certificates that this host trusts."""
    return ssl.create_default_context(cafile=bundle)
