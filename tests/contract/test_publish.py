"""Published ports: programs of this host reach what listens in a sandbox, and nothing else comes of it."""

import errno
import gc
import http.client
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fresh import python
from support.procs import assert_lives, init_of
from support.subjects import LAUNCHERS, Box
from support.waiting import eventually

import lisrt

OpenBox = Callable[..., Box]

#: Listens on a port, and goes on in the background when it does. Answers with what it was told, backwards, when that has ended.
BACKWARDS = """if True:
    import os, socket, sys, threading
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
    if os.fork():
        os._exit(0)
    def serve(connection, peer):
        with connection:
            told = b""
            while part := connection.recv(1 << 20):
                told += part
            connection.sendall(told[::-1] or peer[0].encode())
    while True:
        threading.Thread(target=serve, args=server.accept()).start()
"""
#: Takes nobody in. Its queue has room for one or two.
FULL = """if True:
    import os, signal, socket, sys
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=0)
    if os.fork():
        os._exit(0)
    signal.pause()
"""
WEB = """if True:
    import http.server, os
    server = http.server.ThreadingHTTPServer(("", 8080), http.server.SimpleHTTPRequestHandler)
    if os.fork():
        os._exit(0)
    server.serve_forever()
"""


def serve(box: Box, port: int = 8080) -> None:
    box.python(BACKWARDS, str(port), timeout=30).check()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=40)


def heard(connection: socket.socket) -> bytes:
    """Until its end; an end by force is one, too."""
    found = bytearray()
    try:
        while part := connection.recv(1 << 20):
            found += part
    except ConnectionResetError:
        pass
    return bytes(found)


def ask(port: int, data: bytes) -> bytes:
    """What comes back for it, with its end before the answer's beginning."""
    with connected(port) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return b""
        return heard(connection)


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_web_server(box: Box) -> None:
    """Its files, on a connection that is used again."""
    box.write("index.html", "hello from inside\n")
    box.python(WEB, timeout=30).check()
    port = box.publish(8080)
    assert dict(box.ports) == {8080: port}
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    for path, status in (("/", 200), ("/none", 404)):
        client.request("GET", path)
        answer = client.getresponse()
        assert answer.status == status and (b"hello from inside" in answer.read()) == (status == 200)
    client.close()


def test_half_of_it_ends_before_the_other(box: Box) -> None:
    """An end of file goes through, one way at a time; who listens sees a client of its own loopback."""
    serve(box)
    port = box.publish(8080)
    assert ask(port, b"abc") == b"cba"
    assert ask(port, b"") == b"127.0.0.1"


def test_much_both_ways(box: Box) -> None:
    """Ten megabytes there and back."""
    serve(box)
    data = os.urandom(1 << 20) * 10
    assert ask(box.publish(8080), data) == data[::-1]


def test_many_at_once(open_box: OpenBox) -> None:
    """A hundred that are open together."""
    box = open_box(limits=lisrt.Limits(pids=300))
    serve(box)
    port = box.publish(8080)
    clients = [connected(port) for _ in range(100)]
    for number, client in enumerate(clients):
        client.sendall(b"<%d>" % number)
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    assert [heard(client)[::-1] for client in clients] == [b"<%d>" % number for number in range(100)]
    for client in clients:
        client.close()


def test_more_than_are_served(open_box: OpenBox) -> None:
    """At a time: they wait until others have ended."""
    box = open_box(limits=lisrt.Limits(pids=900))
    serve(box)
    port = box.publish(8080)
    clients = [connected(port) for _ in range(300)]
    for number, client in enumerate(clients):
        client.sendall(b"<%d>" % number)
    for number, client in enumerate(clients):
        client.shutdown(socket.SHUT_WR)
        assert heard(client)[::-1] == b"<%d>" % number
        client.close()


def test_nobody_listens(box: Box) -> None:
    """The connection ends, at once. Later there is somebody."""
    port = box.publish(8080)
    assert ask(port, b"x") == b""
    serve(box)
    assert ask(port, b"abc") == b"cba"


def test_a_queue_that_is_full(box: Box) -> None:
    """Who does not take connections in keeps nobody from anything else: PID 1 goes on, and so do other ports."""
    box.python(FULL, "7000", timeout=30).check()
    serve(box)
    full, other = box.publish(7000), box.publish(8080)
    clients = [connected(full) for _ in range(80)]  # more than PID 1 has in mind at a time
    assert ask(other, b"abc") in (b"cba", b"")
    assert box.run(["echo", "still here"]).stdout == "still here\n"
    box.unpublish(7000)
    for client in clients:
        assert heard(client) == b""
        client.close()
    eventually(lambda: ask(other, b"abc") == b"cba")


def test_it_stays_through_snapshots(box: Box) -> None:
    """The same port, and whoever listens then; what was connected has ended, as the programs have."""
    serve(box)
    port = box.publish(8080)
    for freeze in (box.snapshot, box.reset):
        with connected(port) as before:
            before.sendall(b"x")
            freeze()
            assert heard(before) == b""
        assert dict(box.ports) == {8080: port}
        assert ask(port, b"abc") == b""
        serve(box)
        assert ask(port, b"abc") == b"cba"


def test_a_fork_has_none(box: Box) -> None:
    """And may have one of its own."""
    port = box.publish(8080)
    twin = box.fork()
    assert dict(twin.ports) == {} and dict(box.ports) == {8080: port}
    serve(twin)
    assert ask(port, b"abc") == b""
    other = twin.publish(8080)
    serve(box)
    box.start("close").result()  # not the twin
    assert ask(other, b"abc") == b"cba" and refused(port)


def test_unpublish(box: Box) -> None:
    """Its connections end and its port is free; the other one stays. Again does nothing."""
    serve(box)
    serve(box, 8081)
    port, other = box.publish(8080), box.publish(8081)
    with connected(port) as client:
        client.sendall(b"x")
        box.unpublish(8080)
        assert heard(client) == b""
    box.unpublish(8080)
    assert refused(port) and dict(box.ports) == {8081: other}
    assert ask(other, b"abc") == b"cba"
    assert box.publish(8080, port) == port
    assert ask(port, b"abc") == b"cba"


def test_ports_that_can_not_be(box: Box) -> None:
    """Taken, published already, or no ports."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"in use.*127\.0\.0\.1:{number}") as caught:
            box.publish(8080, number)
        assert caught.value.errno == errno.EADDRINUSE and dict(box.ports) == {}
    assert box.publish(8080, number) == number
    with pytest.raises(ValueError, match="published already"):
        box.publish(8080)
    for bad in (0, -1, 65536, True):
        with pytest.raises(ValueError, match="a port is a number"):
            box.publish(bad)
    with pytest.raises(TypeError):
        box.publish("80")  # type: ignore[arg-type]


@pytest.mark.parametrize("face", [lisrt.Sandbox, lisrt.AsyncSandbox])
def test_what_makes_no_sense_from_the_beginning(face: type) -> None:
    with pytest.raises(ValueError, match="one of the host already"):
        face(ports=[8080], network="host")
    with pytest.raises(ValueError, match="twice"):
        face(ports=[8080, 8080])
    with pytest.raises(TypeError):
        face(ports=8080)
    with pytest.raises(TypeError):
        face(ports="80")
    with pytest.raises(ValueError):
        face(ports={80: -1})


def test_closed_with_the_sandbox(box: Box) -> None:
    """Connections, too; and there is no other one."""
    serve(box)
    port = box.publish(8080)
    with connected(port) as client:
        client.sendall(b"x")
        box.close()
        assert heard(client) == b""
    assert refused(port) and dict(box.ports) == {}
    with pytest.raises(lisrt.SandboxGone):
        box.publish(8080)


# From here on for each launcher: both faces are the same.


@pytest.fixture(params=list(LAUNCHERS))
def launcher(request: pytest.FixtureRequest, working_host: None) -> dict[str, str]:
    return {"launcher": "native", "idmap": "subuid"} if request.param == "subuid" else {"launcher": request.param}


def backwards(box: lisrt.Sandbox) -> None:
    box.run(["python3", "-c", BACKWARDS, "8080"], timeout=30).check()


def test_from_the_beginning(launcher: dict[str, str]) -> None:
    """On any free port, or on one that was chosen; if that is taken, nothing is made."""
    with lisrt.Sandbox(ports=[8080, 8081], **launcher) as box:  # type: ignore[arg-type]
        assert list(box.ports) == [8080, 8081]
        backwards(box)
        assert ask(box.ports[8080], b"abc") == b"cba"
        taken = box.ports[8081]
        with pytest.raises(OSError, match=f"127.0.0.1:{taken}"):
            lisrt.Sandbox(ports={1: 0, 2: taken}, **launcher)  # type: ignore[arg-type]
        free = box.ports[8080]
    with lisrt.Sandbox(ports={8080: free}, **launcher) as box:  # type: ignore[arg-type]
        assert box.ports == {8080: free}
        backwards(box)
        assert ask(free, b"abc") == b"cba"


@pytest.mark.parametrize("kind", ["none", "proxy", "nat", "group"])
def test_with_every_network_of_its_own(launcher: dict[str, str], kind: str) -> None:
    """It needs no way out; and what goes this way is not in the journal of a Proxy."""
    if launcher["launcher"] == "bwrap" and kind in ("nat", "group"):
        return  # there is none
    network = {"proxy": lisrt.Proxy(), "group": lisrt.NetworkGroup()}.get(kind, kind)
    with lisrt.Sandbox(ports=[8080], network=network, **launcher) as box:  # type: ignore[arg-type]
        backwards(box)
        assert ask(box.ports[8080], b"abc") == b"cba"
        assert box.egress == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python complains of its socket
def test_nobody_refers_to_it_any_more(launcher: dict[str, str]) -> None:
    """Then it ends, without a word."""
    box = lisrt.Sandbox(ports=[8080], **launcher)  # type: ignore[arg-type]
    port = box.ports[8080]
    backwards(box)
    with connected(port) as client:
        client.sendall(b"x")
        del box
        gc.collect()
        assert heard(client) == b""
    assert refused(port)


def test_a_sandbox_that_has_died(launcher: dict[str, str], marker: str) -> None:
    """Connections end, the old and the new ones."""
    with lisrt.Sandbox(ports=[8080], **launcher) as box:  # type: ignore[arg-type]
        backwards(box)
        box.sh(f"sleep {marker} &")
        port = box.ports[8080]
        with connected(port) as client:
            client.sendall(b"x")
            os.kill(init_of(assert_lives(marker)), signal.SIGKILL)
            assert heard(client) == b""
        assert ask(port, b"abc") == b""
        eventually(lambda: not box.alive)
        with pytest.raises(lisrt.SandboxGone):
            box.publish(8081)
    assert refused(port)


def test_a_forked_child_has_no_copy(launcher: dict[str, str]) -> None:
    """A child of this process keeps neither port nor connections open, and can't end them."""
    with lisrt.Sandbox(ports=[8080], **launcher) as box:  # type: ignore[arg-type]
        backwards(box)
        port = box.ports[8080]
        kept = connected(port)
        kept.sendall(b"ab")
        eventually(lambda: ask(port, b"abc") == b"cba")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            said = [dict(box.ports)]
            try:
                box.publish(8081)
            except lisrt.SandboxGone:
                said.append({})
            box.unpublish(8080)
            box.close()
            os.write(write, repr(said).encode())
            signal.pause()
        os.close(write)
        try:
            assert os.read(read, 100) == b"[{}, {}]"
            kept.sendall(b"c")
            kept.shutdown(socket.SHUT_WR)
            assert heard(kept) == b"cba"
            assert ask(port, b"abc") == b"cba"
            box.close()
            assert refused(port)
        finally:
            kept.close()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(read)


def test_nothing_is_left(tmp_path: Path) -> None:
    """Of sandboxes with ports: no descriptor."""
    source = f"""
        import os, socket, stat
        from lisrt import Sandbox
        BACKWARDS = {BACKWARDS!r}

        def one():
            with Sandbox(ports=[8080]) as box:
                box.run(["python3", "-c", BACKWARDS, "8080"]).check()
                for _ in range(3):
                    with socket.create_connection(("127.0.0.1", box.ports[8080])) as client:
                        client.sendall(b"abc")
                        client.shutdown(socket.SHUT_WR)
                        assert client.recv(3) == b"cba"
                with socket.create_connection(("127.0.0.1", box.ports[8080])) as client:
                    box.unpublish(8080)

        def sockets():
            return sum(stat.S_ISSOCK(os.stat(fd).st_mode) for fd in range(256) if is_open(fd))

        def is_open(fd):
            try:
                os.fstat(fd)
                return True
            except OSError:
                return False

        one()
        before = sockets()
        for _ in range(5):
            one()
        assert sockets() <= before, (before, sockets())
    """
    python(source, cwd=tmp_path)
