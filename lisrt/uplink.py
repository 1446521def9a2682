"""What programs need of this host to use its network: name servers, certificates, proxies."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from lisrt import hubs
from lisrt.egress.proxy import Proxy
from lisrt.egress.proxy import variables as proxy_variables
from lisrt.egress.trust import bundle
from lisrt.kernel.native import landlock_scopes
from lisrt.nat.policy import Nat, NetworkGroup
from lisrt.result import ExecResult
from lisrt.spawned import Spawner
from lisrt.spec import Mount
from lisrt.waiting import Flow, Offload

if TYPE_CHECKING:
    from lisrt.channel import Channel

NETWORKS = ("none", "nat", "filtered", "host")
"""Those that are asked for by name."""
NAME_SERVICE = ("/etc/resolv.conf", "/etc/hosts")
BUNDLE_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
BUNDLE = "/dev/lisrt-ca.pem"
"""Where the host's certificates are in a sandbox. Not over the image's own: its package manager replaces those by rename; and
where the place to mount them on is there already (csrc/host.c)."""
AnyNetwork = str | Proxy | Nat | NetworkGroup
_LOOPBACK = re.compile(r"(?:\w+://)?(?:[^@/]*@)?(?:localhost|127\.|\[::1\])", re.IGNORECASE)
CUT_TIMEOUT = 5.0
"""For a gateway that ends at that moment; one that lives answers at once."""
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def proxies(*, with_loopback: bool = True) -> dict[str, str]:
    """The variables that this program has, in both spellings. `with_loopback`: those, too, that lead to this host's loopback."""
    found = {name: os.environ[name] for lower in _PROXIES for name in (lower, lower.upper()) if os.environ.get(name)}
    if with_loopback:
        return found
    return {name: value for name, value in found.items() if not _LOOPBACK.match(value)}


class Uplink:
    """The network that was asked for: `kind` is one of NETWORKS, or "proxy" or "group"."""

    def __init__(self, network: AnyNetwork) -> None:
        """ValueError."""
        self.proxy = network if isinstance(network, Proxy) else None
        self.group = network if isinstance(network, NetworkGroup) else None
        self.nat = network if isinstance(network, Nat) else Nat() if network == "nat" else None
        if self.group is not None:
            self.nat = self.group.outside
        self.is_closed = False
        if isinstance(network, str):
            self.kind = network if network in NETWORKS else ""
        else:
            self.kind = "proxy" if self.proxy else "group" if self.group else "nat" if self.nat else ""
        if not self.kind:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, or a Proxy, Nat or NetworkGroup: {network!r}")

    @property
    def namespace(self) -> str:
        """What a plan needs to know of it: "none" has a network namespace of its own."""
        return self.kind if self.kind in ("host", "filtered") else "none"

    @property
    def _leads_out(self) -> bool:
        return self.kind == "host" or self.proxy is not None or self.nat is not None

    def mounts(self, given: Sequence[Mount]) -> tuple[Mount, ...]:
        """Those that a sandbox with a way out gets besides the ones that it was given."""
        if not self._leads_out:
            return ()
        wanted = {path: path for path in NAME_SERVICE if self.kind == "host" and os.path.exists(path)}
        certificates = bundle()
        if certificates:
            wanted[BUNDLE] = certificates
        return _beside(given, wanted)

    def prepare(self, home: Spawner, given: Sequence[Mount]) -> Flow[tuple[Mount, ...]]:
        """Has the hub there that it needs; returns more mounts. HostError."""
        if self.kind not in ("nat", "group"):
            return ()
        if hubs.running(home) is None:
            yield Offload(partial(hubs.current, home))
        return _beside(given, hubs.mounts(home, self.group))

    def line(self, hostname: str) -> hubs.Line | None:
        """What a sandbox is to be connected with."""
        if self.kind not in ("nat", "group"):
            return None
        return hubs.Line(self.nat or Nat(), self.group, hostname, not self.is_closed)

    def variables(self) -> Mapping[str, str]:
        """For every command of a sandbox with a way out."""
        if not self._leads_out:
            return {}
        found = proxy_variables(self.proxy) if self.proxy is not None else proxies(with_loopback=self.kind == "host")
        return {**found, **(dict.fromkeys(BUNDLE_VARIABLES, BUNDLE) if bundle() else {})}

    def change(self, network: str | Proxy | Nat, channel: Channel) -> Flow[None]:
        """Other rules from now on. ValueError, OSError."""
        if self.kind == "nat":
            yield from self._change_nat(network, channel)
            return
        guest = channel.guest
        if self.proxy is None or guest is None:
            raise ValueError("only who was made with a Proxy or with nat can be given other rules; a group's stay")
        if network != "none" and not isinstance(network, Proxy):
            raise ValueError(f'for a sandbox that was made with a Proxy these are a Proxy, or "none": {network!r}')
        if isinstance(network, Proxy) and network.cache and not self.proxy.cache:
            raise ValueError("cache=True is decided when the sandbox is made")
        from lisrt.egress import gateway

        self.proxy = network if isinstance(network, Proxy) else Proxy()
        if isinstance(network, Proxy):
            guest.most_bytes = network.most_bytes
        done = gateway.current().change(guest, self.proxy.policy())
        yield Offload(partial(wait, [done], CUT_TIMEOUT))

    def describe(self) -> str:
        """What of it is enforced, and how."""
        if self.proxy is not None:
            denied = f", but not {', '.join(self.proxy.deny)}" if self.proxy.deny else ""
            return f"loopback only; through this process's proxy: {', '.join(self.proxy.allow) or 'nothing'}{denied}"
        if self.kind == "host":
            return "NOT ISOLATED: the host's network"
        if self.kind == "filtered":
            abstract = "out of reach, by Landlock" if landlock_scopes() else "IN REACH"
            return f"WEAKER, no namespace: a filter refuses all sockets but local ones; the host's abstract ones are {abstract}"
        members = "the members of its group" if self.group is not None else ""
        if self.is_closed:
            return "closed: nothing passes"
        if self.nat is None:
            return f"loopback, and {members}" if members else "loopback only"
        but = f"; and {', '.join(self.nat.allow)}" if self.nat.allow else ""
        others = f"only {members} of all sandboxes" if members else "no other sandbox"
        limits = (f"; at most {self.nat.rate} B/s each way" if self.nat.rate else "") + (
            f"; at most {self.nat.max_bytes} B" if self.nat.max_bytes else ""
        )
        return f"ANY public address, by NAT; no private one{but}; {others}{limits}"

    def _change_nat(self, network: str | Proxy | Nat, channel: Channel) -> Flow[None]:
        if network not in ("none", "nat") and not isinstance(network, Nat):
            raise ValueError(f'for a sandbox that was made with nat these are a Nat, "nat" or "none": {network!r}')
        rules = network if isinstance(network, Nat) else Nat() if network == "nat" else None
        if channel.wire is not None:
            channel.wire.change(rules)
        self.is_closed, self.nat = rules is None, rules or self.nat
        yield Offload(lambda: None)


def _beside(given: Sequence[Mount], wanted: Mapping[str, str]) -> tuple[Mount, ...]:
    covered = {mount.target for mount in given}
    return tuple(
        _mounted(source, target)
        for target, source in wanted.items()
        if target not in covered and os.path.dirname(target) not in covered
    )


@lru_cache(maxsize=64)
def _mounted(source: str, target: str) -> Mount:
    return Mount.of_ours(source, target)


def counted(work: Flow[ExecResult], channel: Channel) -> Flow[ExecResult]:
    """With what went out and came in meanwhile, where that is known."""
    if channel.guest is None and channel.wire is None:
        return (yield from work)
    before = _sums(channel)
    result = yield from work
    after = _sums(channel)
    if before is None or after is None:
        return result
    sent, received, denied = (now - then for now, then in zip(after, before, strict=True))
    return replace(result, usage=replace(result.usage, sent=sent, received=received, denied=denied))


def _sums(channel: Channel) -> tuple[int, int, int] | None:
    """Sent, received, denied. None when its interface has gone: a result is a result all the same."""
    if channel.guest is not None:
        return channel.guest.journal.sums()
    assert channel.wire is not None, "one of the two is there"
    try:
        return *channel.wire.counts(), 0
    except OSError:
        return None
