"""Networks that some sandboxes have together, and networks of very many."""

import contextlib
import json
import os
import resource
from collections.abc import Iterator

import pytest
from support.features import missing

from lisrt import HostError, Nat, NetworkGroup, Sandbox, hubs, spawner
from lisrt.waiting import drive

from .conftest import OpenBox, Peer, address_of, python
from .test_nat import HELLO, serve

REACH = HELLO + "print(json.dumps([attempt(lambda: hello(where, 7777))[0] for where in sys.argv[1:]]))"


def reached(box: Sandbox, *where: str) -> list[str]:
    found = json.loads(python(box, REACH, *where))
    assert isinstance(found, list)
    return found


def test_members_reach_each_other(open_box: OpenBox, peer: Peer) -> None:
    """By host name and address, whenever they came; nobody else does, and there is no way out."""
    net = NetworkGroup()
    server = open_box(net, hostname="server")
    serve(server)
    client = open_box(net, hostname="client")
    own = address_of(server)
    assert reached(client, "server", own) == ["done", "done"]
    serve(client)
    assert reached(server, "client") == ["done"]
    other, stranger = open_box(NetworkGroup(), hostname="other"), open_box(Nat(allow=[peer.address, own]))
    assert "done" not in reached(other, "server", own) and "done" not in reached(stranger, "server", own)
    out = "print(*(attempt(lambda: dial(where, int(sys.argv[2]), 5))[0] for where in (sys.argv[1], '10.1.2.3', '1.1.1.1')))"
    assert python(client, out, *peer.at).split() == ["ENETUNREACH"] * 3
    assert peer.connections == 0 and "the members of its group" in client.guarantees["network"]
    with client.fork() as twin:
        assert reached(twin, "server") == ["done"]
    client.close()
    assert "client" not in server.read_text("/etc/hosts")


def test_a_group_with_a_way_out(open_box: OpenBox, peer: Peer) -> None:
    """Its members have what its Nat gives them, besides each other."""
    net = NetworkGroup(outside=Nat(allow=[peer.address]))
    server, client = open_box(net, hostname="server"), open_box(net)
    serve(server)
    assert reached(client, "server") == ["done"]
    assert python(client, "print(get(*sys.argv[1:3], 1000))", *peer.at) == "1000\n"
    assert python(client, "print(attempt(lambda: dial('10.1.2.3', 80)))") == "['EHOSTUNREACH', 'at once']\n"
    other = open_box(NetworkGroup(outside=Nat(allow=[peer.address, address_of(server)])))
    stranger = open_box(Nat(allow=[peer.address, address_of(server)]))
    for one in (other, stranger):
        assert reached(one, address_of(server)) != ["done"]


def test_what_is_no_group(open_box: OpenBox) -> None:
    """Members have one launcher, and rules are a Nat."""
    with pytest.raises(TypeError, match="outside is a Nat"):
        NetworkGroup(outside="nat")  # type: ignore[arg-type]
    with pytest.raises(HostError, match="bubblewrap"):
        Sandbox(network=NetworkGroup(), launcher="bwrap")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """A thousand sandboxes have several thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8192:
        missing(f"8192 descriptors for one process; the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_second_bridge(open_box: OpenBox, peer: Peer, way_out: Nat, many_descriptors: None) -> None:
    """1,100 of them: a bridge has 1,023 ports. All reach out, none reaches another, on its own bridge or the other."""
    first = open_box(way_out)
    serve(first)
    home = spawner.current("native")
    hub = hubs.current(home)
    wires, held = [], contextlib.ExitStack()
    for _ in range(1099):
        namespace = drive(hubs.new_namespace(home))
        wires.append(hub.attach(namespace, way_out))
        held.callback(os.close, os.dup(namespace.fd))  # in the place of a PID 1
        namespace.close()
    assert len({wire.address for wire in wires} | {address_of(first)}) == 1100
    assert len({wire.subnet.name for wire in wires}) == 2
    last = open_box(way_out)
    serve(last)
    assert address_of(last).rpartition(".")[0] != address_of(first).rpartition(".")[0]
    for one, other in ((first, last), (last, first)):
        assert python(one, "print(get(*sys.argv[1:3], 1000))", *peer.at) == "1000\n"
        assert reached(one, address_of(other)) != ["done"]
    held.close()
    descriptors = len(os.listdir("/proc/self/fd"))
    for wire in wires:
        wire.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors, "a wire has none"
    again = open_box(way_out)
    assert python(again, "print(get(*sys.argv[1:3], 1000))", *peer.at) == "1000\n"
