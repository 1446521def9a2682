"""A hub: the network namespace that sandboxes with a network of their own are connected to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from lisrt.kernel import links, nftables
from lisrt.kernel.netlink import Netlink
from lisrt.nat import firewall
from lisrt.nat.policy import Nat, NetworkGroup
from lisrt.nat.program import MTU, Program, Running
from lisrt.nat.subnets import Subnet, Subnets

_OTHER_END = 2
"""The number of a sandbox's own interface, `eth0`."""
_LOOPBACK = 1
_COUNTED_WITHIN = 0.05
_FIRST_PORT = 1_000_000
"""Numbers of the hub's ends: above all that the kernel gives by itself."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One that is new and empty, and the means to set it up from outside."""

    fd: int
    links: Netlink
    rules: Netlink | None

    def close(self) -> None:
        """Again is allowed."""
        if self.links.sock.fileno() >= 0:
            os.close(self.fd)
        self.links.close()
        if self.rules is not None:
            self.rules.close()


Gone = tuple[str, Subnet, NetworkGroup | None, list["Nat | None"]]


@dataclass(eq=False)
class Wire:
    """What connects one sandbox. It goes with the sandbox; `close` gives the address back."""

    hub: Hub
    subnet: Subnet
    address: str
    marks: list[Nat | None]
    """Its rules of now, alone in there."""
    index: int
    rate: int | str | None = None
    group: NetworkGroup | None = None

    def __post_init__(self) -> None:
        self._end = weakref.finalize(self, self.hub.gone.append, (self.address, self.subnet, self.group, self.marks))
        self._end.atexit = False

    def counts(self) -> tuple[int, int]:
        """Bytes sent and received so far, as its interface counts them. OSError; while an uplink starts, too: that may take
        seconds, and this may be an event loop."""
        return links.decode_counters(self.hub.namespace.links.get(links.counters(self.index), within=_COUNTED_WITHIN))

    def change(self, nat: Nat | None) -> None:
        """Other rules from now on, for connections that there are, too; None: nothing passes. OSError."""
        self.hub.change(self, nat)

    def close(self) -> None:
        """Again is allowed."""
        self._end()
        self.hub.tidy()


class Hub:
    """One of a spawner. Safe to use from many threads."""

    def __init__(self, namespace: Namespace, program: Program, directory: str) -> None:
        """Owns the namespace. `directory`: where it may keep files. HostError, OSError."""
        self.namespace = namespace
        self._program = program
        self._pid = os.getpid()
        self.gone: deque[Gone] = deque()
        """Wires that have ended. They may do so in a garbage collection, in the middle of anything: so here without a lock."""
        self._directory = directory
        self._lock = threading.Lock()
        self._subnets = Subnets()
        self._ports = 0
        self._started: list[Running] = []
        """The uplink, once there has been one."""
        self._end = weakref.finalize(self, _end, namespace, self._started)
        assert namespace.rules is not None, "hubs.py has looked"
        nftables.commit(namespace.rules, *firewall.base(program.resolver, own_addresses(), upstream_proxies()))
        with contextlib.suppress(OSError):  # docs/security.md says what one sandbox can do to the others then
            nftables.commit(namespace.rules, *firewall.crowd())
        namespace.links.ask(links.last_resort(_LOOPBACK))
        self.ready()

    @property
    def alive(self) -> bool:
        """Whether its uplink runs."""
        return bool(self._started) and self._started[0].alive

    @property
    def program(self) -> str:
        """The name of its uplink."""
        return self._program.name

    def ready(self) -> None:
        """Starts the uplink if it does not run. Blocks until it does. HostError."""
        with self._lock:
            if not self.alive:
                for ended in self._started:
                    ended.close()
                self._started[:] = [Running(self._program, self.namespace.fd, self.namespace.links)]
                self.namespace.links.ask(links.forwarding(self._started[0].interface))

    def attach(
        self, namespace: Namespace, nat: Nat, group: NetworkGroup | None = None, hostname: str = "", *, is_open: bool = True
    ) -> Wire:
        """Connects a namespace. OSError. `is_open`: else nothing passes yet."""
        self.tidy()
        subnet, address, index = self._take(group)
        try:
            other = links.Other(_OTHER_END, "eth0", address, namespace.fd)
            ours = [links.pair(index, f"s{index}", MTU, subnet.index, other)]
            own = [links.up(_OTHER_END), links.address(_OTHER_END, address, subnet.network.prefixlen)]
            if subnet.kind == "n":
                ours.append(links.isolate(index))
            if subnet.kind != "g":
                ours.append(links.neighbour(subnet.index, address))
                own += [links.default_route(subnet.gateway), links.neighbour(_OTHER_END, subnet.gateway)]
            self.namespace.links.ask(*ours)
            namespace.links.ask(*own)
            if nat.rate is not None:
                self.namespace.links.ask(links.rate(index, int(nat.rate)))
                namespace.links.ask(links.rate(_OTHER_END, int(nat.rate)))
            self._commit(firewall.admit(address, nat if is_open else None))
        except BaseException:
            with self._lock:
                subnet.give_back(address)
            raise
        self._tell(group, address, hostname)
        return Wire(self, subnet, address, [nat if is_open else None], index, nat.rate, group)

    def change(self, wire: Wire, nat: Nat | None) -> None:
        """See Wire."""
        if nat is not None and nat.rate not in (None, wire.rate):
            raise ValueError("the rate of a sandbox can't be changed")
        with self._lock:
            self._commit([*firewall.dismiss(wire.address, wire.marks[0]), *firewall.admit(wire.address, nat)])
            wire.marks[0] = nat

    def _commit(self, rules: Iterable[bytes]) -> None:
        made = list(rules)
        if made and self.namespace.rules is not None:
            nftables.commit(self.namespace.rules, *made)

    def _tell(self, group: NetworkGroup | None, address: str, hostname: str | None) -> None:
        """Who is at that address from now on, or None."""
        if group is None:
            return
        place = self._place_of(group)
        with group.lock:
            place.members.pop(address, None)
            if hostname:
                place.members[address] = hostname
            with contextlib.suppress(FileNotFoundError):  # the spawner has ended, and its directory with it
                place.write()

    def tidy(self) -> None:
        """Gives back what ended wires had; the interfaces go with the namespaces."""
        while self.gone and os.getpid() == self._pid:  # a forked child forgets what is its parent's, who has it still
            try:
                gone = self.gone.popleft()
            except IndexError:
                return  # another thread was faster
            self._release(*gone)

    def _release(self, address: str, subnet: Subnet, group: NetworkGroup | None, marks: list[Nat | None]) -> None:
        with contextlib.suppress(OSError):  # when the hub has ended, they have gone with it
            self._commit(firewall.dismiss(address, marks[0]))
        self._tell(group, address, None)
        with self._lock:
            subnet.give_back(address)

    def close(self) -> None:
        """Ends the uplink; who is connected is so to nothing. In a forked child, forgets it. Again is allowed."""
        self._end()

    def hosts_of(self, group: NetworkGroup) -> str:
        """The path of the file in which its members find each other. ValueError for a group of another hub; OSError."""
        return self._place_of(group).path

    def _place_of(self, group: NetworkGroup) -> Place:
        with group.lock:
            place = group.place
            if place is None:
                with self._lock:
                    subnet = self._group_subnet("g" if group.outside is None else "h")
                place = group.place = Place(self, subnet, os.path.join(self._directory, f"hosts-{subnet.name}"))
                place.write()
                weakref.finalize(group, self._subnets.spare.append, subnet).atexit = False
            if isinstance(place, Place) and place.hub is not self and not place.hub.alive:
                raise ValueError("the members of this group have ended with their spawner: make another group")
            if not isinstance(place, Place) or place.hub is not self:
                raise ValueError("members of a group are of one process, with the same launcher and idmap")
            return place

    def _take(self, group: NetworkGroup | None) -> tuple[Subnet, str, int]:
        place = None if group is None else self._place_of(group)
        with self._lock:
            self._ports += 1
            subnet = place.subnet if place else self._subnets.with_room() or self._bridged(self._subnets.new("n"))
            return subnet, subnet.take(), _FIRST_PORT + self._ports

    def _group_subnet(self, kind: str) -> Subnet:
        for spare in list(self._subnets.spare):
            if spare.kind == kind and not spare.used:
                self._subnets.spare.remove(spare)
                return spare
        return self._bridged(self._subnets.new(kind))

    def _bridged(self, subnet: Subnet) -> Subnet:
        made = [links.bridge(subnet.index, subnet.name, MTU, links.hardware_address(subnet.gateway))]
        if subnet.kind != "g":
            made += [links.address(subnet.index, subnet.gateway, subnet.network.prefixlen), links.forwarding(subnet.index)]
        self.namespace.links.ask(*made)
        if subnet.kind != "n" and self.namespace.rules is not None:
            nftables.commit(self.namespace.rules, firewall.between(subnet.name))
        return subnet


def _end(namespace: Namespace, started: list[Running]) -> None:
    for one in started:
        one.close()
    namespace.close()


@dataclass
class Place:
    """What a hub keeps of a group."""

    hub: Hub
    subnet: Subnet
    path: str
    members: dict[str, str] = field(default_factory=dict)
    """Host names by address."""

    def write(self) -> None:
        """Tells the members who there is. In place: they have this very file mounted."""
        lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{address} {name}" for address, name in self.members.items()), ""]
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            data = "\n".join(lines).encode()
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def own_addresses() -> list[str]:
    """This host's IPv4 addresses, its loopback's left out: what listens on them is meant for its own network."""
    with Netlink(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE).detach()) as own:
        found = [links.decode_address(one) for one in own.dump(links.addresses())]
    return sorted({one for one in found if not IPv4Address(one).is_loopback})


def upstream_proxies() -> list[tuple[str, int]]:
    """Address and port of the proxies that this host's own programs use, except on its loopback."""
    found = set()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        url = urlsplit(os.environ.get(name, ""))
        with contextlib.suppress(OSError, ValueError):
            if url.hostname:
                for *_, address in socket.getaddrinfo(url.hostname, url.port or 80, socket.AF_INET, socket.SOCK_STREAM):
                    if not IPv4Address(address[0]).is_loopback:
                        found.add((str(address[0]), int(address[1])))
    return sorted(found)
