"""HTTP/1.1 by h11 and asyncio, for servers on a plain connection.

Through the client library a turn of an episode cost three times as much of the process that it runs in, nearly all of it on the
way to the socket and back; see docs/decisions/0024.
"""

from __future__ import annotations

import asyncio
import json
import math
import select
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11

from lisrt.agent.transport.answer import Answer, NoAnswer

__all__ = ["DirectTransport", "goes_directly"]

#: Bytes of a response's head, and of its body.
_MOST_HEAD, _MOST_BODY = 64 * 1024, 256 * 1024**2
#: What may stand in a path as it is.
_IN_PATHS = "/%:@!$&'()*+,;=~"
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


def goes_directly(base_url: str) -> bool:
    """Whether all that is needed to reach it is here: no TLS, no proxy, no name and password, no query."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or not base_url.isascii() or "@" in parts.netloc or parts.query:
        return False
    proxies = getproxies()
    return not ("http" in proxies or "all" in proxies) or bool(proxy_bypass(parts.netloc))


class DirectTransport:
    """Connections to one server, each for one request at a time, and kept for the next."""

    users = math.inf

    def __init__(self, base_url: str, api_key: str | None) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._target = quote(parts.path.rstrip("/"), safe=_IN_PATHS) + "/chat/completions"
        self._headers = [
            ("Host", parts.netloc),
            ("User-Agent", "lisrt"),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
            ("Authorization", f"Bearer {api_key or 'none'}"),
        ]
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def post(self, request: Mapping[str, Any]) -> Answer:
        """See Transport."""
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        headers = [*self._headers, ("Content-Length", str(len(body)))]
        connection = self._kept() or await self._connect()
        try:
            head = h11.Request(method="POST", target=self._target, headers=headers)
            answer = await connection.exchange(head, body)
        except h11.LocalProtocolError as error:
            connection.abort()
            raise NoAnswer(str(error), hint="check the settings of the model", final=True) from error
        except BaseException:  # half of an answer may still come, which would be the next one's
            connection.abort()
            raise
        if connection.usable:
            self._idle.append(connection)
        return answer

    async def close(self) -> None:
        """See Transport."""
        for connection in self._open:
            connection.abort()
        if self._open:  # not gather, which would cancel what it waits for when it is cancelled itself
            await asyncio.wait({connection.gone for connection in self._open})

    def _kept(self) -> _Connection | None:
        """The one that was used last, for servers close those that are idle for some seconds."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and not connection.has_news():
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                _Connection, self._host, self._port, happy_eyeballs_delay=0.25
            )
        except (OSError, UnicodeError) as error:
            raise NoAnswer(str(error)) from error
        self._open.add(connection)
        connection.gone.add_done_callback(lambda _: self._open.discard(connection))
        return connection


class _Connection(asyncio.Protocol):
    """One connection. It notices that the server has closed it also while it is idle."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        self._answer: asyncio.Future[Answer] | None = None
        self._head: h11.Response | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def usable(self) -> bool:
        """Whether it can take a request."""
        return self._http.our_state is h11.IDLE and not self._transport.is_closing()

    async def exchange(self, head: h11.Request, body: bytes) -> Answer:
        """One request and its answer. Raises NoAnswer, and h11.LocalProtocolError for what can't be sent."""
        self._answer = asyncio.get_running_loop().create_future()
        self._head, self._parts, self._size = None, [], 0
        events = head, h11.Data(data=body), h11.EndOfMessage()
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        return await self._answer

    def has_news(self) -> bool:
        """Whether something has come that the event loop, busy with others, has not told of yet: its end, as a rule."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))

    def abort(self) -> None:
        """It is not needed any more."""
        self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        tcp = transport.get_extra_info("socket")
        # A model may think for minutes; without this a firewall on the way would forget the connection, and nobody be told.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def data_received(self, data: bytes) -> None:
        self._read(data)

    def eof_received(self) -> None:
        self._read(b"")  # a body without a length ends so; asyncio then closes the connection

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error or "the server has closed the connection"))
        self.gone.set_result(None)

    # The answer

    def _read(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nothing was asked for
            return
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    self._take(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return self._end()
                elif not isinstance(event, h11.InformationalResponse):
                    raise h11.RemoteProtocolError(self._cut_off())
        except h11.RemoteProtocolError as error:
            self._fail(str(error) if data else self._cut_off())

    def _cut_off(self) -> str:
        if self._head is not None:
            return "the server has closed the connection in the middle of its answer"
        begun = self._http.trailing_data[0][:40]
        return f"the server has closed the connection without an answer{f'; it had sent {begun!r}' if begun else ''}"

    def _begin(self, head: h11.Response) -> None:
        self._head = head
        encoding = dict(head.headers).get(b"content-encoding", b"identity")
        if encoding.lower() not in (b"identity", b""):
            raise h11.RemoteProtocolError(f"the answer came as {encoding.decode('latin-1')}, which was not asked for")

    def _take(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > _MOST_BODY:
            raise h11.RemoteProtocolError(f"the answer is larger than {_MOST_BODY >> 20} MiB")

    def _end(self) -> None:
        assert self._head is not None and self._answer is not None
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in self._head.headers}
        text = b"".join(self._parts).decode("utf-8", "replace")
        if self._http.our_state is self._http.their_state is h11.DONE and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
        else:
            self._transport.close()
        self._answer.set_result(Answer(self._head.status_code, headers, text))

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(why))
        self._transport.abort()
