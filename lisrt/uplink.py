"""What programs need of this host to use its network: name servers, certificates, proxies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lisrt.egress.proxy import Proxy
from lisrt.egress.proxy import variables as proxy_variables
from lisrt.egress.trust import bundle
from lisrt.plan import NETWORKS
from lisrt.result import ExecResult
from lisrt.spec import Mount
from lisrt.waiting import Flow, Offload

if TYPE_CHECKING:
    from lisrt.egress.guest import Guest

NAME_SERVICE = ("/etc/resolv.conf", "/etc/hosts")
BUNDLE_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
BUNDLE = "/run/lisrt/ca.pem"
"""Where the host's certificates are in a sandbox. Not over the image's own: its package manager replaces those by rename."""
CUT_TIMEOUT = 5.0
"""For a gateway that ends at that moment; one that lives answers at once."""
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def proxies() -> dict[str, str]:
    """The variables that this program has, in both spellings."""
    return {name: os.environ[name] for lower in _PROXIES for name in (lower, lower.upper()) if os.environ.get(name)}


class Uplink:
    """The network that was asked for: `kind` is what a plan needs to know of it, one of NETWORKS."""

    def __init__(self, network: str | Proxy) -> None:
        """ValueError."""
        if not isinstance(network, Proxy) and network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, or a Proxy: {network!r}")
        self.kind = "none" if isinstance(network, Proxy) else network
        self.proxy = network if isinstance(network, Proxy) else None

    def mounts(self, given: Sequence[Mount]) -> tuple[Mount, ...]:
        """Those that a sandbox with a way out gets besides the ones that it was given."""
        covered = {mount.target for mount in given}
        wanted = {path: path for path in NAME_SERVICE if self.kind == "host" and os.path.exists(path)}
        certificates = bundle() if self.kind == "host" or self.proxy else None
        if certificates:
            wanted[BUNDLE] = certificates
        return tuple(
            Mount(source, target)
            for target, source in wanted.items()
            if target not in covered and os.path.dirname(target) not in covered
        )

    def variables(self) -> Mapping[str, str]:
        """For every command of a sandbox with a way out."""
        if self.kind != "host" and self.proxy is None:
            return {}
        found = proxies() if self.kind == "host" else proxy_variables()
        return {**found, **(dict.fromkeys(BUNDLE_VARIABLES, BUNDLE) if bundle() else {})}

    def change(self, network: str | Proxy, guest: Guest | None) -> Flow[None]:
        """Other rules from now on. ValueError."""
        if self.proxy is None or guest is None:
            raise ValueError("only a sandbox that was made with a Proxy can be given other rules")
        if network != "none" and not isinstance(network, Proxy):
            raise ValueError(f'rules are a Proxy, or "none": {network!r}')
        from lisrt.egress import gateway

        self.proxy = network if isinstance(network, Proxy) else Proxy()
        done = gateway.current().change(guest, self.proxy.policy())
        yield Offload(partial(wait, [done], CUT_TIMEOUT))


def with_egress(result: ExecResult, guest: Guest | None, before: tuple[int, int, int]) -> ExecResult:
    """What went through the proxy since `before` (`sums_of` then)."""
    if guest is None:
        return result
    sent, received, denied = (now - then for now, then in zip(guest.journal.sums(), before, strict=True))
    return replace(result, usage=replace(result.usage, sent=sent, received=received, denied=denied))


def sums_of(guest: Guest | None) -> tuple[int, int, int]:
    """Bytes sent and received so far, and denials."""
    return guest.journal.sums() if guest is not None else (0, 0, 0)
