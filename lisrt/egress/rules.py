"""Rules: which hosts may be reached, by name or address. Pure: nothing is looked up in here.

    example.org             ports 80 and 443 of that name alone
    *.example.org:8443      one port of every name below it
    *:*                     every name, every port
    10.0.0.0/8, [fd00::]/8  addresses; without such a rule none but public ones are ever reached
    GET,HEAD example.org    what may be done, where that can be seen: not inside TLS
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

USUAL_PORTS = (80, 443)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_METHOD = re.compile(r"[A-Z]+(,[A-Z]+)*")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# A virtual machine's host answers there with its settings and keys, and the address is a public one (Azure).
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `text` is how it was written."""

    text: str
    name: str
    """"" for a rule about addresses; `*` for every name; `.example.org` for all names below that; else one name."""
    network: Network | None
    ports: tuple[int, ...]
    """Empty for all."""
    methods: tuple[str, ...]
    """Empty for all."""

    def _fits(self, port: int, method: str | None) -> bool:
        if self.ports and port not in self.ports:
            return False
        return not self.methods or (method is not None and method in self.methods)

    def fits_name(self, name: str, port: int, method: str | None) -> bool:
        """`method` is None where it can't be seen."""
        if not self.name or not self._fits(port, method):
            return False
        return self.name == "*" or (name.endswith(self.name) if self.name[0] == "." else name == self.name)

    def fits_address(self, address: Address, port: int, method: str | None) -> bool:
        """Whatever name it goes by."""
        network = self.network
        return network is not None and address.version == network.version and address in network and self._fits(port, method)


def parse(text: str) -> Rule:
    """ValueError for what is no rule."""
    if not isinstance(text, str):
        raise TypeError(f"a rule is text, such as '*.example.org:443', not {type(text).__name__}")
    words = text.split()
    methods: tuple[str, ...] = ()
    if len(words) == 2 and _METHOD.fullmatch(words[0]):
        methods = tuple(words.pop(0).split(","))
    if len(words) != 1:
        raise _wrong(text, "it has the form [METHOD,... ]HOST[:PORT]")
    host, port = _split(text, words[0])
    network = _network(text, host)
    return Rule(text, "" if network else _pattern(text, host), network, _ports(text, port), methods)


def _split(text: str, word: str) -> tuple[str, str]:
    if word.startswith("["):  # [::1]:80, [fd00::]/8
        inner, bracket, rest = word[1:].partition("]")
        length, colon, port = rest.partition(":")
        if not bracket or (length and not length.startswith("/")):
            raise _wrong(text, "an IPv6 address stands in brackets: [fd00::]/8:443")
        return inner + length, port if colon else ""
    if word.count(":") > 1:
        raise _wrong(text, "an IPv6 address stands in brackets: [fd00::]/8:443")
    host, colon, port = word.partition(":")
    if colon and not port:
        raise _wrong(text, "no port comes after its colon")
    return host, port


def _ports(text: str, port: str) -> tuple[int, ...]:
    if port in ("", "*"):
        return USUAL_PORTS if not port else ()
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _wrong(text, f"{port!r} is no port: a number, or *")
    return (int(port),)


def _network(text: str, host: str) -> Network | None:
    try:
        return ipaddress.ip_network(host)
    except ValueError as error:
        if "/" in host or ":" in host:
            raise _wrong(text, str(error)) from None
    if literal(host):
        raise _wrong(text, "an address is written as four decimal numbers")
    return None


def _pattern(text: str, host: str) -> str:
    if host == "*":
        return host
    below = host.startswith("*.")
    try:
        name = normal(host[2:] if below else host)
    except ValueError as error:
        raise _wrong(text, f"{error}; a `*` stands for all of the name, or for its beginning: *.example.org") from None
    return f".{name}" if below else name


def _wrong(text: str, why: str) -> ValueError:
    return ValueError(f"{text!r} is no rule: {why}")


def normal(name: str) -> str:
    """A name as rules have it: lower case, ASCII, no dot at its end. ValueError for what is no host's name."""
    bare = name.removesuffix(".")
    try:
        made = bare if bare.isascii() else bare.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{name[:100]!r} is no host's name") from None
    made = made.lower()
    if not made or len(made) > 253 or not all(_LABEL.fullmatch(label) for label in made.split(".")):
        raise ValueError(f"{name[:100]!r} is no host's name")
    return made


def literal(host: str) -> Address | None:
    """The address that a host is written as, in any way that some program understands: 127.1, 0x7f000001, 017700000001.

    None for a name.
    """
    bare = host.removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare)) if bare.isascii() and bare and not bare[-1:].isspace() else None
    except (OSError, ValueError):
        return None


def unwrapped(address: Address) -> list[Address]:
    """An address and those of IPv4 that it carries: mapped, by NAT64, 6to4 and Teredo. Each must be allowed."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        carried = [address.ipv4_mapped, address.sixtofour, *(teredo or ())]
        if address in _NAT64 or int(address) >> 32 == 0:  # the latter: IPv4-compatible, which nobody uses any more
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        found += [one for one in carried if one is not None]
    return found


def is_public(address: Address) -> bool:
    """A host on the internet: not this host, its network, a private one, a group of hosts, or a cloud's metadata."""
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False  # fec0::/10, global for some Pythons
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule`: the text of the rule that has decided; "" for the default, which is to deny. `why`: in words."""

    allowed: bool
    rule: str
    why: str
    by_address: bool = False
    """The rule is one about addresses, and means this one."""


@dataclass(frozen=True, slots=True)
class Additions:
    """Headers that requests for a host get, which the programs that send them don't know. They go there by TLS alone."""

    port: int
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]+")
_NEVER_ADDED = frozenset(("host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"))


def additions(headers: Mapping[str, Mapping[str, str]]) -> dict[str, Additions]:
    """By host's name. ValueError for what is no host, or no header; a value is never in its words."""
    found = {}
    if not all(isinstance(added, Mapping) for added in headers.values()):
        raise TypeError('headers are by host: headers={"api.example.org": {"Authorization": "Bearer ..."}}')
    for where, added in headers.items():
        rule = parse(where)
        if rule.network or rule.name[0] in "*." or rule.methods:
            raise ValueError(f"headers are for one host by name, not for {where!r}")
        for name, value in added.items():
            if not _TOKEN.fullmatch(name) or name.lower() in _NEVER_ADDED or name.lower().startswith("proxy-"):
                raise ValueError(f"{name!r} can't be added to requests for {where}")
            if not _VALUE.fullmatch(value) or value != value.strip():
                raise ValueError(f"the value of {name} for {where} has characters that no header may have")
        pairs = tuple((name.encode(), value.encode()) for name, value in added.items())
        found[rule.name] = Additions(rule.ports[0] if len(rule.ports) == 1 else 443, pairs)
    return found


class Policy:
    """Rules that are asked together. What is in `deny` goes before what is in `allow`, and that before the default: no."""

    def __init__(
        self, allow: Iterable[str], deny: Iterable[str] = (), headers: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """ValueError, TypeError for what is no rule."""
        self.additions = additions(headers or {})
        self.allow = tuple(map(parse, _texts(allow)))
        self.deny = tuple(map(parse, _texts(deny)))

    def of_host(self, host: str, port: int, method: str | None) -> Verdict:
        """Whether a host may be asked for, by how it is written. Its addresses are asked for next, with `of_address`."""
        address = literal(host)
        if address is not None:
            return self.of_address(address, port, method, by_name=None)
        try:
            name = normal(host)
        except ValueError as error:
            return Verdict(False, "", str(error))
        return self._first(lambda rule: rule.fits_name(name, port, method), f"{name}:{port}")

    def of_address(self, address: Address, port: int, method: str | None, *, by_name: Verdict | None) -> Verdict:
        """Whether an address may be dialled. `by_name`: what was said of the name that it belongs to, None for a literal.

        A public one of an allowed name may; any other one, and one that carries another one, only by a rule about addresses.
        """
        found = Verdict(False, "", "")
        for one in unwrapped(address):
            found = self._first(partial(Rule.fits_address, address=one, port=port, method=method), f"{one}:{port}")
            if found.allowed:
                continue
            if found.rule or by_name is None:
                return found
            if not is_public(one):
                return Verdict(False, "", f"{one} is no public address, and no rule allows it")
        return replace(found, by_address=True) if found.allowed else by_name or found

    def _first(self, fits: Callable[[Rule], bool], what: str) -> Verdict:
        for rule in self.deny:
            if fits(rule):
                return Verdict(False, rule.text, f"rule {rule.text!r} denies {what}")
        for rule in self.allow:
            if fits(rule):
                return Verdict(True, rule.text, f"rule {rule.text!r} allows {what}")
        return Verdict(False, "", f"no rule allows {what}")


def _texts(rules: Iterable[str]) -> Iterable[str]:
    if isinstance(rules, str):
        raise TypeError(f"rules are a list of texts, not one: [{rules!r}]")
    return rules
