"""Programs that mean ill, as root of the sandbox and as somebody else: no power over their network, and no way around it."""

import json
import os
import socket
from collections.abc import Iterator

import pytest
from support.subjects import SUBJECTS

from lisrt import Nat

from .conftest import OpenBox, Peer, python

#: With which a program could change how it is connected. Numbers are those of rtnetlink and nfnetlink.
CHANGES = """
import ctypes, fcntl, struct
AF_NETLINK, ROUTE, NETFILTER = 16, 0, 12
ack = 5

def netlink(protocol, kind, flags, body):
    one = socket.socket(AF_NETLINK, socket.SOCK_RAW, protocol)
    one.bind((0, 0))
    one.settimeout(5)
    one.sendall(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    _, answer, _, _, _, code = struct.unpack_from("=IHHIIi", one.recv(4096))
    if answer == 2 and code: raise OSError(-code, "netlink")

def attribute(kind, data): return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
def link(index, up): return struct.pack("=BxHiII", 0, 0, index, up, 1)
inet = socket.inet_aton
address = struct.pack("=BBBBi", 2, 24, 0, 0, 2) + attribute(2, inet("10.9.9.9")) + attribute(1, inet("10.9.9.9"))
route = struct.pack("=8BI", 2, 32, 0, 0, 254, 4, 0, 1, 0) + attribute(1, inet("10.9.9.9")) + attribute(4, struct.pack("=i", 2))
neighbour = struct.pack("=BxxxiHBB", 2, 2, 0x80, 0, 0) + attribute(1, inet("198.18.0.1")) + attribute(2, bytes(6))
rename = link(2, 0) + attribute(3, b"other" + bytes(1))

def nft():
    head = lambda kind, flags, number, body: struct.pack("=IHHII", 16 + len(body), kind, flags, number, 0) + body
    begin, end = head(16, 1, 0, struct.pack(">BBH", 0, 0, 10)), head(17, 1, 2, struct.pack(">BBH", 0, 0, 10))
    table = head(10 << 8, 0x405, 1, struct.pack(">BBH", 2, 0, 0) + attribute(1, b"mine" + bytes(1)))
    one = socket.socket(AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    one.settimeout(5)
    one.sendall(begin + table + end)
    code = struct.unpack_from("=IHHIIi", one.recv(4096))[5]
    if code: raise OSError(-code, "nft")

libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0: raise OSError(ctypes.get_errno(), "libc")

def ioctl(number, name, data):
    fcntl.ioctl(socket.socket(type=socket.SOCK_DGRAM), number, struct.pack("16s24s", name, data))
def option(level, number):
    socket.socket().setsockopt(level, number, 1)
def joins(path):
    fd = os.open(path, os.O_RDONLY)
    call(libc.setns(fd, 0x40000000))
def write(path, what):
    with open(path, "w") as file: file.write(what)
def tunnel():
    fcntl.ioctl(os.open("/dev/net/tun", os.O_RDWR), 0x400454CA, struct.pack("16sH22x", b"mine", 1))

tries = {
    "link down": lambda: netlink(ROUTE, 16, ack, link(2, 0)),
    "loopback down": lambda: netlink(ROUTE, 16, ack, link(1, 0)),
    "link renamed": lambda: netlink(ROUTE, 16, ack, rename),
    "link deleted": lambda: netlink(ROUTE, 17, ack, link(2, 0)),
    "link added": lambda: netlink(ROUTE, 16, ack | 0x600, link(0, 0) + attribute(18, attribute(1, b"dummy" + bytes(1)))),
    "address added": lambda: netlink(ROUTE, 20, ack | 0x600, address),
    "route added": lambda: netlink(ROUTE, 24, ack | 0x600, route),
    "routes deleted": lambda: netlink(ROUTE, 25, ack, struct.pack("=8BI", 2, 0, 0, 0, 254, 0, 0, 1, 0)),
    "neighbour added": lambda: netlink(ROUTE, 28, ack | 0x500, neighbour),
    "rate deleted": lambda: netlink(ROUTE, 37, ack, struct.pack("=BxxxiIII", 0, 2, 0, 0xFFFFFFFF, 0)),
    "nft": nft,
    "address by ioctl": lambda: ioctl(0x8916, b"eth0", struct.pack("=HH4s", 2, 0, inet("10.9.9.9"))),
    "hardware address": lambda: ioctl(0x8924, b"eth0", struct.pack("=H6s", 1, bytes(6))),
    "promiscuous": lambda: ioctl(0x8914, b"eth0", struct.pack("=H", 0x143)),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "raw, any": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x300),
    "packet, cooked": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x300),
    "transparent": lambda: option(socket.SOL_IP, 19),
    "mark": lambda: option(socket.SOL_SOCKET, 36),
    "unshare net": lambda: call(libc.unshare(0x40000000)),
    "unshare user and net": lambda: call(libc.unshare(0x50000000)),
    "setns, own": lambda: joins("/proc/self/ns/net"),
    "setns, of PID 1": lambda: joins("/proc/1/ns/net"),
    "forwarding": lambda: write("/proc/sys/net/ipv4/ip_forward", "1"),
    "IPv6": lambda: write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0"),
    "ping sockets": lambda: write("/proc/sys/net/ipv4/ping_group_range", "0 0"),
    "tunnel": tunnel,
}
print(json.dumps({name: attempt(what)[0] for name, what in tries.items()}))
"""
LOOK = """
for name in ("dev", "route", "fib_trie", "if_inet6"):
    print([line.split()[:1 if name == "dev" else 4] for line in open("/proc/net/" + name)])
"""
REFUSED = {"EPERM", "EACCES", "EROFS", "ENOENT", "ENODEV", "EOPNOTSUPP", "EAFNOSUPPORT", "ENOSYS", "EPROTONOSUPPORT"}


@pytest.fixture(params=["single", pytest.param("subuid", id="sync-subuid")])
def idmap(request: pytest.FixtureRequest) -> Iterator[str]:
    """As who programs run. The second is for the run that has subordinate ids: tests/test_idmap.py."""
    if request.param == "subuid" and "sync-subuid" not in SUBJECTS:
        request.applymarker(pytest.mark.skip(reason="no subordinate ids are wanted in this run"))
        pytest.skip("no subordinate ids are wanted in this run")
    yield request.param


@pytest.mark.parametrize("user", [0, 1000])
def test_nothing_can_be_changed(open_box: OpenBox, peer: Peer, way_out: Nat, idmap: str, user: int) -> None:
    """Nor is there anything to be heard of others; afterwards all is as before."""
    box = open_box(way_out, user=user, idmap=idmap)
    before = python(box, LOOK)
    said = json.loads(python(box, CHANGES))
    assert "done" not in said.values(), said
    assert set(said.values()) <= REFUSED, said
    assert python(box, LOOK) == before
    script = "print(get(*sys.argv[1:3], 1000), attempt(lambda: dial('10.1.2.3', 80)))"
    assert python(box, script, *peer.at) == "1000 ['EHOSTUNREACH', 'at once']\n"


def test_a_program_of_the_image_that_tries(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """ip, nft and unshare, where the image has them, fail, too."""
    box = open_box(way_out)
    for script in (
        "ip link set eth0 down", "ip address add 10.9.9.9/24 dev eth0", "ip route replace default dev lo", "nft flush ruleset",
        "unshare --net true", "unshare --user --map-root-user --net ip link set lo up", "nsenter --net=/proc/1/ns/net true",
        "ip netns add mine", "ip tuntap add mode tap",
    ):  # fmt: skip
        assert not box.sh(script).ok, script
    assert python(box, "print(get(*sys.argv[1:3], 1000))", *peer.at) == "1000\n"


def test_unix_sockets_of_the_host(open_box: OpenBox) -> None:
    """Those without a file are of its network namespace."""
    with socket.socket(socket.AF_UNIX) as server:
        name = f"lisrt-test-{os.getpid()}"
        server.bind(f"\0{name}")
        server.listen()
        script = "print(attempt(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[1]))[0])"
        assert python(open_box(), script, name) == "ECONNREFUSED\n"
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(f"\0{name}")  # it is there
