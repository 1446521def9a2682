"""Networks that change while programs use them: uplinks that die, limits that are reached, rules that are others."""

import json
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from support.waiting import eventually, not_blocked

from lisrt import Nat, Sandbox

from .conftest import Hubs, OpenBox, Peer, both_uplinks, python

#: Gets bytes without end, until something ends that.
STREAM = """
one = talk(*sys.argv[1:3], "give", "1000000000000", timeout=5)
try:
    while one.recv(1 << 16): pass
    print("end")
except OSError as error: print(type(error).__name__)
"""
#: Sends bytes without end.
UPLOAD = """
one = talk(*sys.argv[1:3], "take", "1000000000000", timeout=5)
try:
    while True: one.send(bytes(1 << 16))
except OSError as error: print(type(error).__name__)
"""
DIAL = "print(json.dumps([attempt(lambda: dial(*sys.argv[1:3])) for _ in range(20)]))"
ERRORS = {"ConnectionResetError\n", "TimeoutError\n", "BrokenPipeError\n", "OSError\n"}


def started(box: Sandbox, peer: Peer, script: str = STREAM) -> "Future[Any]":
    """A transfer that has begun."""
    before = peer.given + peer.taken
    future: Future[Any] = Future()
    threading.Thread(target=lambda: future.set_result(python(box, script, *peer.at))).start()
    eventually(lambda: peer.given + peer.taken > before + (1 << 22), within=20)
    return future


def answers(box: Sandbox, peer: Peer) -> bool:
    return bool(python(box, "print(get(*sys.argv[1:3], 1000))", *peer.at) == "1000\n")


@both_uplinks
def test_an_uplink_that_dies(its_hubs: Hubs, open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """In the middle of a transfer: that ends, nothing else opens, and new connections are told at once. The next sandbox starts
    another one, and then there is a way out for all."""
    box = open_box(way_out)
    assert answers(box, peer)
    waiting = started(box, peer)
    its_hubs.end()
    with not_blocked():
        assert waiting.result() in ERRORS
    connections = peer.connections
    told = json.loads(python(box, DIAL, *peer.at))
    assert {what for what, _ in told} <= {"ENETUNREACH", "EHOSTUNREACH"} and {when for _, when in told} == {"at once"}, told
    assert json.loads(python(box, DIAL, "10.1.2.3", "80"))[0][0] in ("ENETUNREACH", "EHOSTUNREACH")
    assert peer.connections == connections
    other = open_box(way_out)
    assert answers(other, peer) and answers(box, peer)
    box.reset()
    assert answers(box, peer)


def test_an_uplink_that_dies_again(its_hubs: Hubs, open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """What a fork, a snapshot or a reset needs of it is there again, whoever asks for it."""
    box = open_box(way_out)
    for again in (box.reset, box.snapshot):
        its_hubs.end()
        again()
    its_hubs.end()
    with box.fork() as twin:
        assert not answers_somehow(twin, peer) or answers(twin, peer)
    open_box(way_out)
    assert answers(box, peer)


def answers_somehow(box: Sandbox, peer: Peer) -> bool:
    return bool(json.loads(python(box, DIAL, *peer.at))[0][0] == "done")


@both_uplinks
@pytest.mark.parametrize("way", ["get", "take"])
def test_a_rate(open_box: OpenBox, peer: Peer, uplink: str, way: str) -> None:
    """Is held, in each direction."""
    rate, size = 2_000_000, 4_000_000
    box = open_box(Nat(allow=[peer.address], rate=rate))
    script = "begun = time.monotonic(); print(WAY(*sys.argv[1:3], int(sys.argv[3])), time.monotonic() - begun)"
    got, seconds = python(box, script.replace("WAY", way), *peer.at, str(size)).split()
    assert got == str(size)
    assert size / float(seconds) < 1.4 * rate  # without one it is a hundred times that; how much less depends on the machine


@both_uplinks
def test_so_many_bytes_and_no_more(open_box: OpenBox, peer: Peer) -> None:
    """Connections end; new ones are told; neither a snapshot nor a reset gives it more."""
    box = open_box(Nat(allow=[peer.address], max_bytes=3_000_000))
    assert answers(box, peer)
    with not_blocked():
        assert python(box, STREAM, *peer.at) in ERRORS
    for again in (lambda: None, box.snapshot, box.reset):
        again()
        told = json.loads(python(box, DIAL, *peer.at))
        assert {what for what, _ in told} <= {"ECONNREFUSED", "EHOSTUNREACH", "ECONNRESET"}, (again, told)
        assert {when for _, when in told} == {"at once"}
    assert answers(open_box(Nat(allow=[peer.address])), peer), "it is that sandbox's alone"


@both_uplinks
@pytest.mark.parametrize("script", [STREAM, UPLOAD])
def test_rules_that_change(open_box: OpenBox, peer: Peer, way_out: Nat, script: str) -> None:
    """From now on, for connections that there are as well, and as often as one likes."""
    box = open_box(way_out)
    other = open_box(way_out)
    waiting = started(box, peer, script)
    for closed in ("none", "nat"):  # the second has no rule for the peer
        box.set_network(closed)
        with not_blocked():
            assert waiting.result() in ERRORS
        told = json.loads(python(box, DIAL, *peer.at))
        assert "done" not in {what for what, _ in told} and {when for _, when in told} == {"at once"}, told
        assert answers(other, peer)
        assert ("closed" in box.guarantees["network"]) == (closed == "none")
        box.set_network(way_out)
        assert answers(box, peer)
        waiting = started(box, peer, script)
    box.set_network("none")
    assert waiting.result() in ERRORS


def test_what_is_closed_stays_so(open_box: OpenBox, peer: Peer, way_out: Nat) -> None:
    """Through snapshot and reset, and for twins; each twin's rules are its own."""
    box = open_box(way_out)
    box.set_network("none")
    for again in (box.snapshot, box.reset):
        again()
        assert not answers_somehow(box, peer), again
    with box.fork() as twin:
        assert not answers_somehow(twin, peer) and not answers_somehow(box, peer)
        twin.set_network(way_out)
        assert answers(twin, peer) and not answers_somehow(box, peer)
    box.set_network(way_out)
    box.reset()
    assert answers(box, peer)


def test_rules_that_are_none(open_box: OpenBox) -> None:
    box = open_box()
    for wrong in ("host", "proxy"):
        with pytest.raises(ValueError):
            box.set_network(wrong)
    with pytest.raises(ValueError, match="rate"):
        box.set_network(Nat(rate="1MB"))
    with Sandbox(launcher="native") as other, pytest.raises(ValueError):
        other.set_network("nat")
