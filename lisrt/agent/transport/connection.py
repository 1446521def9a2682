"""One connection to a server, HTTP/1.1 by h11: a request at a time, and kept for the next."""

from __future__ import annotations

import asyncio
import select
import socket
import zlib
from typing import cast

import h11

from lisrt.agent.transport.answer import Answer, NoAnswer

__all__ = ["Connection", "Unheard"]

#: Bytes of a response's head, and of all of it.
_MOST_HEAD, _MOST = 64 * 1024, 256 * 1024**2
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


class Unheard(NoAnswer):
    """It ended before a byte of an answer had come."""


class Connection(asyncio.Protocol):
    """Made by an event loop's `create_connection`. It notices that the server has closed it also while it is idle."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        self._answer: asyncio.Future[Answer] | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._read = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def usable(self) -> bool:
        """Whether it can take a request."""
        return self._http.our_state is h11.IDLE and not self._transport.is_closing()

    def has_news(self) -> bool:
        """Whether something has come that the event loop, busy with others, has not told of yet: its end, as a rule."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))

    async def exchange(self, head: h11.Request, body: bytes) -> Answer:
        """One request and its answer. Raises NoAnswer, and h11.LocalProtocolError for what can't be sent."""
        if self._transport.is_closing():
            raise Unheard("the connection has ended")
        self._answer = asyncio.get_running_loop().create_future()
        self._head, self._read = None, 0
        events = head, h11.Data(data=body), h11.EndOfMessage()
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        try:
            return await self._answer
        finally:
            self._answer, self._body = None, bytearray()  # an idle one keeps nothing

    def abort(self) -> None:
        """It is not needed any more."""
        self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        tcp = transport.get_extra_info("socket")
        # A model may think for minutes; without this a firewall on the way would forget the connection, and nobody be told.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def data_received(self, data: bytes) -> None:
        self._receive(data)

    def eof_received(self) -> None:
        self._receive(b"")  # a body without a length ends so; asyncio then closes the connection

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error) if error else self._cut_off())
        self.gone.set_result(None)

    # The answer

    def _receive(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nothing was asked for
            return
        self._read += len(data)
        try:
            if self._read > _MOST:
                raise h11.RemoteProtocolError(f"the answer is larger than {_MOST >> 20} MiB")
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return self._end(self._answer)
                elif not isinstance(event, h11.InformationalResponse):
                    raise h11.RemoteProtocolError(self._cut_off())
        except h11.RemoteProtocolError as error:
            self._fail(str(error) if data else self._cut_off())

    def _end(self, waiting: asyncio.Future[Answer]) -> None:
        assert self._head is not None
        whole = self._http.our_state is self._http.their_state is h11.DONE and not self._http.trailing_data[0]
        # An answer before the request was taken in: what is left of that would hold up the next one.
        if whole and not self._transport.get_write_buffer_size():
            self._http.start_next_cycle()
        else:
            self._transport.abort()
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in self._head.headers}
        try:
            text = _decoded(bytes(self._body), headers.get("content-encoding", "")).decode("utf-8", "replace")
        except ValueError as error:
            status = self._head.status_code
            reason = f"an answer with status {status} that can't be read: {error}"
            hint = "see what the server or a proxy does to answers"
            waiting.set_exception(NoAnswer(reason, hint=hint, final=status < 500))
        else:
            waiting.set_result(Answer(self._head.status_code, headers, text))

    def _cut_off(self) -> str:
        if self._head is not None:
            return "the server has closed the connection in the middle of its answer"
        begun = self._http.trailing_data[0]
        return f"the server has closed the connection without an answer{f'; it had sent {begun!r}' if begun else ''}"

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(why) if self._read else Unheard(why))
        self._transport.abort()


def _decoded(body: bytes, encoding: str) -> bytes:
    """What the server has packed, though it was asked not to. ValueError."""
    if not body or encoding.lower() in ("", "identity", "none"):
        return body
    if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"it came as {encoding}, which was not asked for")
    text = bytearray()
    while body:  # gzip may have several parts
        try:
            unpacking = zlib.decompressobj(wbits=47)  # either, by its first bytes
            text += unpacking.decompress(body, _MOST)
        except zlib.error as error:
            raise ValueError(f"it came as {encoding}, and is none: {error}") from None
        if not unpacking.eof or len(text) > _MOST:
            raise ValueError(f"it came as {encoding}, and is not whole, or larger than {_MOST >> 20} MiB")
        body = unpacking.unused_data
    return bytes(text)
