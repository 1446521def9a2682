"""Where packages come from, and the networks that lead there and nowhere else."""

import functools
import ipaddress
import socket

from lisrt import Nat, Proxy
from lisrt.egress.rules import is_public

APT, PIP, NPM = ("deb.debian.org",), ("pypi.org", "files.pythonhosted.org"), ("registry.npmjs.org",)
HOSTS = (*APT, *PIP, *NPM)


@functools.cache
def own_mirrors() -> tuple[str, ...]:
    """Addresses of theirs that are not public, as a site's own mirrors may have: those need a rule."""
    found = {str(one[4][0]) for name in HOSTS for one in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)}
    return tuple(sorted(address for address in found if not is_public(ipaddress.ip_address(address))))


def proxy(*hosts: str) -> Proxy:
    """These registries; all, by default."""
    return Proxy(allow=[*(hosts or HOSTS), *(f"[{address}]" if ":" in address else address for address in own_mirrors())])


def nat() -> Nat:
    """Every public address, and theirs."""
    return Nat(allow=[address for address in own_mirrors() if ":" not in address])


def network(kind: str) -> str | Proxy | Nat:
    """"host", "proxy" or "nat"."""
    return {"proxy": proxy, "nat": nat}[kind]() if kind != "host" else kind
