"""From a host that is asked for to a connection with it: what may be dialled is decided here, and dialled as decided."""

from __future__ import annotations

import asyncio
import base64
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass

from lisrt.egress.names import Resolver
from lisrt.egress.rules import Address, Policy, Verdict, literal, normal

WITHIN = 15.0
"""Seconds for one address."""
MOST_TRIED = 4
_MOST_ANSWER = 16 << 10


class Refused(Exception):
    """Not by the rules."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.why)
        self.verdict = verdict


class Unreachable(Exception):
    """Allowed, and not to be had. `late`: nobody has answered."""

    def __init__(self, why: str, *, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


@dataclass(frozen=True, slots=True)
class Upstream:
    """A proxy between this host and the internet: the site's own."""

    host: str
    port: int
    credentials: str
    """Of Basic authentication, encoded; "" for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """`upstream`: the proxy that it ends at, when requests have to be in a proxy's form."""

    sock: socket.socket
    verdict: Verdict
    upstream: Upstream | None = None
    address: Address | None = None
    """Where it ends; None at a proxy of the site's, or here."""


class Dialler:
    """For one event loop."""

    def __init__(self) -> None:
        self._resolver = Resolver()

    async def dial(self, policy: Policy, host: str, port: int, method: str | None, *, tunnel: bool) -> Connection:
        """A connection to a host. `tunnel`: bytes are all that goes through it, be there a proxy of the site's or not.

        Raises Refused, Unreachable.
        """
        verdict = policy.of_host(host, port, method)
        if not verdict.allowed:
            raise Refused(verdict)
        upstream = upstream_of("https" if tunnel else "http", host)
        if upstream is not None:
            return await self._through(upstream, verdict, host, port, tunnel)
        last = Unreachable(f"{host} has no address")
        found, refused = await self._allowed(policy, host, port, method, verdict)
        for address, allowed in found:
            try:
                return Connection(await connect(address, port), allowed, address=address)
            except Unreachable as error:
                last = error
        if refused is not None:
            raise Refused(refused)
        raise last

    async def check(self, policy: Policy, host: str, port: int, method: str | None, *, tunnel: bool) -> Verdict:
        """What lets a host be dialled, without doing so. Refused, Unreachable where the name has no address."""
        verdict = policy.of_host(host, port, method)
        if not verdict.allowed:
            raise Refused(verdict)
        if upstream_of("https" if tunnel else "http", host) is not None:
            return verdict
        found, refused = await self._allowed(policy, host, port, method, verdict)
        if found:
            return found[0][1]
        if refused is not None:
            raise Refused(refused)
        raise Unreachable(f"{host} has no address")

    async def _allowed(
        self, policy: Policy, host: str, port: int, method: str | None, verdict: Verdict
    ) -> tuple[list[tuple[Address, Verdict]], Verdict | None]:
        """The addresses of a host that may be dialled, and what the last one was refused for."""
        found, refused = [], None
        for address in (await self._addresses(host))[:MOST_TRIED]:
            allowed = _of(policy, address, host, port, method, verdict)
            if allowed.allowed:
                found.append((address, allowed))
            else:
                refused = allowed
        return found, refused

    async def _addresses(self, host: str) -> list[Address]:
        address = literal(host)
        if address is not None:
            return [address]
        try:
            return await self._resolver.addresses(normal(host))
        except OSError as error:
            raise Unreachable(str(error)) from None

    async def _through(self, upstream: Upstream, verdict: Verdict, host: str, port: int, tunnel: bool) -> Connection:
        """By way of the site's proxy, which looks names up itself: there is no address to be checked here."""
        last = Unreachable(f"the proxy {upstream.host} has no address")
        for address in await self._addresses(upstream.host):
            try:
                sock = await connect(address, upstream.port)
            except Unreachable as error:
                last = error
                continue
            if tunnel:
                try:
                    await _ask_for_tunnel(sock, upstream, host, port)
                except BaseException:
                    sock.close()
                    raise
            return Connection(sock, verdict, None if tunnel else upstream)
        raise last

    def close(self) -> None:
        self._resolver.close()


def still_allowed(policy: Policy, connection: Connection, host: str, port: int, method: str | None) -> bool:
    """Whether it could be made by these rules."""
    verdict = policy.of_host(host, port, method)
    if connection.address is None or not verdict.allowed:
        return verdict.allowed
    return _of(policy, connection.address, host, port, method, verdict).allowed


def _of(policy: Policy, address: Address, host: str, port: int, method: str | None, verdict: Verdict) -> Verdict:
    """Of one address of a host; `verdict`: the host's own."""
    found = policy.of_address(address, port, method, by_name=None if literal(host) else verdict)
    if found.allowed and not found.by_address and is_own(address):
        return Verdict(False, "", f"{address} is this host itself, and no rule allows it")
    return found


async def connect(address: Address, port: int) -> socket.socket:
    """To one address. Unreachable."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(WITHIN):
            await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        return sock
    except TimeoutError:
        sock.close()
        raise Unreachable(f"{address}:{port} has not answered within {WITHIN:.0f} s", late=True) from None
    except OSError as error:
        sock.close()
        raise Unreachable(f"{address}:{port}: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise


def is_own(address: Address) -> bool:
    """Whether this host has the address: what listens there listens to its users, not to the internet."""
    try:
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))  # the kernel lets nobody have another host's
        return True
    except OSError:
        return False


def upstream_of(scheme: str, host: str) -> Upstream | None:
    """The proxy that this host's own programs would use for it: http_proxy, https_proxy, no_proxy."""
    known = urllib.request.getproxies_environment()
    if not known.get(scheme) or urllib.request.proxy_bypass(host):
        return None
    url = known[scheme]
    parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
    if not parts.hostname:
        return None
    login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}" if parts.username else ""
    return Upstream(parts.hostname, parts.port or 80, base64.b64encode(login.encode()).decode() if login else "")


async def _ask_for_tunnel(sock: socket.socket, upstream: Upstream, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = f"Proxy-Authorization: Basic {upstream.credentials}\r\n" if upstream.credentials else ""
    answer = b""
    try:
        async with asyncio.timeout(2 * WITHIN):
            await loop.sock_sendall(sock, f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{login}\r\n".encode())
            while b"\r\n\r\n" not in answer:  # one at a time: what follows is the host's
                byte = await loop.sock_recv(sock, 1)
                answer += byte
                if not byte or len(answer) > _MOST_ANSWER:
                    raise Unreachable(f"the proxy {upstream.host}:{upstream.port} has closed the connection")
    except TimeoutError:
        raise Unreachable(f"the proxy {upstream.host}:{upstream.port} has not answered", late=True) from None
    except OSError as error:
        raise Unreachable(f"the proxy {upstream.host}:{upstream.port}: {error.strerror or error}") from None
    status = answer.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status) < 2 or not status[1].startswith(b"2"):
        said = answer.split(b"\r\n", 1)[0].decode(errors="replace")[:200]
        raise Unreachable(f"the proxy {upstream.host}:{upstream.port} says: {said}")
