"""What nat is made of, without a kernel: rules as they are given, addresses, messages."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from lisrt import Nat, NetworkGroup
from lisrt.kernel import links
from lisrt.nat.firewall import CLOSED, base
from lisrt.nat.subnets import NAMES, PORTS, RANGE, Subnets
from lisrt.uplink import Uplink


def test_nat_is_checked() -> None:
    for wrong in ({"allow": ["example.org"]}, {"allow": ["::1"]}, {"allow": ["10.0.0.1/8"]}, {"rate": 0}, {"max_bytes": "many"}):
        with pytest.raises(ValueError):
            Nat(**wrong)  # type: ignore[arg-type]
    for loopback in ("127.0.0.1", "127.0.0.0/8", "0.0.0.0/0"):
        with pytest.raises(ValueError, match="loopback"):
            Nat(allow=[loopback])
    with pytest.raises(TypeError):
        Nat(allow="10.0.0.1")
    with pytest.raises(TypeError):
        NetworkGroup("nat")  # type: ignore[arg-type]
    assert Nat(allow=["10.1.2.3"], rate="1MB") == Nat(allow=("10.1.2.3/32",), rate=1_000_000)


@pytest.mark.parametrize("wrong", ["proxy", "group", "Nat", "", "?", None, 3])
def test_what_is_no_network(wrong: object) -> None:
    with pytest.raises(ValueError, match="network must be one of"):
        Uplink(wrong)  # type: ignore[arg-type]


def test_what_is_said_of_each() -> None:
    assert "only the members" in Uplink(NetworkGroup(Nat())).describe()
    assert Uplink(NetworkGroup()).describe() == "loopback, and the members of its group"
    assert "10.0.0.0/8" in Uplink(Nat(["10.0.0.0/8"], max_bytes=5)).describe()
    assert Uplink("nat").describe().startswith("ANY public address")
    assert Uplink("filtered").describe().startswith("WEAKER")


def test_an_address_is_not_soon_somebody_elses() -> None:
    """The one that has been free for longest: connections of who had it may still be known to the hub."""
    subnet = Subnets().new("n")
    first = subnet.take()
    subnet.give_back(first)
    taken = [subnet.take() for _ in range(PORTS)]
    assert first not in taken[:-1]
    assert len(set(taken)) == PORTS
    with pytest.raises(OSError, match="members at most"):
        subnet.take()


def test_all_addresses_are_told_apart() -> None:
    subnets = Subnets()
    made = [subnets.new(kind) for kind in ("n", "g", "h") for _ in range(60)]
    addresses = [address for one in made for address in (one.gateway, *one.free)]
    assert len(set(addresses)) == len(addresses)
    assert NAMES not in addresses
    assert all(one.network.subnet_of(RANGE) for one in made)
    assert len({one.index for one in made}) == len({one.name for one in made}) == len(made)


def test_subnets_end() -> None:
    subnets = Subnets()
    for _ in range(63):
        subnets.new("n")
    with pytest.raises(OSError, match="in use"):
        subnets.new("n")
    for _ in range(1023):
        assert NAMES not in subnets.new("g").free
    with pytest.raises(OSError, match="in use"):
        subnets.new("h")


Numbers = st.integers(1, 2**31 - 1)
Addresses = st.ip_addresses(v=4).map(str)


@given(Numbers, Numbers, Numbers, Addresses, st.integers(0, 9_999_999))
def test_a_pair_is_what_was_asked_for(index: int, master: int, namespace: int, address: str, number: int) -> None:
    """Stamped values stand where pyroute2 reads them, whatever they are."""
    message = ifinfmsg(links.pair(index, f"s{number}", 1500, master, links.Other(2, "eth0", address, namespace)))
    message.decode()
    data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "VETH_INFO_PEER")
    assert message["index"] == index
    assert message.get_attr("IFLA_IFNAME") == f"s{number}"
    assert message.get_attr("IFLA_MASTER") == master
    assert data["index"] == 2
    assert data.get_attr("IFLA_IFNAME") == "eth0"
    assert data.get_attr("IFLA_NET_NS_FD") == namespace
    assert data.get_attr("IFLA_ADDRESS") == links.hardware_address(address)


@given(Numbers, Addresses)
def test_addresses_and_neighbours_are_what_was_asked_for(index: int, address: str) -> None:
    message = ifaddrmsg(links.address(index, address, 22))
    message.decode()
    assert (message["index"], message["prefixlen"]) == (index, 22)
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == address
    neighbour = ndmsg(links.neighbour(index, address))
    neighbour.decode()
    assert neighbour["ifindex"] == index
    assert neighbour.get_attr("NDA_DST") == address
    assert neighbour.get_attr("NDA_LLADDR") == links.hardware_address(address)


def test_counters_are_read_as_pyroute2_reads_them() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        asked = bytearray(links.counters(1))
        struct.pack_into("=H", asked, 6, 1)  # without the acknowledgement
        sock.send(asked)
        answer = sock.recv(1 << 16)
    message = ifinfmsg(answer)
    message.decode()
    found = message.get_attr("IFLA_STATS64")
    assert links.decode_counters(answer) == (found["rx_bytes"], found["tx_bytes"])


def test_every_closed_range_is_in_the_table() -> None:
    """By its bytes: a rule that was left out, or made for another range, would let packets through in silence."""
    messages = b"".join(base("10.0.2.3", ["192.0.2.77"], [("10.9.8.7", 3128)]))
    for network in (*CLOSED, "192.0.2.77/32", "10.9.8.7/32"):
        assert socket.inet_aton(network.partition("/")[0]) in messages
