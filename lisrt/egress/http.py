"""A proxy's half of HTTP/1.1: requests for `http:` hosts are passed on one by one, tunnels for all else. By h11."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import h11

from lisrt.egress.dial import Connection, Refused, Unreachable
from lisrt.egress.guest import Guest, Spent
from lisrt.egress.relay import CHUNK
from lisrt.egress.rules import Additions
from lisrt.egress.secured import Plain, Secured
from lisrt.egress.trust import bundle as trusted

MOST_HEAD = 64 << 10
HEAD_WITHIN = 60.0
"""Seconds for the head of a request, and until the next one on the same connection."""
ANSWER_WITHIN = 300.0
"""Seconds without a byte of an answer."""
LINGER, LINGER_BYTES = 2.0, 1 << 20
# RFC 9110, 7.6.1: of one connection each. Whoever was named by Connection goes with them.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer upgrade".split()
)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request is for."""

    host: str
    port: int
    target: bytes
    """As the host itself is asked: the path and what follows."""
    additions: Additions | None = None


async def serve(client: socket.socket, guest: Guest) -> None:
    """All requests of one connection."""
    inside = Peer(Plain(client), h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD))
    while True:
        try:
            request = await inside.event(HEAD_WITHIN)
        except h11.RemoteProtocolError as error:
            return await inside.answer(error.error_status_hint or 400, f"no request that a proxy understands: {error}")
        except (TimeoutError, OSError):
            return
        if not isinstance(request, h11.Request):
            return  # the connection is closed
        if request.method == b"CONNECT":
            return await _tunnel(client, inside, request, guest)
        if not await _forward(inside, request, guest):
            return
        inside.state.start_next_cycle()


async def _tunnel(client: socket.socket, inside: Peer, request: h11.Request, guest: Guest) -> None:
    host, port = _authority(request.target.decode("ascii", "replace"))
    if not host or not port:
        return await inside.answer(400, "CONNECT wants HOST:PORT")
    try:
        connection = await guest.dial(host, port, None, tunnel=True)
    except Refused as error:
        return await inside.answer(403, f"lisrt: {error}")
    except Unreachable as error:
        return await inside.answer(504 if error.late else 502, f"lisrt: {error}")
    with connection.sock:
        await inside.send(h11.Response(status_code=200, reason=b"Connection established", headers=[]))
        early, _ = inside.state.trailing_data
        await guest.relay(client, connection, early)


async def _forward(inside: Peer, request: h11.Request, guest: Guest) -> bool:
    """One request and its answer. Whether another one may follow."""
    wanted = _wanted(request.target)
    if isinstance(wanted, str):
        await inside.answer(400, wanted)
        return False
    wanted = _with_additions(wanted, guest)
    method = request.method.decode("ascii", "replace")
    try:
        connection = await guest.dial(wanted.host, wanted.port, method, tunnel=wanted.additions is not None)
    except Refused as error:
        await inside.answer(403, f"lisrt: {error}")
        return False
    except Unreachable as error:
        await inside.answer(504 if error.late else 502, f"lisrt: {error}")
        return False
    with connection.sock:
        try:
            outside = Peer(await _stream(connection, wanted), h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD))
            return await _exchange(inside, outside, request, wanted, connection, guest)
        except (h11.ProtocolError, OSError, TimeoutError, Spent) as error:
            guest.failed(connection, str(error) or type(error).__name__)
            if inside.state.our_state is h11.SEND_RESPONSE:
                await inside.answer(502, f"lisrt: {wanted.host}: {error}")
            return False
        finally:
            guest.ended(connection)


def _with_additions(wanted: _Wanted, guest: Guest) -> _Wanted:
    additions = guest.policy.additions.get(wanted.host.removesuffix(".")) if wanted.port == 80 else None
    return wanted if additions is None else replace(wanted, port=additions.port, additions=additions)


async def _stream(connection: Connection, wanted: _Wanted) -> Plain:
    if wanted.additions is None:
        return Plain(connection.sock)
    secured = Secured(connection.sock, wanted.host, trusted())
    async with asyncio.timeout(HEAD_WITHIN):
        await secured.handshake()
    return secured


async def _exchange(
    inside: Peer, outside: Peer, request: h11.Request, wanted: _Wanted, connection: Connection, guest: Guest
) -> bool:
    added = wanted.additions.headers if wanted.additions else ()
    kept = _kept(request.headers, b"host", *(name.lower() for name, _ in added))
    headers = [(b"Host", _host_header(wanted)), *kept, *added, *_login(connection), (b"Connection", b"close")]
    await outside.send(h11.Request(method=request.method, target=_target(wanted, connection), headers=headers))
    sending = asyncio.ensure_future(_pass_body(inside, outside, lambda size: guest.count(connection, size, 0)))
    try:
        while True:
            event = await outside.event(ANSWER_WITHIN)
            if isinstance(event, h11.InformationalResponse):
                if event.status_code != 101:
                    await inside.send(event)
            elif isinstance(event, h11.Response):
                headers = _kept(event.headers)
                await inside.send(h11.Response(status_code=event.status_code, reason=event.reason, headers=headers))
            elif isinstance(event, h11.Data):
                guest.count(connection, 0, len(event.data))
                await inside.send(event)
            elif isinstance(event, h11.EndOfMessage):
                await inside.send(h11.EndOfMessage())
                break
            else:
                raise OSError("the connection was closed before there was an answer")
    finally:
        await asyncio.wait({sending}, timeout=LINGER)
        sending.cancel()  # an answer may come before all of a question is read
        with contextlib.suppress(asyncio.CancelledError, OSError, TimeoutError, h11.ProtocolError):
            await sending
    return inside.state.our_state is h11.DONE and inside.state.their_state is h11.DONE


async def _pass_body(inside: Peer, outside: Peer, count: Callable[[int], None]) -> None:
    while True:
        event = await inside.event(ANSWER_WITHIN)
        if isinstance(event, h11.Data):
            count(len(event.data))
            await outside.send(event)
        else:
            await outside.send(h11.EndOfMessage())
            return


class Peer:
    """A socket and what is being said on it."""

    def __init__(self, stream: Plain, state: h11.Connection) -> None:
        self.stream = stream
        self.state = state

    async def event(self, within: float) -> object:
        """The next one. OSError, TimeoutError, h11.RemoteProtocolError."""
        while (event := self.state.next_event()) is h11.NEED_DATA:
            await asyncio.sleep(0)  # sock_recv does not, where there is something: others want a turn
            async with asyncio.timeout(within):
                self.state.receive_data(await self.stream.recv(CHUNK))
        return event

    async def send(self, event: h11.Event) -> None:
        data = self.state.send(event)
        if data:
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


def _wanted(target: bytes) -> _Wanted | str:
    """Of a request to a proxy; in words what is wrong with it."""
    try:
        parts = urllib.parse.urlsplit(target.decode("ascii"))
        host, port = parts.hostname, parts.port
    except (ValueError, UnicodeDecodeError):
        return "no URL"
    if parts.scheme != "http" or not host:
        return "this is a proxy: it wants a whole URL, http://HOST/PATH, or CONNECT"
    if parts.username is not None or "\\" in parts.netloc:
        return "no user names in URLs here"
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")).encode("ascii")
    return _Wanted(host, port or 80, path if path.startswith(b"/") else b"/" + path)


def _authority(text: str) -> tuple[str, int]:
    """`("", 0)` for what is none."""
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return "", 0
        return parts.hostname or "", parts.port or 0
    except ValueError:
        return "", 0


def _host_header(wanted: _Wanted) -> bytes:
    """From the URL, which the rules have seen; what the request says itself is not looked at (RFC 9112, 3.2.2)."""
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    return (host if wanted.port == (443 if wanted.additions else 80) else f"{host}:{wanted.port}").encode("ascii")


def _target(wanted: _Wanted, connection: Connection) -> bytes:
    return b"http://" + _host_header(wanted) + wanted.target if connection.upstream else wanted.target


def _login(connection: Connection) -> list[tuple[bytes, bytes]]:
    upstream = connection.upstream
    return [(b"Proxy-Authorization", b"Basic " + upstream.credentials.encode())] if upstream and upstream.credentials else []


def _kept(headers: Iterable[tuple[bytes, bytes]], *dropped: bytes) -> list[tuple[bytes, bytes]]:
    every = list(headers)
    named = {word.strip().lower() for name, value in every if name == b"connection" for word in value.split(b",")} - _FRAMING
    return [(name, value) for name, value in every if name not in _HOP_BY_HOP and name not in named and name not in dropped]
