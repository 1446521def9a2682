"""Sandboxes with addresses of their own, and servers for them on this host's own address: only rules let anyone reach that."""

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import procs
from support.features import missing
from support.waiting import await_deaths, open_pidfds

from lisrt import Nat, Sandbox, hubs, spawner
from lisrt.kernel import helper
from lisrt.nat import program
from lisrt.nat.hub import own_addresses

PACKAGES = {"pasta": "passt", "slirp4netns": "slirp4netns"}
both_uplinks = pytest.mark.parametrize("uplink", list(PACKAGES), indirect=True)
OpenBox = Callable[..., Sandbox]
#: Begins every script that runs inside: `talk(ADDRESS, PORT, "echo")` is a connection to a Peer that has been told what to do.
#: `attempt` returns the name of the error, or "done", and whether that took a second.
BEGIN = """
import errno, json, os, socket, sys, threading, time

def attempt(what):
    begun = time.monotonic()
    try: what(); said = "done"
    except OSError as error: said = errno.errorcode.get(error.errno) or type(error).__name__
    return [said, "at once" if time.monotonic() - begun < 1 else "late"]

def dial(address, port, timeout=20):
    return socket.create_connection((address, int(port)), timeout)

def talk(address, port, *words, timeout=20):
    made = dial(address, port, timeout)
    made.sendall((" ".join(words) + chr(10)).encode())
    return made

def everything(connection):
    parts = []
    while part := connection.recv(1 << 16): parts.append(part)
    return b"".join(parts)

def exactly(connection, size):
    with connection.makefile("rb") as file: return file.read(size)

def take(address, port, size):
    with talk(address, port, "take", str(size)) as one:
        one.sendall(bytes(size))
        return int(everything(one))

def get(address, port, size):
    return len(everything(talk(address, port, "give", str(size))))
"""


class Peer:
    """A host that speaks TCP and UDP. A connection says in its first line what it wants: `echo`; `give N`, so many bytes;
    `take N`, which is answered when so many have come. By UDP all is echoed."""

    def __init__(self, address: str, *, udp: bool = True) -> None:
        self.address = address
        self.given = self.taken = self.connections = 0
        self._server = socket.create_server((address, 0))
        self.port = int(self._server.getsockname()[1])
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.bind((address, self.port))
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._echo_datagrams)]
        self._open: set[socket.socket] = set()
        for thread in self._threads:
            thread.start()

    @property
    def at(self) -> tuple[str, str]:
        """Address and port, as arguments of a script."""
        return self.address, str(self.port)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._speak, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _speak(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            wanted, *words = lines.readline().decode().split() or ["nothing"]
            if wanted == "give":
                left = int(words[0])
                while left:
                    sent = connection.send(b"x" * min(left, 1 << 16))
                    left -= sent
                    self.given += sent
            elif wanted == "take":
                left = size = int(words[0])
                while left and (part := lines.read1(min(left, 1 << 16))):
                    left -= len(part)
                    self.taken += len(part)
                connection.sendall(str(size - left).encode())
            else:
                for part in iter(lambda: lines.read1(1 << 16), b""):
                    connection.sendall(part)

    def _echo_datagrams(self) -> None:
        while True:
            data, sender = self._udp.recvfrom(1 << 16)
            if not data:
                return
            self._udp.sendto(data, sender)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._udp.getsockname())
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._server.close()
        self._udp.close()


@pytest.fixture
def own_address() -> str:
    found = own_addresses()
    return found[0] if found else missing("address but its loopback's")


@pytest.fixture
def peer(own_address: str) -> Iterator[Peer]:
    made = Peer(own_address)
    yield made
    made.close()


@pytest.fixture
def loopback_peer() -> Iterator[Peer]:
    made = Peer("127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def way_out(peer: Peer) -> Nat:
    """Rules that let a sandbox reach the peer."""
    return Nat(allow=[peer.address])


class Hubs:
    """Of spawners of this test's own: the first sandbox starts an uplink."""

    def __init__(self) -> None:
        self._sockets: list[int] = []

    def see(self, arguments: list[str], fds: tuple[int, ...]) -> None:
        if arguments[0].startswith("tether"):
            self._sockets.append(os.fstat(fds[0]).st_ino)

    def uplink(self) -> set[int]:
        """The processes of the last one that was started, and its holder."""
        wanted = f"socket:[{self._sockets[-1]}]"
        tethers = [pid for pid in procs.pids() if procs.name_of(pid) == "lisrt-tether" and wanted in _descriptors(pid)]
        assert len(tethers) == 1, f"tethers: {tethers}"
        return {tethers[0], *procs.descendants(tethers[0])}

    def end(self) -> None:
        """Kills the last one that was started."""
        ends = open_pidfds(self.uplink())
        assert len(ends) > 1, "there is none"
        for pid, end in ends.items():
            if procs.name_of(pid) != "lisrt-tether":  # that ends by itself then
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(end, signal.SIGKILL)
        left = await_deaths(ends.values(), within=10)
        for end in ends.values():
            os.close(end)
        assert not left


def _descriptors(pid: int) -> set[str]:
    with contextlib.suppress(OSError):
        return {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return set()


@pytest.fixture
def uplink(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, working_host: None) -> str:
    """The one that this test's hub has: as asked for by `both_uplinks`, or else the first that is there."""
    wanted = getattr(request, "param", None)
    name = wanted or next((name for name in program.NAMES if shutil.which(name)), "pasta")
    if not shutil.which(name):
        missing(f"{name}: Debian's package {PACKAGES[name]}")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        missing("/dev/net/tun that everybody may open")
    monkeypatch.setenv("LISRT_UPLINK", name)
    return name


@pytest.fixture
def its_hubs(uplink: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hubs]:
    """A spawner of the test's own, and with it a hub."""
    made = Hubs()
    start = helper.start

    def seen(arguments: list[str], fds: tuple[int, ...]) -> None:
        made.see(arguments, fds)
        start(arguments, fds)

    monkeypatch.setattr(helper, "start", seen)
    monkeypatch.setattr(spawner, "_current", {})
    yield made
    for home in spawner.running_all():
        hub = hubs.running(home)
        if hub is not None:
            hub.close()
        home.stop()


@pytest.fixture
def open_box(its_hubs: Hubs) -> Iterator[OpenBox]:
    """Make sandboxes with options of one's own; all are closed at the end of the test."""
    with contextlib.ExitStack() as boxes:

        def make(network: Any = "nat", **options: Any) -> Sandbox:
            return boxes.enter_context(Sandbox(network=network, launcher="native", **options))

        yield make


def python(box: Any, script: str, *arguments: str, timeout: float = 50) -> Any:
    """What a script prints, after BEGIN; it must succeed."""
    return box.run(["python3", "-c", BEGIN + script, *arguments], timeout=timeout).check().stdout


def address_of(box: Sandbox) -> str:
    """Of its own interface."""
    wire = box._box.channel.wire
    assert wire is not None
    return wire.address
