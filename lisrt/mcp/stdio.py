"""One client, on stdin and stdout."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from functools import partial

import anyio
from mcp.server.stdio import stdio_server

from lisrt.mcp.guest import Settings
from lisrt.mcp.server import build
from lisrt.mcp.signals import on_ending_signal

__all__ = ["serve_stdio"]


async def serve_stdio(settings: Settings) -> int | None:
    """Serves until the client closes its end, or a signal comes: its number is returned then. The sandbox is gone by then.

    The SDK takes stdout for itself: whatever else is printed meanwhile goes to stderr.
    """
    server = build(settings, over_http=False)
    for fd in (0, 1):
        os.set_blocking(fd, True)
    reader, writer = socket.socketpair()
    with reader, writer:
        received = on_ending_signal(partial(_end, writer), patience=5.0)
        threading.Thread(target=_pump, args=(0, writer), name="lisrt-mcp-stdin", daemon=True).start()
        stdin = anyio.wrap_file(io.TextIOWrapper(reader.makefile("rb"), encoding="utf-8", errors="replace"))
        async with stdio_server(stdin=stdin) as (read, write):
            await server.run(read, write, server.create_initialization_options())
    return received[0] if received else None


def _pump(fd: int, writer: socket.socket) -> None:
    """Hands stdin on. A thread that waits for stdin can't be woken, one that waits for a socket of ours can: so the SDK reads
    that, and this thread may wait on when all else has ended."""
    with contextlib.suppress(OSError):  # that of the client is an end like any other; that of ours is ours
        while data := os.read(fd, 1 << 16):
            writer.sendall(data)
    _end(writer)


def _end(writer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        writer.shutdown(socket.SHUT_WR)
