"""What a sandbox with nat reaches, and what it does not."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from support import registries
from support.features import missing

from lisrt import AsyncSandbox, HostError, Nat, Sandbox
from lisrt.nat import subnets

from .conftest import OpenBox, Peer, address_of, both_uplinks, python

SERVE = """
import socketserver, sys
class Echo(socketserver.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.readline())
socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("", int(sys.argv[1])), Echo)
open("/tmp/listens", "w").close()
server.serve_forever()
"""


def serve(box: Sandbox, port: int = 7777) -> None:
    """Something listens in there, and answers whoever reaches it."""
    box.write("/tmp/serve.py", SERVE)
    box.sh(f"python3 /tmp/serve.py {port} </dev/null >/tmp/log 2>&1 & until [ -e /tmp/listens ]; do sleep 0.05; done").check()


HELLO = """
def hello(*address):
    made = dial(*address, timeout=3)
    made.sendall(b"hello\\n")
    if made.recv(99) != b"hello\\n": raise OSError("somebody else")
"""


@both_uplinks
def test_both_ways(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """By TCP, many bytes and many connections; by UDP, small and large."""
    script = """
address = sys.argv[1], int(sys.argv[2])
sent = os.urandom(1 << 20)
one = talk(*address, "echo")
threading.Thread(target=one.sendall, args=(sent,)).start()
assert exactly(one, len(sent)) == sent
print(take(*address, 20_000_000), get(*address, 20_000_000))
many = [talk(*address, "echo") for _ in range(100)]
for number, one in enumerate(many): one.sendall(b"%d" % number)
print(all(one.recv(9) == b"%d" % number for number, one in enumerate(many)))
for size in (1, 1400, 9000):
    one = socket.socket(type=socket.SOCK_DGRAM)
    one.settimeout(20)
    one.sendto(sent[:size], address)
    data, sender = one.recvfrom(1 << 16)
    print(data == sent[:size], sender == address)
"""
    box = open_box(way_out)
    assert python(box, script, *peer.at).split() == ["20000000"] * 2 + ["True"] * 7


@pytest.mark.parametrize("uplink", ["slirp4netns"], indirect=True)  # Debian 12's pasta stalls there, without lisrt, too
def test_one_end_after_the_other(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """A connection that is closed for one direction goes on for the other."""
    script = """
sent = os.urandom(1 << 20)
one = talk(*sys.argv[1:3], "echo", timeout=5)
threading.Thread(target=lambda: (one.sendall(sent), one.shutdown(socket.SHUT_WR))).start()
print(everything(one) == sent)
"""
    assert python(open_box(way_out), script, *peer.at) == "True\n"


def test_bytes_are_counted(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """Of each command, by its interface."""
    box = open_box(way_out)
    result = box.run(["python3", "-c", "import socket, sys; " + GIVE, *peer.at]).check()
    assert result.stdout == "5000000\n"
    assert result.usage.received is not None and 5_000_000 < result.usage.received < 6_000_000
    assert result.usage.sent is not None and 0 < result.usage.sent < 1_000_000


GIVE = (
    "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20); s.sendall(b'give 5000000\\n');"
    " print(sum(iter(lambda: len(s.recv(65536)), 0)))"
)


@both_uplinks
def test_names(open_box: OpenBox) -> None:
    """Are looked up by this host's own name servers; nonsense is not found."""
    name = registries.HOSTS[0]
    try:
        known = {found[4][0] for found in socket.getaddrinfo(name, 80, socket.AF_INET)}
    except OSError:
        missing(f"name server that knows {name}")
    box = open_box()
    script = """
found = [one[4][0] for one in socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET)]
try: socket.getaddrinfo("no-such-name.invalid", 80)
except socket.gaierror: print("none")
print(*found)
"""
    said = python(box, script, name).split()
    assert said[0] == "none" and len(said) > 1
    assert set(said[1:]) & known or len(known) > 1  # one that rotates may have others by now
    assert box.read_text("/etc/resolv.conf").startswith(f"nameserver {subnets.NAMES}\n")


@both_uplinks
def test_what_is_refused(open_box: OpenBox, peer: Peer, own_address: str) -> None:
    """This host's own addresses, private ones and a cloud's metadata: at once, each time, not after a timeout; TCP and UDP."""
    box = open_box()
    script = """
found = [attempt(lambda: dial(where, port, 5)) for where in sys.argv[2:] for port in (sys.argv[1], 80)]
def datagram(where):
    one = socket.socket(type=socket.SOCK_DGRAM)
    one.settimeout(5)
    one.connect((where, 53))
    one.send(b"x")
    one.recv(1)
found += [attempt(lambda: datagram(where)) for where in sys.argv[2:]]
print(json.dumps(found))
"""
    private = ["10.1.2.3", "172.16.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.9", "198.51.100.1"]
    answers = json.loads(python(box, script, str(peer.port), own_address, *private))
    assert answers == [["EHOSTUNREACH", "at once"]] * 3 * (1 + len(private))
    assert peer.connections == 0


@both_uplinks
def test_loopback_of_the_host(open_box: OpenBox, peer: Peer, loopback_peer: Peer) -> None:
    """By no address that stands for it, whatever is allowed."""
    aliases = ["10.0.2.2", "10.0.2.3", "169.254.2.2", "169.254.1.1"]
    box = open_box(Nat(allow=[peer.address, "10.0.2.0/24", "169.254.0.0/16", "0.0.0.0/8"]))
    script = """
print(json.dumps([attempt(lambda: dial(where, sys.argv[3], 1.5))[0] for where in sys.argv[4:]]))
print(get(*sys.argv[1:3], 1000))
"""
    port = str(loopback_peer.port)
    gateway = "198.18.0.1"
    said, got = python(box, script, *peer.at, port, "127.0.0.1", "0.0.0.0", gateway, *aliases).splitlines()
    assert "done" not in json.loads(said) and got == "1000"
    assert loopback_peer.connections == 0
    for loopback in ("127.0.0.1", "127.0.0.0/8", "0.0.0.0/0"):
        with pytest.raises(ValueError, match="loopback"):
            Nat(allow=[loopback])


def test_two_sandboxes(open_box: OpenBox, peer: Peer) -> None:
    """Reach each other by no address: their own, the gateway's, those of IPv6; not even where the address is allowed."""
    one = open_box()
    own = address_of(one)
    other = open_box(Nat(allow=[peer.address, own]))
    serve(one)
    python(one, HELLO + "hello(sys.argv[1], 7777)", own)  # it is there
    script = HELLO + """
places = [(sys.argv[1], 7777), ("198.18.0.1", 7777), ("198.18.255.255", 7777)]
said = [attempt(lambda: hello(*place))[0] for place in places]
def of_6(): socket.socket(socket.AF_INET6).connect(("fe80::200:c6ff:fe12:2", 7777, 0, 2))
def everyone():
    one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, 2)
    one.sendto(b"x", ("ff02::1", 7777))
def broadcast():
    one = socket.socket(type=socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    one.sendto(b"x", ("198.18.3.255", 7777))
    one.settimeout(0.5)
    one.recv(9)
print(json.dumps([*said, attempt(of_6)[0], attempt(everyone)[0], attempt(broadcast)[0]]))
print(open("/proc/net/if_inet6").read().count("eth0"))
"""
    said, addresses = python(other, script, own).splitlines()
    assert "done" not in json.loads(said) and addresses == "0", said
    assert box_answers(other, peer)


def box_answers(box: Sandbox, peer: Peer) -> bool:
    return bool(python(box, "print(get(*sys.argv[1:3], 1000))", *peer.at) == "1000\n")


def test_its_life(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """snapshot, fork and reset keep a network or get another one; twins have addresses of their own."""
    box = open_box(way_out)
    assert box_answers(box, peer)
    box.write("kept", "x")
    before = address_of(box)
    box.snapshot()
    assert address_of(box) == before and box_answers(box, peer)
    with box.fork() as twin:
        assert address_of(box) == before != address_of(twin)
        assert box_answers(twin, peer) and box_answers(box, peer)
        serve(twin)
        reach = HELLO + "print(attempt(lambda: hello(sys.argv[1], 7777))[0])"
        assert python(box, reach, address_of(twin)) != "done\n"
    box.write("lost", "x")
    box.reset()
    assert box_answers(box, peer)
    assert box.sh("ls").stdout == "kept\n"
    twins = box.fork(3)
    try:
        assert len({address_of(one) for one in (*twins, box)}) == 4
        assert all(box_answers(one, peer) for one in (*twins, box))
    finally:
        for one in twins:
            one.close()


def test_the_async_face(its_hubs: object, peer: Peer, way_out: Nat) -> None:
    async def scenario() -> list[str]:
        boxes = [AsyncSandbox(network=way_out, launcher="native") for _ in range(2)]
        async with boxes[0] as one, boxes[1] as two:
            script = "import socket, sys; " + GIVE
            done = await asyncio.gather(*(box.run(["python3", "-c", script, *peer.at]) for box in (one, two)))
            await one.set_network("none")
            done.append(await one.run(["python3", "-c", script, *peer.at]))
            return [result.stdout for result in done]

    assert asyncio.run(scenario()) == ["5000000\n", "5000000\n", ""]


def test_what_is_said_of_it(open_box: OpenBox) -> None:
    box = open_box(Nat(allow=["10.1.2.3"], rate="1MB", max_bytes="5GB"))
    said = box.guarantees["network"]
    assert "ANY public address" in said and "10.1.2.3" in said and "B/s each way" in said and "at most" in said


def test_bubblewrap_has_none(working_host: None) -> None:
    with pytest.raises(HostError, match='network="nat" is not there under bubblewrap') as caught:
        Sandbox(network="nat", launcher="bwrap")
    assert "Proxy" in str(caught.value) and 'launcher="native"' in str(caught.value)


def test_without_a_program(working_host: None, its_hubs: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says which to install; a name that is none is no host's fault."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="is not installed") as caught:
        Sandbox(network="nat", launcher="native")
    assert "passt" in str(caught.value)
    monkeypatch.setenv("LISRT_UPLINK", "nonsense")
    with pytest.raises(ValueError, match="uplink must be one of"):
        Sandbox(network="nat", launcher="native")


def test_one_that_opens_all_it_can(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """The uplink has descriptors for the others, too: 256 are one sandbox's, and it is told of the next."""
    greedy, other = open_box(way_out), open_box(way_out)
    script = """
told = 0
held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(800)]
for number, one in enumerate(held):
    one.connect((sys.argv[1], 10000 + number))
    for _ in range(2):
        try:
            one.send(b"x")
        except OSError as error:
            told += error.errno == errno.EHOSTUNREACH
print(told)
"""
    done = greedy.run(["python3", "-c", "import errno, socket, sys\n" + script, peer.address], timeout=50).check()
    assert int(done.stdout) > 300
    assert other.run(["python3", "-c", "import socket, sys\nsocket.create_connection(sys.argv[1:3], 5)", *peer.at], timeout=20).ok
