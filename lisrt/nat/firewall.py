"""What may pass through a hub: as messages of nf_tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lisrt.kernel import nftables
from lisrt.nat.policy import Nat
from lisrt.nat.subnets import NAMES, RANGE

UPLINK = "up0"
CLOSED = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    str(RANGE),
)  # fmt: skip
"""Addresses of no use on the internet: IANA's special-purpose registry; and Azure's metadata service."""
_TCP, _UDP = 6, 17
_CLOSED_FOR_ONE, _USED_UP = "closed", "used-up"
_CROWD = "crowd"
MOST_FLOWS = 256
"""Connections of one sandbox at once, those of UDP too: the uplink has a descriptor for each, and one for all sandboxes."""
_OPEN, _METERED = "open", "metered"
"""Maps from sandboxes to chains of their own."""


def base(resolver: str, own: Iterable[str], proxies: Iterable[tuple[str, int]]) -> Iterator[bytes]:
    """The table as it is before there are sandboxes: nothing passes but what came by a bridge and leaves by the uplink.

    `resolver`: where the uplink answers questions for names. `own`: this host's addresses. `proxies`: the ones that this host
    uses, which may be reached wherever they are.
    """
    yield nftables.table()
    yield nftables.verdict_map(_OPEN, 1)
    yield nftables.verdict_map(_METERED, 2)
    yield nftables.hooked("input", "filter", nftables.INPUT, 0, nftables.DROP)
    yield nftables.hooked("forward", "filter", nftables.FORWARD, 0, nftables.DROP)
    yield nftables.hooked("names", "nat", nftables.PREROUTING, -100)
    yield nftables.hooked("leave", "nat", nftables.POSTROUTING, 100)
    yield nftables.chain("outside")
    yield nftables.chain(_CROWD)
    yield nftables.chain(_CLOSED_FOR_ONE)
    yield nftables.rule(_CLOSED_FOR_ONE, *nftables.of_protocol(_TCP), nftables.reset())
    yield nftables.rule(_CLOSED_FOR_ONE, nftables.refuse())
    accept = nftables.verdict(nftables.ACCEPT)
    yield nftables.chain(_USED_UP)
    # answers still come, as many as are on their way: who only receives would never be told. The acknowledgement gets a reset
    answers = (*nftables.of_protocol(_TCP), *nftables.belongs(), *nftables.answers())
    yield nftables.rule(_USED_UP, *answers, accept)
    yield nftables.rule(_USED_UP, nftables.jump(_CLOSED_FOR_ONE))
    # before anything is let through because it belongs to something
    yield nftables.rule("forward", *nftables.by_source(_METERED))
    yield nftables.rule("forward", *nftables.by_destination(_METERED))
    # the other direction is looked at packet by packet: rules may change, and hold for what there is
    yield nftables.rule("forward", *nftables.belongs(), *nftables.answers(), accept)
    for bridges in ("n*", "h*"):
        through = (*nftables.comes_in(bridges), *nftables.goes_out(UPLINK))
        yield nftables.rule("forward", *through, nftables.jump("outside"))
        # where the uplink has ended: without a route the kernel would tell a sandbox so five times, and then once a second
        nowhere = (*nftables.comes_in(bridges), *nftables.goes_out("lo"))
        yield nftables.rule("forward", *nowhere, nftables.refuse())
    for protocol in (_TCP, _UDP):
        yield nftables.rule("names", *nftables.goes_to(NAMES), *nftables.to_port(53, protocol), *nftables.redirect(resolver))
        yield nftables.rule("outside", *nftables.goes_to(resolver), *nftables.to_port(53, protocol), accept)
    yield nftables.rule("outside", nftables.jump(_CROWD))
    yield nftables.rule("outside", *nftables.by_source(_OPEN))
    for address, port in proxies:
        yield nftables.rule("outside", *nftables.goes_to(address), *nftables.to_port(port, _TCP), accept)
    for network in (*own, *CLOSED):
        yield nftables.rule("outside", *nftables.goes_to(network), nftables.refuse())
    yield nftables.rule("outside", accept)
    yield nftables.rule("leave", *nftables.goes_out(UPLINK), nftables.masquerade())


def crowd() -> Iterator[bytes]:
    """The limit on connections; apart, because some kernels lack it."""
    yield nftables.senders("flows", 3)
    yield nftables.rule(_CROWD, *nftables.has_more_than(MOST_FLOWS, "flows"), nftables.refuse())


def between(bridge: str) -> bytes:
    """Members of a group, where the kernel shows packets to us that stay on one bridge (br_netfilter)."""
    through = (*nftables.comes_in(bridge), *nftables.goes_out(bridge))
    return nftables.rule("forward", *through, nftables.verdict(nftables.ACCEPT))


def admit(address: str, nat: Nat | None) -> Iterator[bytes]:
    """What that sandbox has of its own; often nothing. None: it is closed."""
    if nat is None:
        yield nftables.element(_METERED, address, _CLOSED_FOR_ONE)
        return
    if nat.allow:
        chain = f"open-{address}"
        yield nftables.chain(chain)
        for network in nat.allow:
            yield nftables.rule(chain, *nftables.goes_to(network), nftables.verdict(nftables.ACCEPT))
        yield nftables.element(_OPEN, address, chain)
    if nat.max_bytes is not None:
        chain = f"metered-{address}"
        limit = int(nat.max_bytes)
        yield nftables.chain(chain)
        yield nftables.rule(chain, nftables.used_up(limit), nftables.jump(_USED_UP))
        yield nftables.element(_METERED, address, chain)


def dismiss(address: str, nat: Nat | None) -> Iterator[bytes]:
    """It has none of that any more."""
    if nat is None:
        yield nftables.element(_METERED, address, "", gone=True)
        return
    if nat.allow:
        yield nftables.element(_OPEN, address, "", gone=True)
        yield nftables.delete_chain(f"open-{address}")
    if nat.max_bytes is not None:
        yield nftables.element(_METERED, address, "", gone=True)
        yield nftables.delete_chain(f"metered-{address}")
