"""Which addresses sandboxes get, and on which bridge."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Network

RANGE = IPv4Network("198.18.0.0/15")
"""For tests of network devices (RFC 2544): nobody's network, so that none of a user's own is hidden by it."""
NAMES = "198.19.255.253"
"""Where sandboxes send questions for names; the last subnet of groups is nobody's."""
PORTS = 1000
"""Of a bridge that the kernel gives 1,023 at most: those of sandboxes that have ended go a little later."""
_PARTS = {"n": (IPv4Network("198.18.0.0/16"), 22), "g": (IPv4Network("198.19.0.0/16"), 26)}
"""By kind: of sandboxes that reach none of each other, and of groups."""
_FIRST_BRIDGE = 500_000


@dataclass(eq=False)
class Subnet:
    """A bridge, and the addresses on it. The kinds: "n" as in nat, "g" is a group's, and "h" that of one with a way out."""

    kind: str
    number: int
    network: IPv4Network
    free: deque[str] = field(default_factory=deque)
    used: int = 0

    def __post_init__(self) -> None:
        self.free.extend(str(self.network[host]) for host in range(2, self.network.num_addresses - 1))

    @property
    def name(self) -> str:
        """Its bridge's."""
        return f"{self.kind}{self.number}"

    @property
    def index(self) -> int:
        """Its bridge's number."""
        return _FIRST_BRIDGE + self.number + (0 if self.kind == "n" else 1 << 16)

    @property
    def gateway(self) -> str:
        """The bridge's own address."""
        return str(self.network[1])

    @property
    def is_full(self) -> bool:
        """Whether its bridge takes no more."""
        return self.used >= PORTS or not self.free

    def take(self) -> str:
        """The address that has been free for longest: what was left of who had it has gone by then. OSError."""
        if self.is_full:
            raise OSError(errno.EXFULL, f"a network of this kind has {self.used} members at most")
        self.used += 1
        return self.free.popleft()

    def give_back(self, address: str) -> None:
        """Nobody has it any more."""
        self.used -= 1
        self.free.append(address)


@dataclass
class Subnets:
    """All of a hub's. Call it with the hub's lock held."""

    made: list[Subnet] = field(default_factory=list)
    spare: list[Subnet] = field(default_factory=list)
    """Of groups that have ended; their bridges are there."""

    def with_room(self) -> Subnet | None:
        """One of sandboxes that reach none of each other, if there is one."""
        return next((one for one in reversed(self.made) if one.kind == "n" and not one.is_full), None)

    def new(self, kind: str) -> Subnet:
        """One whose bridge is not made yet. OSError when there is none left."""
        network, bits = _PARTS["n" if kind == "n" else "g"]
        number = sum((one.kind == "n") == (kind == "n") for one in self.made)
        if number >= 2 ** (bits - network.prefixlen) - 1:
            raise OSError(errno.EADDRNOTAVAIL, "all addresses for networks of this kind are in use")
        step = 1 << (32 - bits)
        made = Subnet(kind, number, IPv4Network((int(network.network_address) + number * step, bits)))
        self.made.append(made)
        return made
