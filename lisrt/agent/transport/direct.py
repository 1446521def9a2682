"""HTTP/1.1 by h11 and asyncio, for servers on a plain connection.

Through the client library a turn of an episode cost three times as much of the process that it runs in, nearly all of it on the
way to the socket and back; see docs/decisions/0024.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11

from lisrt.agent.transport.answer import Answer, NoAnswer
from lisrt.agent.transport.connection import Connection, Unheard

__all__ = ["DirectTransport", "goes_directly"]

#: What may stand in a path as it is.
_IN_PATHS = "/%:@!$&'()*+,;=~"


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
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()

    async def post(self, request: Mapping[str, Any]) -> Answer:
        """See Transport."""
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        if (kept := self._kept()) is not None:
            try:
                return await self._exchange(kept, body)
            except Unheard:
                # The server was closing it, as it does with those that are idle: most likely it has not seen the request. It may
                # have died of it as well, so that no other one is lent.
                for connection in self._idle:
                    connection.abort()
                self._idle.clear()
        return await self._exchange(await self._connect(), body)

    async def _exchange(self, connection: Connection, body: bytes) -> Answer:
        headers = [*self._headers, ("Content-Length", str(len(body)))]
        try:
            head = h11.Request(method="POST", target=self._target, headers=headers)
            answer = await connection.exchange(head, body)
        except h11.LocalProtocolError as error:
            connection.abort()
            # not in h11's words: they quote the key
            reason = "the request can't be sent: address or API key hold what HTTP does not allow"
            raise NoAnswer(reason, hint="check the settings of the model", final=True) from error
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

    def _kept(self) -> Connection | None:
        """The one that was used last, for servers close those that are idle for some seconds."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and not connection.has_news():
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            # One address after the other: uvloop knows no happy eyeballs, and asyncio's leave sockets behind when cancelled.
            _, connection = await loop.create_connection(Connection, self._host, self._port)
        except (OSError, ValueError) as error:  # UnicodeError is one, for a name that can't be looked up
            raise NoAnswer(str(error)) from error
        self._open.add(connection)
        connection.gone.add_done_callback(lambda _: self._open.discard(connection))
        return connection
