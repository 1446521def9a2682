"""Sockets: each family is code of the kernel that any user reaches, and some know no namespaces."""

import socket
from collections.abc import Callable

import pytest
from support.subjects import Box

TRY = """
import sys
from kernel import attempt, call
family, kind, protocol = map(int, sys.argv[1:])
result = call("socket", family, kind, protocol)
print("opened" if result.isdigit() else result)
"""

#: (family, type, protocol): answer.
REFUSED = {
    "AF_ALG, CVE-2026-31431": (38, 5, 0, "EAFNOSUPPORT"),
    "AF_ALG behind high bits": (1 << 32 | 38, 5, 0, "EAFNOSUPPORT"),
    "AF_VSOCK, the way to the hypervisor": (40, 1, 0, "EAFNOSUPPORT"),
    "AF_PACKET, CVE-2017-7308": (17, 3, 0x300, "EAFNOSUPPORT"),
    "AF_PACKET by its old name": (2, 10, 0x300, "ESOCKTNOSUPPORT"),
    "AF_INET raw": (2, 3, 1, "EPERM"),
    "AF_INET raw, any protocol": (2, 3, 255, "EPROTONOSUPPORT"),
    "AF_BLUETOOTH": (31, 3, 0, "EAFNOSUPPORT"),
    "AF_CAN": (29, 3, 1, "EAFNOSUPPORT"),
    "AF_TIPC, CVE-2021-43267": (30, 5, 0, "EAFNOSUPPORT"),
    "AF_RDS": (21, 5, 0, "EAFNOSUPPORT"),
    "AF_KEY": (15, 3, 2, "EAFNOSUPPORT"),
    "AF_XDP": (44, 3, 0, "EAFNOSUPPORT"),
    "AF_SMC": (43, 1, 0, "EAFNOSUPPORT"),
    "AF_QIPCRTR": (42, 2, 0, "EAFNOSUPPORT"),
    "AF_KCM": (41, 2, 0, "EAFNOSUPPORT"),
    "AF_RXRPC": (33, 2, 2, "EAFNOSUPPORT"),
    "AF_NFC": (39, 5, 0, "EAFNOSUPPORT"),
    "AF_PPPOX": (24, 1, 0, "EAFNOSUPPORT"),
    "AF_MCTP": (45, 2, 0, "EAFNOSUPPORT"),
    "no family at all": (0, 1, 0, "EAFNOSUPPORT"),
    "MPTCP": (2, 1, 262, "EPROTONOSUPPORT"),
    "SMC by AF_INET": (2, 1, 256, "EPROTONOSUPPORT"),
    "SCTP": (2, 5, 132, "ESOCKTNOSUPPORT"),
    "SCTP as a stream": (10, 1, 132, "EPROTONOSUPPORT"),
    "DCCP by its type, CVE-2017-6074": (2, 6, 0, "ESOCKTNOSUPPORT"),
    "L2TP": (2, 2, 115, "EPROTONOSUPPORT"),
    "NETLINK_NETFILTER, nft": (16, 3, 12, "EAFNOSUPPORT"),
    "NETLINK_XFRM, CVE-2017-16939": (16, 3, 6, "EAFNOSUPPORT"),
    "NETLINK_GENERIC": (16, 3, 16, "EAFNOSUPPORT"),
    "NETLINK_KOBJECT_UEVENT": (16, 3, 15, "EAFNOSUPPORT"),
    "NETLINK_AUDIT": (16, 3, 9, "EAFNOSUPPORT"),
    "NETLINK_SOCK_DIAG": (16, 3, 4, "EAFNOSUPPORT"),
    "NETLINK_CRYPTO": (16, 3, 21, "EAFNOSUPPORT"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_odd_sockets_are_refused(box: Box, name: str) -> None:
    """The answer is one that programs know what to do with."""
    *what, answer = REFUSED[name]
    assert box.python(TRY, *map(str, what)).check().stdout == f"{answer}\n"


@pytest.mark.parametrize(
    "what", [(1, 1, 0), (1, 2, 0), (1, 5, 0), (2, 1, 6), (2, 2, 17), (10, 1, 0), (10, 0o2000002, 0), (16, 3, 0)]
)
def test_ordinary_sockets_are_not(box: Box, what: tuple[int, int, int]) -> None:
    """Local, internet and NETLINK_ROUTE sockets."""
    assert box.python(TRY, *map(str, what)).check().stdout == "opened\n"


def test_a_host_network_brings_no_odd_sockets(open_box: Callable[..., Box]) -> None:
    """network="host" shares addresses, not the kernel's other families, and no power over the interfaces."""
    box = open_box(network="host")
    for name in ("AF_PACKET, CVE-2017-7308", "AF_ALG, CVE-2026-31431", "NETLINK_NETFILTER, nft", "AF_INET raw"):
        *what, answer = REFUSED[name]
        assert box.python(TRY, *map(str, what)).check().stdout == f"{answer}\n", name
    before = socket.if_nameindex()
    source = """
import fcntl, socket, struct
from kernel import attempt
s = socket.socket()
flags = struct.pack("16sh14x", b"lo", 0)
print(attempt(fcntl.ioctl, s, 0x8914, flags))  # SIOCSIFFLAGS: lo down
"""
    assert box.python(source).stdout == "EPERM\n"
    assert socket.if_nameindex() == before


def test_netlink_changes_nothing_that_is_not_owned(box: Box) -> None:
    """Routes and links can be listed; to change them, or to add a link with its module, wants a capability."""
    source = """
import os, socket, struct
def ask(kind, body):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, 1 | 4, 1, 0) + body)
    answer = s.recv(65536)
    kind, = struct.unpack_from("=H", answer, 4)
    return os.strerror(-struct.unpack_from("=i", answer, 16)[0]) if kind == 2 else "answered"
print(ask(18, struct.pack("=BxHiII", 0, 0, 1, 0, 0)))          # RTM_GETLINK of lo
print(ask(16, struct.pack("=BxHiII", 0, 0, 1, 0, 1)))          # RTM_NEWLINK: lo down
print(ask(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0)))  # RTM_NEWROUTE
print(ask(36, struct.pack("=BxxxiIII", 0, 1, 0x10000, 0xFFFFFFFF, 0)))  # RTM_NEWQDISC
"""
    assert box.python(source).check().stdout.splitlines() == ["answered"] + ["Operation not permitted"] * 3
