"""`Nat` and `NetworkGroup`: networks of addresses and packets."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from lisrt.limits import size


@dataclass(frozen=True, slots=True)
class Nat:
    """A way out for all programs of a sandbox, whatever they speak: TCP, UDP, names. IPv4; what arrives comes from this host.

    Other sandboxes, this host and private, link-local and reserved addresses are out of reach. By what name a program asks for an
    address nobody sees: for lists of names there is Proxy.

    Args:
        allow: addresses and ranges of them that may be reached all the same: `["10.1.2.3", "192.168.7.0/24"]`. Never the host's
            loopback, and no other sandbox.
        rate: bytes per second that it may send, and that it may receive: a number, or `"10MB"`; at first 128 KiB, or a 50th,
            at once. Can't be changed while the sandbox lives. None: no limit.
        max_bytes: that may pass in both directions together, headers of packets counted, for the life of the sandbox; then its
            connections are reset and nothing passes any more. A number, or `"1GB"`. None: no limit.

    Raises ValueError and TypeError for what is no address and no size.
    """

    allow: Sequence[str] = ()
    rate: int | str | None = None
    max_bytes: int | str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.allow, str):
            raise TypeError("allow is a list: allow=['10.1.2.3']")
        object.__setattr__(self, "allow", tuple(str(_range(one)) for one in self.allow))
        for name in ("rate", "max_bytes"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, size(given, what=name))
                if not 0 < getattr(self, name) < _MOST[name]:
                    raise ValueError(f"{name} is above 0 and below {_MOST[name]}, or None: {given!r}")


def _range(one: str) -> IPv4Network:
    try:
        found = ip_network(one)
    except ValueError:
        raise ValueError(f"allow takes addresses and ranges, without ports; for names there is Proxy: {one!r}") from None
    if not isinstance(found, IPv4Network):
        raise ValueError(f"nat is of IPv4: {one!r}")
    if found.overlaps(LOOPBACK):
        raise ValueError(f"the host's loopback can't be reached by nat: {one!r}; Proxy can allow it")
    return found


_MOST = {"rate": 1 << 32, "max_bytes": 1 << 63}
"""What the kernel has numbers for."""
LOOPBACK = IPv4Network("127.0.0.0/8")
DEFAULT = Nat()


class NetworkGroup:
    """A network that some sandboxes have together: `Sandbox(network=group)`. They reach each other by their host names, or by
    address, on every port; nobody else reaches them.

        net = NetworkGroup()
        with Sandbox(network=net, hostname="server") as server, Sandbox(network=net) as client:
            server.sh("python3 -m http.server 8000 >/dev/null 2>&1 &")
            client.sh("curl --retry 9 --retry-connrefused http://server:8000/")

    Members are of one process, with the same launcher and idmap; 61 at most. A name that several have leads to the one that came
    first. What is forked from a member is one, with the same name. It ends when nobody refers to it any more.
    """

    def __init__(self, outside: Nat | None = None) -> None:
        """`outside`: the way out that its members have besides; None: none."""
        if outside is not None and not isinstance(outside, Nat):
            raise TypeError(f"outside is a Nat or None, not {type(outside).__name__}")
        self.outside = outside
        self.lock = threading.Lock()
        self.place: object | None = None
        """What the hub that it is on keeps of it."""
