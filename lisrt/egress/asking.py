"""What a request to the proxy is for, and how the host itself is then asked."""

from __future__ import annotations

import asyncio
import urllib.parse
from dataclasses import dataclass, replace
from functools import partial

import h11

from lisrt.egress.dial import Connection
from lisrt.egress.guest import Guest
from lisrt.egress.peer import HEAD_WITHIN, MOST_HEAD, Peer
from lisrt.egress.secured import Plain, Secured
from lisrt.egress.trust import bundle as trusted


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request is for."""

    host: str
    port: int
    target: bytes
    """As the host itself is asked: the path and what follows."""
    secured: bool = False
    """It leaves this host by TLS, though it has come in plain HTTP."""
    added: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that the program does not know."""

    @property
    def authority(self) -> str:
        """As in a URL, without the port that is its scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secured else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """All of it."""
        return f"{'https' if self.secured else 'http'}://{self.authority}{self.target.decode('ascii')}"


def wanted(target: bytes, guest: Guest) -> Wanted | str:
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
    return _aimed(Wanted(host, port or 80, path if path.startswith(b"/") else b"/" + path), guest)


def _aimed(plain: Wanted, guest: Guest) -> Wanted:
    name = plain.host.removesuffix(".")
    additions = guest.policy.additions.get(name) if plain.port == 80 else None
    if additions is not None:
        return replace(plain, port=additions.port, secured=True, added=additions.headers)
    port = guest.registries.secured.get((name, plain.port)) if guest.registries else None
    return plain if port is None else replace(plain, host=name, port=port, secured=True)


async def outside(connection: Connection, asked: Wanted, guest: Guest | None = None) -> Peer:
    """The host, ready to be asked; for that guest, if it is for one. OSError, TimeoutError."""
    stream = Plain(connection.sock)
    if asked.secured:
        stream = secured = Secured(connection.sock, asked.host, trusted())
        async with asyncio.timeout(HEAD_WITHIN):
            await secured.handshake()
    state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
    return Peer(stream, state) if guest is None else Peer(stream, state, partial(guest.count, connection))


def request(method: bytes, asked: Wanted, connection: Connection, headers: list[tuple[bytes, bytes]]) -> h11.Request:
    """In the form that the other end of the connection wants. Host is from the URL, which the rules have seen; what the request
    says itself is not looked at (RFC 9112, 3.2.2)."""
    upstream = connection.upstream
    authority = asked.authority.encode("ascii")
    target = b"http://" + authority + asked.target if upstream else asked.target
    login = [(b"Proxy-Authorization", b"Basic " + upstream.credentials.encode())] if upstream and upstream.credentials else []
    return h11.Request(
        method=method, target=target, headers=[(b"Host", authority), *headers, *asked.added, *login, (b"Connection", b"close")]
    )
