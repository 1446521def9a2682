"""A socket on which HTTP/1.1 is spoken, by h11."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import h11

from lisrt.egress.relay import CHUNK
from lisrt.egress.secured import Plain

MOST_HEAD = 64 << 10
HEAD_WITHIN = 60.0
"""Seconds for the head of a request, and until the next one on the same connection."""
ANSWER_WITHIN = 300.0
"""Seconds without a byte of an answer."""
LINGER, LINGER_BYTES = 2.0, 1 << 20


class Peer:
    """A socket and what is being said on it."""

    def __init__(
        self, stream: Plain, state: h11.Connection, count: Callable[[int, int], None] = lambda _sent, _received: None
    ) -> None:
        """`count`: hears of bytes, sent and received, heads and all."""
        self.stream = stream
        self.state = state
        self._count = count

    async def event(self, within: float) -> object:
        """The next one. OSError, TimeoutError, h11.RemoteProtocolError."""
        while (event := self.state.next_event()) is h11.NEED_DATA:
            await asyncio.sleep(0)  # sock_recv does not, where there is something: others want a turn
            async with asyncio.timeout(within):
                data = await self.stream.recv(CHUNK)
            self._count(0, len(data))
            self.state.receive_data(data)
        return event

    async def send(self, event: h11.Event) -> None:
        data = self.state.send(event)
        if data:
            self._count(len(data), 0)
            await self.stream.sendall(data)

    async def answer(self, status: int, words: str) -> None:
        """Our own, and the last one. The words are in the status line, too: that is what pip and curl show of a tunnel's."""
        line = words.encode("ascii", "replace")[:300]
        body = line + b"\n"
        headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
        with contextlib.suppress(OSError, h11.LocalProtocolError):
            await self.send(h11.Response(status_code=status, reason=line, headers=headers))
            await self.send(h11.Data(data=body))
            await self.send(h11.EndOfMessage())
            await self._linger()

    async def _linger(self) -> None:
        """Reads what still comes, for a moment: to close a socket with bytes unread takes the answer away from who sends them."""
        self.stream.finish()
        rest = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while rest > 0 and (data := await self.stream.recv(CHUNK)):
                    rest -= len(data)
