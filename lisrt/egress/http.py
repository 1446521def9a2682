"""A proxy's half of HTTP/1.1: requests for `http:` hosts are passed on one by one, tunnels for all else. By h11."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.parse
from collections.abc import Iterable
from functools import partial

import h11

from lisrt.egress import asking, cached
from lisrt.egress.asking import Wanted
from lisrt.egress.dial import Connection, Refused, Unreachable
from lisrt.egress.guest import Guest, Spent
from lisrt.egress.peer import ANSWER_WITHIN, HEAD_WITHIN, LINGER, MOST_HEAD, Peer
from lisrt.egress.registries import Links
from lisrt.egress.secured import Plain

# RFC 9110, 7.6.1: of one connection each. Whoever was named by Connection goes with them.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer upgrade".split()
)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


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
        if not await _forward(client, inside, request, guest):
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


async def _forward(client: socket.socket, inside: Peer, request: h11.Request, guest: Guest) -> bool:
    """One request and its answer. Whether another one may follow."""
    wanted = asking.wanted(request.target, guest)
    if isinstance(wanted, str):
        await inside.answer(400, wanted)
        return False
    method = request.method.decode("ascii", "replace")
    try:
        done = await cached.serve(client, inside, request, wanted, guest)
        if done is not None:
            return done
        connection = await guest.dial(wanted.host, wanted.port, method, tunnel=wanted.secured)
    except Refused as error:
        await inside.answer(403, f"lisrt: {error}")
        return False
    except Unreachable as error:
        await inside.answer(504 if error.late else 502, f"lisrt: {error}")
        return False
    with connection.sock:
        try:
            outside = await asking.outside(connection, wanted, guest)
            return await _exchange(inside, outside, request, wanted, connection, guest)
        except (h11.ProtocolError, OSError, TimeoutError, Spent) as error:
            guest.failed(connection, str(error) or type(error).__name__)
            if inside.state.our_state is h11.SEND_RESPONSE:
                await inside.answer(502, f"lisrt: {wanted.host}: {error}")
            return False
        finally:
            guest.ended(connection)


async def _exchange(
    inside: Peer, outside: Peer, request: h11.Request, wanted: Wanted, connection: Connection, guest: Guest
) -> bool:
    headers = _kept(request.headers, b"host", *(name.lower() for name, _ in wanted.added))
    if _is_index(wanted, request, guest):  # its text is read here
        headers = [*_kept(headers, b"accept-encoding"), (b"Accept-Encoding", b"identity")]
    await outside.send(asking.request(request.method, wanted, connection, headers))
    sending = asyncio.ensure_future(_pass_body(inside, outside))
    sending.add_done_callback(partial(_end_what_is_spent, connection))
    links: Links | None = None
    try:
        while True:
            event = await outside.event(ANSWER_WITHIN)
            if isinstance(event, h11.InformationalResponse):
                if event.status_code != 101:
                    await inside.send(event)
            elif isinstance(event, h11.Response):
                links = _links(wanted, request, event, guest)
                headers = _kept(event.headers, *((b"content-length", b"accept-ranges") if links else ()))
                headers = [(name, _led(value, guest) if name == b"location" else value) for name, value in headers]
                await inside.send(h11.Response(status_code=event.status_code, reason=event.reason, headers=headers))
            elif isinstance(event, h11.Data):
                await inside.send(h11.Data(data=links.feed(event.data)) if links else event)
            elif isinstance(event, h11.EndOfMessage):
                if links:
                    await inside.send(h11.Data(data=links.end()))
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


def _is_index(wanted: Wanted, request: h11.Request, guest: Guest) -> bool:
    registries, path = guest.registries, wanted.target.decode("ascii")
    return registries is not None and request.method == b"GET" and registries.is_index(wanted.host, wanted.port, path)


def _links(wanted: Wanted, request: h11.Request, answer: h11.Response, guest: Guest) -> Links | None:
    """What leads the links of a page through the proxy, where it is one that has some."""
    said = dict(answer.headers)
    if guest.registries is None or not _is_index(wanted, request, guest) or answer.status_code != 200:
        return None
    if said.get(b"content-encoding", b"identity").lower() != b"identity":
        return None  # not as it was asked for: its links will lead through tunnels
    return guest.registries.links(said.get(b"content-type", b"").decode("latin-1"))


def _led(url: bytes, guest: Guest) -> bytes:
    """Where a host sends programs on to."""
    links = guest.registries.links("text/html") if guest.registries else None
    return (links.feed(url + b"/") + links.end())[:-1] if links else url


def _end_what_is_spent(connection: Connection, sending: asyncio.Task[None]) -> None:
    """Else the host would wait for the rest of a question, and we for its answer."""
    if not sending.cancelled() and isinstance(sending.exception(), Spent):
        with contextlib.suppress(OSError):  # it has gone by itself
            connection.sock.shutdown(socket.SHUT_RDWR)


async def _pass_body(inside: Peer, outside: Peer) -> None:
    while True:
        event = await inside.event(ANSWER_WITHIN)
        if isinstance(event, h11.Data):
            await outside.send(event)
        else:
            await outside.send(h11.EndOfMessage())
            return


def _authority(text: str) -> tuple[str, int]:
    """`("", 0)` for what is none."""
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return "", 0
        return parts.hostname or "", parts.port or 0
    except ValueError:
        return "", 0


def _kept(headers: Iterable[tuple[bytes, bytes]], *dropped: bytes) -> list[tuple[bytes, bytes]]:
    every = list(headers)
    named = {word.strip().lower() for name, value in every if name == b"connection" for word in value.split(b",")} - _FRAMING
    return [(name, value) for name, value in every if name not in _HOP_BY_HOP and name not in named and name not in dropped]
