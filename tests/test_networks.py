"""Network namespaces that are made ahead, or handed on."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from lisrt import channel
from lisrt.kernel import wire
from lisrt.plan import Plan, make_plan
from lisrt.spawned import Spawner
from lisrt.spawner import current
from lisrt.waiting import drive

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture
def home() -> Spawner:
    return current("native")


@pytest.fixture
def handed_on() -> Iterator[channel.Heir]:
    network = channel.Heir()
    yield network
    network.close()


@pytest.fixture
def plan(home: Spawner) -> Plan:
    return make_plan(home.roots.get("host"), network="none", mounts=(), workdir="/", user=0, hostname="sandbox")


def test_what_is_no_network(home: Spawner, plan: Plan, handed_on: channel.Heir) -> None:
    """Handed on by a PID 1 that somebody has taken over, say: the next one makes its own, and nothing else happens."""
    handed_on.take(os.open("/dev/null", os.O_RDONLY))
    box = drive(channel.create(channel.Order(home, plan), handed_on))
    assert box.alive
    drive(box.close())


def test_a_network_that_is_nobodys(home: Spawner, plan: Plan, handed_on: channel.Heir) -> None:
    """The host's own, over which the spawner has no power: likewise."""
    handed_on.take(os.open("/proc/self/ns/net", os.O_RDONLY))
    box = drive(channel.create(channel.Order(home, plan), handed_on))
    own = channel.Heir()
    drive(box.close(own))
    drive(box.ended())
    assert os.fstat(own.fd).st_ino != os.fstat(handed_on.fd).st_ino
    own.close()


def test_only_who_asks_gets_one(home: Spawner, plan: Plan) -> None:
    """An end without an heir hands nothing over."""
    box = drive(channel.create(channel.Order(home, plan)))
    wire.send(box._sock, wire.encode_plain(wire.QUIT))
    assert wire.receive(wait_for(box._sock), with_fd=True) == (b"", -1)
    box.abandon()


def wait_for(sock: socket.socket) -> socket.socket:
    """When there is something to read, or an end."""
    select.select([sock], [], [], 30)
    return sock
