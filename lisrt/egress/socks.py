"""A proxy's half of SOCKS5 (RFC 1928): CONNECT without authentication, names resolved here."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct

from lisrt.egress.dial import Refused, Unreachable
from lisrt.egress.guest import Guest

WITHIN = 60.0
"""Seconds for the questions."""
_NO_AUTHENTICATION, _NONE_ACCEPTABLE = 0, 255
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_DONE, _NOT_ALLOWED, _HOST_UNREACHABLE, _TIMED_OUT, _NO_SUCH_COMMAND, _NO_SUCH_ADDRESS = 0, 2, 4, 6, 7, 8


class _Nonsense(Exception):
    """Not SOCKS5."""


async def serve(client: socket.socket, guest: Guest) -> None:
    """One connection."""
    try:
        async with asyncio.timeout(WITHIN):
            await _greet(client)
            wanted = await _question(client)
    except (_Nonsense, TimeoutError, OSError):
        return
    if isinstance(wanted, int):
        return await _answer(client, wanted)
    host, port = wanted
    try:
        connection = await guest.dial(host, port, None, tunnel=True)
    except Refused:
        return await _answer(client, _NOT_ALLOWED)
    except Unreachable as error:
        return await _answer(client, _TIMED_OUT if error.late else _HOST_UNREACHABLE)
    with connection.sock:
        await _answer(client, _DONE)
        await guest.relay(client, connection, b"")


async def _greet(client: socket.socket) -> None:
    version, count = await _read(client, 2)
    methods = await _read(client, count) if version == 5 else b""
    if version != 5:
        raise _Nonsense
    chosen = _NO_AUTHENTICATION if _NO_AUTHENTICATION in methods else _NONE_ACCEPTABLE
    await asyncio.get_running_loop().sock_sendall(client, bytes((5, chosen)))
    if chosen == _NONE_ACCEPTABLE:
        raise _Nonsense


async def _question(client: socket.socket) -> tuple[str, int] | int:
    """Host and port; or what is wrong, in SOCKS5's numbers."""
    version, command, _, kind = await _read(client, 4)
    if version != 5:
        raise _Nonsense
    if kind == _IPV4:
        host = str(ipaddress.IPv4Address(await _read(client, 4)))
    elif kind == _IPV6:
        host = str(ipaddress.IPv6Address(await _read(client, 16)))
    elif kind == _NAME:
        [length] = await _read(client, 1)
        host = (await _read(client, length)).decode("ascii", "replace")
    else:
        return _NO_SUCH_ADDRESS
    [port] = struct.unpack("!H", await _read(client, 2))
    return (host, port) if command == _CONNECT else _NO_SUCH_COMMAND


async def _answer(client: socket.socket, status: int) -> None:
    """With an address of our end that says nothing: nobody needs it."""
    try:
        await asyncio.get_running_loop().sock_sendall(client, bytes((5, status, 0, _IPV4, 0, 0, 0, 0, 0, 0)))
    except OSError:
        pass  # it has gone


async def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await asyncio.get_running_loop().sock_recv(client, size - len(data))
        if not part:
            raise _Nonsense
        data += part
    return data
