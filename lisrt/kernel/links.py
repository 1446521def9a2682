"""rtnetlink's messages: interfaces, addresses, routes, rates.

pyroute2 encodes one in 0.1 to 0.4 ms, as long as the kernel takes to carry it out. So of those that are needed often a
specimen is encoded once, and its values are stamped into copies.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pyroute2.netlink import nla, nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg
from pyroute2.netlink.rtnl.tcmsg.sched_tbf import get_parameters as token_bucket

from lisrt.kernel.netlink import ACK, CREATE, DUMP, EXCLUSIVE, REPLACE, REQUEST

NEW_LINK, GET_LINK, SET_LINK, NEW_ADDRESS, GET_ADDRESS, NEW_ROUTE, NEW_NEIGHBOUR, NEW_QDISC = 16, 18, 19, 20, 22, 24, 28, 36
ROUTES = 7
"""The group that is told of IPv4 routes (RTNLGRP_IPV4_ROUTE)."""
_UP = 1
_ROOT = 0xFFFFFFFF
_PERMANENT = 0x80
_NEW = REQUEST | ACK | CREATE | EXCLUSIVE
_LATENCY_US = 400_000
"""How long a packet may wait for its turn before it is dropped."""
_INDEX, _MASTER, _FD, _NAME, _ADDRESS = 0x11111111, 0x22222222, 0x33333333, b"name-of-it\0", "68.68.68.68"
"""What is in a specimen where values belong: each nowhere else in it."""
_NAME_SIZE = len(_NAME)

Attributes = list[tuple[str, object]]


class _Specimen:
    """An encoded message, and where its values are in it."""

    def __init__(self, encoded: bytes, *marks: bytes) -> None:
        self._encoded = encoded
        self._places = [[at for at in range(len(encoded)) if encoded.startswith(mark, at)] for mark in marks]
        assert all(self._places), "every mark is in the specimen"

    def stamped(self, *values: bytes) -> bytes:
        """A copy with these values, each as long as its mark."""
        made = bytearray(self._encoded)
        for places, value in zip(self._places, values, strict=True):
            for at in places:
                made[at : at + len(value)] = value
        return bytes(made)


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


def _encoded(message: Any, kind: int, flags: int, attributes: Attributes) -> bytes:
    message["header"]["type"], message["header"]["flags"] = kind, flags
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


def _link(kind: int, flags: int, index: int, attributes: Attributes, *, is_up: bool = False) -> bytes:
    message = ifinfmsg()
    message["index"] = index
    message["flags"], message["change"] = (_UP, _UP) if is_up else (0, 0)
    return _encoded(message, kind, flags, attributes)


def hardware_address(own: str) -> str:
    """A made-up one for who has that IPv4 address."""
    return ":".join(f"{byte:02x}" for byte in b"\2\0" + socket.inet_aton(own))


def bridge(index: int, name: str, mtu: int, hardware: str) -> bytes:
    """A bridge that is up and keeps no lists of who listens to which group."""
    data = {"attrs": [("IFLA_BR_MCAST_SNOOPING", 0)]}
    information = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data)]}
    attributes: Attributes = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_ADDRESS", hardware),
        ("IFLA_LINKINFO", information),
    ]
    return _link(NEW_LINK, _NEW, index, attributes, is_up=True)


@lru_cache
def _pair(mtu: int, other_index: int, other_name: str) -> _Specimen:
    other = {
        "index": other_index,
        "attrs": [
            ("IFLA_IFNAME", other_name),
            ("IFLA_MTU", mtu),
            ("IFLA_ADDRESS", hardware_address(_ADDRESS)),
            ("IFLA_NET_NS_FD", _FD),
        ],
    }
    information = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", other)]})]}
    attributes: Attributes = [
        ("IFLA_IFNAME", _NAME[:-1].decode()),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", _MASTER),
        ("IFLA_LINKINFO", information),
    ]
    encoded = _link(NEW_LINK, _NEW, _INDEX, attributes, is_up=True)
    return _Specimen(encoded, _number(_INDEX), _NAME, _number(_MASTER), _number(_FD), socket.inet_aton(_ADDRESS))


@dataclass(frozen=True, slots=True)
class Other:
    """The other end of a pair: its number, its name, the IPv4 address that its hardware address is made from, and where it is."""

    index: int
    name: str
    address: str
    namespace: int


def pair(index: int, name: str, mtu: int, master: int, other: Other) -> bytes:
    """Two interfaces: one, up, a port of the bridge `master`; the other, which the kernel can't bring up at once, in another
    network namespace. The name has 10 characters at most."""
    named = name.encode().ljust(_NAME_SIZE, b"\0")
    values = _number(index), named, _number(master), _number(other.namespace), socket.inet_aton(other.address)
    return _pair(mtu, other.index, other.name).stamped(*values)


@lru_cache
def _isolate() -> _Specimen:
    data = {"attrs": [("IFLA_BRPORT_ISOLATED", 1)]}
    information = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
    return _Specimen(_link(NEW_LINK, REQUEST | ACK, _INDEX, [("IFLA_LINKINFO", information)]), _number(_INDEX))


def isolate(index: int) -> bytes:
    """A port of a bridge that reaches none of the others that are isolated."""
    return _isolate().stamped(_number(index))


@lru_cache
def up(index: int) -> bytes:
    """Brings an interface up."""
    return _link(SET_LINK, REQUEST | ACK, index, [], is_up=True)


class _Settings(nlmsg):  # type: ignore[misc]
    """pyroute2's own ifinfmsg can read these attributes, and writes something else."""

    fields = ifinfmsg.fields
    nla_map = ((26, "IFLA_AF_SPEC", "families"),)

    class families(nla):  # type: ignore[misc]
        nla_map = ((socket.AF_INET, "AF_INET", "inet"),)

        class inet(nla):  # type: ignore[misc]
            nla_map = ((1, "IFLA_INET_CONF", "settings"),)

            class settings(nla):  # type: ignore[misc]
                nla_map = ((1, "FORWARDING", "uint32"),)


def forwarding(index: int) -> bytes:
    """Has IPv4 packets that come in there forwarded. Without /proc/sys, which many containers have read-only."""
    message = _Settings()
    message["index"] = index
    settings = {"attrs": [("IFLA_INET_CONF", {"attrs": [("FORWARDING", 1)]})]}
    return _encoded(message, SET_LINK, REQUEST | ACK, [("IFLA_AF_SPEC", {"attrs": [("AF_INET", settings)]})])


@lru_cache
def _counters() -> _Specimen:
    return _Specimen(_link(GET_LINK, REQUEST | ACK, _INDEX, []), _number(_INDEX))


def counters(index: int) -> bytes:
    """Asks for an interface as it is."""
    return _counters().stamped(_number(index))


_HEADERS, _STATS64 = 32, 23
"""Bytes before the first attribute of a link; IFLA_STATS64."""


def decode_counters(answer: bytes) -> tuple[int, int]:
    """Bytes that an interface has received and sent. By hand: it is asked for before and after every command."""
    at = _HEADERS
    while at + 4 <= len(answer):
        size, kind = struct.unpack_from("=HH", answer, at)
        if kind == _STATS64:
            _, _, received, sent = struct.unpack_from("=4Q", answer, at + 4)
            return received, sent
        at += max(4, (size + 3) & ~3)
    return 0, 0


@lru_cache
def _address(index: int, bits: int) -> _Specimen:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET, bits, index
    encoded = _encoded(message, NEW_ADDRESS, _NEW, [("IFA_LOCAL", _ADDRESS), ("IFA_ADDRESS", _ADDRESS)])
    return _Specimen(encoded, socket.inet_aton(_ADDRESS))


def address(index: int, own: str, bits: int) -> bytes:
    """An IPv4 address, and with it the way to its subnet."""
    return _address(index, bits).stamped(socket.inet_aton(own))


@lru_cache
def default_route(gateway: str) -> bytes:
    """The way to everything else."""
    message = rtmsg()
    message["family"], message["table"], message["type"], message["proto"] = socket.AF_INET, 254, 1, 4
    return _encoded(message, NEW_ROUTE, _NEW, [("RTA_GATEWAY", gateway)])


def last_resort(index: int) -> bytes:
    """The way to everywhere, by that interface, where there is no other one."""
    message = rtmsg()
    message["family"], message["table"], message["type"], message["proto"], message["scope"] = socket.AF_INET, 254, 1, 4, 253
    return _encoded(message, NEW_ROUTE, _NEW, [("RTA_OIF", index), ("RTA_PRIORITY", 0xFFFFFFFE)])


@lru_cache
def _neighbour(index: int) -> _Specimen:
    message = ndmsg()
    message["family"], message["ifindex"], message["state"] = socket.AF_INET, index, _PERMANENT
    attributes: Attributes = [("NDA_DST", _ADDRESS), ("NDA_LLADDR", hardware_address(_ADDRESS))]
    return _Specimen(_encoded(message, NEW_NEIGHBOUR, REQUEST | ACK | CREATE | REPLACE, attributes), socket.inet_aton(_ADDRESS))


def neighbour(index: int, address: str) -> bytes:
    """Who has that address on that interface, for good: nobody needs to ask. What is learnt by asking is kept in a table
    that all namespaces of the machine have in common (net.ipv4.neigh.default.gc_thresh3): 504 pairs had filled it."""
    return _neighbour(index).stamped(socket.inet_aton(address))


def default_interface(news: bytes) -> int:
    """The number of the interface that a new route to everywhere leads to; 0 when there is none among what has changed."""
    for message in _routes(news):
        if message["header"]["type"] == NEW_ROUTE and message["dst_len"] == 0:
            return int(message.get_attr("RTA_OIF") or 0)
    return 0


def _routes(news: bytes) -> Iterator[Any]:
    at = 0
    while at + 16 <= len(news):
        (size,) = struct.unpack_from("=I", news, at)
        message = rtmsg(news[at : at + size])
        message.decode()
        yield message
        at += max(16, (size + 3) & ~3)


def addresses() -> bytes:
    """Asks for all IPv4 addresses."""
    message = ifaddrmsg()
    message["family"] = socket.AF_INET
    return _encoded(message, GET_ADDRESS, REQUEST | DUMP, [])


def decode_address(answer: bytes) -> str:
    """One of them."""
    message = ifaddrmsg(answer)
    message.decode()
    return str(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))


def rate(index: int, bytes_per_second: int) -> bytes:
    """What an interface sends is held to this rate (a token bucket)."""
    message = tcmsg()
    message["index"], message["parent"], message["handle"] = index, _ROOT, 0x10000
    burst = max(bytes_per_second // 50, 1 << 17)  # a packet may be 64 KiB
    options = token_bucket({"rate": bytes_per_second, "burst": burst, "latency": f"{_LATENCY_US}us"})
    return _encoded(message, NEW_QDISC, _NEW, [("TCA_KIND", "tbf"), ("TCA_OPTIONS", options)])
