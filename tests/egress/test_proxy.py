"""Programs in a sandbox with a Proxy: what they reach, what they are told where they don't, and what is written down."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.subjects import Box
from support.waiting import eventually

from lisrt import Limits, Proxy
from lisrt.egress import gateway

from .conftest import Web

#: Asks the proxy for URLs, one after the other on one connection; prints status, reason and the length of each answer.
ASK = """if True:
    import http.client, sys
    proxy = http.client.HTTPConnection("127.0.0.1", 3128, timeout=40)
    for line in sys.argv[1:]:
        method, _, url = line.partition(" ")
        proxy.request(method, url, body=b"y" * 100_000 if method == "POST" else None)
        answer = proxy.getresponse()
        print(answer.status, answer.reason, len(answer.read()))
"""
#: Says what comes from stdin to the proxy; what that says goes to stdout.
SAY = """if True:
    import socket, sys
    proxy = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=40)
    try:
        proxy.sendall(sys.stdin.buffer.read())
        proxy.shutdown(socket.SHUT_WR)
        while part := proxy.recv(65536):
            sys.stdout.buffer.write(part)
    except OSError as error:  # ENOTCONN, too: it has heard enough
        if isinstance(error, TimeoutError): raise
"""
SOCKS = """if True:
    import socket, struct, sys
    host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    proxy = socket.create_connection(("127.0.0.1", 1080), timeout=40)
    proxy.sendall(bytes((5, 1, 0)))
    assert proxy.recv(2) == bytes((5, 0))
    proxy.sendall(bytes((5, 1, 0, 3, len(host))) + host.encode() + struct.pack("!H", port))
    status = proxy.recv(10)[1]
    print(status)
    if status == 0:
        proxy.sendall(f"GET {path} HTTP/1.0\\r\\n\\r\\n".encode())
        answer = b""
        while part := proxy.recv(65536):
            answer += part
        print(answer.rpartition(b"\\r\\n\\r\\n")[2].decode())
"""
OpenBox = Callable[..., Box]


def ask(box: Box, *lines: str) -> list[str]:
    return box.python(ASK, *lines, timeout=50).check().stdout.splitlines()


def say(box: Box, what: bytes, port: int = 3128) -> bytes:
    return box.python(SAY, str(port), stdin=what, timeout=50, max_output=1 << 22).check().stdout_bytes


def test_what_is_allowed_is_reached(open_box: OpenBox, web: Web) -> None:
    """Questions with and without bodies on one connection, answers of any size; headers are the host's, not the proxy's."""
    box = open_box(network=Proxy(allow=web.rules))
    url = f"http://localhost:{web.port}"
    lines = ask(box, f"GET {url}/a?b=c", f"POST {url}/post", f"HEAD {url}/h", f"GET {url}/?size=3000000")
    assert lines == ["200 OK 12", "200 OK 17", "200 OK 0", "200 OK 3000000"]
    assert [(method, path, len(body)) for method, path, _, body in web.asked[:2]] == [
        ("GET", "/a?b=c", 0),
        ("POST", "/post", 100_000),
    ]
    headers = web.asked[0][2]
    assert headers["host"] == f"localhost:{web.port}" and not [name for name in headers if name.startswith("proxy")]


def test_what_is_not_allowed_is_refused_with_the_reason(open_box: OpenBox, web: Web) -> None:
    """A 403 that names the rule, for a request and for a tunnel; nothing was asked; all of it is written down."""
    box = open_box(network=Proxy(allow=["*.example.org", f"127.0.0.1:{web.port}"], deny=["bad.example.org:*"]))
    assert ask(box, f"GET http://localhost:{web.port}/") == [f"403 lisrt: no rule allows localhost:{web.port} 38"]
    assert ask(box, "GET http://bad.example.org/")[0].startswith("403 lisrt: rule 'bad.example.org:*' denies bad.example.org:80")
    tunnel = say(box, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert tunnel.startswith(b"HTTP/1.1 403 lisrt: no rule allows 127.0.0.1:1\r\n")
    assert web.asked == []
    kept = [(one.host, one.method, one.allowed, one.rule) for one in box.sandbox.egress]
    assert kept == [
        ("localhost", "GET", False, ""),
        ("bad.example.org", "GET", False, "bad.example.org:*"),
        ("127.0.0.1", "CONNECT", False, ""),
    ]


@pytest.mark.parametrize("headers", [b"Host: evil.test\r\n", b"Host: localhost\r\nHost: evil.test\r\n", b"host:evil.test:99\r\n"])
def test_the_host_header_is_the_urls(open_box: OpenBox, web: Web, headers: bytes) -> None:
    """What a request says itself is not passed on, or is no request at all."""
    box = open_box(network=Proxy(allow=web.rules))
    answer = say(box, b"GET http://localhost:%d/ HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (web.port, headers))
    assert answer.startswith(b"HTTP/1.1 200") == bool(web.asked)
    assert all(one[2]["host"] == f"localhost:{web.port}" for one in web.asked)


@pytest.mark.parametrize(
    "what",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET https://localhost/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://user@localhost/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://localhost:x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT localhost HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST http://localhost/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET http://localhost/ HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
    ],
)
def test_what_is_no_request_to_a_proxy(open_box: OpenBox, what: bytes) -> None:
    """A 4xx, and the next one is served."""
    box = open_box(network=Proxy(allow=["localhost:*", "127.0.0.0/8:*", "[::1]:*"]))
    assert say(box, what)[:10] in (b"HTTP/1.1 4", b"")
    assert ask(box, "GET http://nowhere.test/")[0].startswith("403")


def test_socks(open_box: OpenBox, web: Web) -> None:
    """The other way of asking: the same rules; nonsense ends it."""
    box = open_box(network=Proxy(allow=web.rules))
    done = box.python(SOCKS, "localhost", str(web.port), "/x", timeout=50).check()
    assert done.stdout == "0\nGET /x 0\n"
    assert box.python(SOCKS, "elsewhere.test", "80", "/", timeout=50).check().stdout == "2\n"
    assert say(box, b"\x04\x01\x00\x50", 1080) == b""
    assert say(box, b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", 1080) == b"\x05\x00\x05\x07\x00\x01" + b"\x00" * 6


def test_a_tunnel_carries_anything(open_box: OpenBox, raw: Callable[..., int]) -> None:
    """Both ways, with ends that come one after the other."""

    def echo(connection: socket.socket) -> None:
        data = b""
        while part := connection.recv(65536):
            data += part
        connection.sendall(data[::-1])

    port = raw(echo)
    box = open_box(network=Proxy(allow=[f"127.0.0.0/8:{port}"]))
    answer = say(box, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n%s" % (port, bytes(range(256)) * 1000))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and body == (bytes(range(256)) * 1000)[::-1]
    eventually(lambda: box.sandbox.egress[-1].ended)
    record = box.sandbox.egress[-1]
    assert (record.method, record.sent, record.received) == ("CONNECT", 256_000, 256_000)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"", "502"), (b"nonsense\r\n\r\n", "502"), (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000, "502")],
)
def test_hosts_that_answer_badly(open_box: OpenBox, raw: Callable[..., int], answer: bytes, status: str) -> None:
    """Are told as such, and the proxy goes on."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    port = raw(serve)
    box = open_box(network=Proxy(allow=[f"127.0.0.0/8:{port}"]))
    assert ask(box, f"GET http://127.0.0.1:{port}/")[0].startswith(status)
    assert ask(box, "GET http://127.0.0.1:1/")[0].startswith("403")


def test_hosts_that_are_not_there(open_box: OpenBox) -> None:
    """Nobody listens; nobody has that name."""
    box = open_box(network=Proxy(allow=["127.0.0.1:9", "no-such-name.invalid"]))
    assert ask(box, "GET http://127.0.0.1:9/")[0].startswith("502 lisrt: 127.0.0.1:9: Connect")
    assert ask(box, "GET http://no-such-name.invalid/")[0].startswith("502 lisrt: no-such-name.invalid could not be resolved")


def test_nothing_else_gets_out(open_box: OpenBox, web: Web) -> None:
    """There is no route, no name server, no other host's loopback; only the proxy."""
    box = open_box(network=Proxy(allow=["*:*"]))
    script = """if True:
        import socket
        def attempt(*address):
            try: socket.create_connection(address, timeout=5); return "connected"
            except OSError as error: return type(error).__name__
        print(attempt("127.0.0.1", PORT), attempt("192.0.2.1", 80), attempt("localhost", PORT))
        print(open("/proc/net/dev").read().count(":"))
    """.replace("PORT", str(web.port))
    assert box.python(script).check().stdout == "ConnectionRefusedError OSError ConnectionRefusedError\n1\n"
    assert ask(box, f"GET http://127.0.0.1:{web.port}/")[0].startswith("403")
    assert ask(box, f"GET http://localhost:{web.port}/")[0].startswith("403")


def test_rules_that_change(open_box: OpenBox, web: Web, raw: Callable[..., int]) -> None:
    """From now on, for connections that there are as well; and on the twin of a fork they are its own."""
    hold = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"begun")
        hold.wait(50)

    port = raw(serve)
    box = open_box(network=Proxy(allow=[*web.rules, f"127.0.0.0/8:{port}"]))
    waiting = box.start("run", ["python3", "-c", SAY, "3128"], stdin=b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
    eventually(lambda: bool(box.sandbox.egress) and box.sandbox.egress[0].received == 5)
    box.set_network("none")
    assert waiting.result().stdout.endswith("begun")
    hold.set()
    assert ask(box, f"GET http://localhost:{web.port}/")[0].startswith("403")
    twin = box.fork()
    box.set_network(Proxy(allow=web.rules))
    assert ask(box, f"GET http://localhost:{web.port}/") == ["200 OK 7"]
    assert ask(twin, f"GET http://localhost:{web.port}/")[0].startswith("403")
    twin.set_network(Proxy())
    box.snapshot()
    assert ask(box, f"GET http://localhost:{web.port}/") == ["200 OK 7"], "a twin's rules are its own"
    with pytest.raises(ValueError, match="made with a Proxy"):
        open_box().set_network("none")


def test_rules_that_change_meanwhile(open_box: OpenBox, raw: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A site's proxy takes its time: what it opens then is not used, and the new rules say so."""
    asked, go_on = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        asked.set()
        go_on.wait(50)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nit is open")
        connection.recv(1)

    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{raw(serve)}")
    box = open_box(network=Proxy(allow=["example.org"]))
    waiting = box.start("run", ["python3", "-c", SAY, "3128"], stdin=b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert asked.wait(50)
    box.set_network("none")
    go_on.set()
    said = waiting.result().stdout
    assert said.startswith("HTTP/1.1 403"), said
    assert "open" not in said


def test_addresses_that_are_taken_back(open_box: OpenBox, web: Web, raw: Callable[..., int]) -> None:
    """The name is allowed still, its address is not: the connection ends."""
    hold = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"begun")
        hold.wait(50)

    port = raw(serve)
    box = open_box(network=Proxy(allow=[f"localhost:{port}", f"127.0.0.0/8:{port}"]))
    waiting = box.start("run", ["python3", "-c", SAY, "3128"], stdin=b"CONNECT localhost:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
    eventually(lambda: bool(box.sandbox.egress) and box.sandbox.egress[0].received == 5)
    box.set_network(Proxy(allow=[f"localhost:{port}"]))
    assert waiting.result().stdout.endswith("begun")
    hold.set()
    assert box.sandbox.egress[0].why == "the rules have changed"


def test_other_limits_from_now_on(open_box: OpenBox, web: Web) -> None:
    box = open_box(network=Proxy(allow=web.rules))
    url = f"http://localhost:{web.port}/?size=5000"
    assert ask(box, f"GET {url}") == ["200 OK 5000"]
    box.set_network(Proxy(allow=web.rules, max_bytes=1000))
    assert ask(box, f"GET {url}")[0].startswith("403")


def test_a_program_that_connects_and_says_nothing(open_box: OpenBox, web: Web) -> None:
    """A thousand times: this process has its descriptors still, others are served, and with the sandbox all of them go."""
    greedy, other = open_box(network=Proxy()), open_box(network=Proxy(allow=web.rules))
    script = """if True:
        import socket, time
        held = [socket.create_connection(("127.0.0.1", 3128)) for _ in range(1000)]
        print("held", flush=True)
        time.sleep(60)
    """
    running = greedy.start("run", ["python3", "-c", script])
    eventually(lambda: len(gateway.current()._clients) == gateway.current()._most_of_one, within=40)
    assert ask(other, f"GET http://localhost:{web.port}/") == ["200 OK 7"]
    greedy.close()
    running.exception()
    eventually(lambda: not gateway.current()._clients, within=10)


def test_so_many_bytes_and_no_more(open_box: OpenBox, web: Web) -> None:
    """Then connections end."""
    box = open_box(network=Proxy(allow=web.rules, max_bytes=1_000_000))
    url = f"http://localhost:{web.port}/?size="
    assert ask(box, f"GET {url}900000") == ["200 OK 900000"]
    box.snapshot()
    box.reset()
    assert 900_000 <= box.sandbox.egress[0].received < 901_000, "neither ends with the life of a PID 1"
    assert not box.python(ASK, f"GET {url}900000", timeout=50).ok
    assert "bytes" in box.sandbox.egress[-1].why


def test_a_question_that_is_too_long_is_ended(open_box: OpenBox, web: Web) -> None:
    """The host waits for its rest, and would for ever; and from then on nothing is asked any more."""
    box = open_box(network=Proxy(allow=web.rules, max_bytes="20kB"))
    url = f"http://localhost:{web.port}"
    (answer,) = ask(box, f"POST {url}/post")
    assert answer.startswith("502")
    record = box.sandbox.egress[-1]
    assert (record.ended, "more than 20000 bytes" in record.why) == (True, True)
    (answer,) = ask(box, f"GET {url}/")
    assert answer.startswith("403")
    assert (box.sandbox.egress[-1].allowed, box.sandbox.egress[-1].rule) == (False, "max_bytes")


def test_heads_count(open_box: OpenBox, web: Web) -> None:
    """What a program has to say can be said in a URL."""
    box = open_box(network=Proxy(allow=web.rules, max_bytes=20_000))
    long = f"GET http://localhost:{web.port}/?{'x' * 6000}"
    assert ask(box, long)[0].startswith("200")
    for _ in range(4):
        box.python(ASK, long, timeout=50)
    assert box.sandbox.egress[0].sent > 6000
    assert (box.sandbox.egress[-1].allowed, box.sandbox.egress[-1].rule) == (False, "max_bytes")


def test_what_programs_find(open_box: OpenBox) -> None:
    """The variables that they look for their proxy in; nothing of the host's own."""
    box = open_box(network=Proxy())
    assert box.sh("echo $http_proxy $HTTPS_PROXY").stdout == "http://127.0.0.1:3128 http://127.0.0.1:3128\n"
    assert "this process's proxy: nothing" in box.guarantees["network"]


def test_without_rules_that_make_sense(open_box: OpenBox) -> None:
    for wrong in ({"allow": "example.org"}, {"allow": [1]}):
        with pytest.raises(TypeError):
            Proxy(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="by host"):
        Proxy(headers={"Authorization": "x"})  # type: ignore[dict-item]
    for bad in ({"allow": ["a/b"]}, {"max_bytes": 0}):
        with pytest.raises(ValueError):
            Proxy(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="network must be one of"):
        open_box(network="proxy")


def test_many_at_once(open_box: OpenBox, web: Web) -> None:
    """Connections of one sandbox: more than are served at a time."""
    box = open_box(network=Proxy(allow=web.rules), limits=Limits(pids=600))
    script = """if True:
        import http.client, sys, threading
        found = []
        def get():
            proxy = http.client.HTTPConnection("127.0.0.1", 3128, timeout=50)
            proxy.request("GET", sys.argv[1])
            found.append(len(proxy.getresponse().read()))
        threads = [threading.Thread(target=get) for _ in range(300)]
        for one in threads: one.start()
        for one in threads: one.join()
        print(len(found), set(found))
    """
    done = box.python(script, f"http://localhost:{web.port}/?size=1000", timeout=55).check()
    assert done.stdout == "300 {1000}\n", done.stderr


def test_a_proxy_that_ends(open_box: OpenBox, web: Web, raw: Callable[..., int]) -> None:
    """In the middle of a transfer: connections end, new ones are told, nothing gets out; the next sandbox has another one."""
    hold = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"begun")
        hold.wait(50)

    port = raw(serve)
    box = open_box(network=Proxy(allow=[*web.rules, f"127.0.0.0/8:{port}"]))
    tunnel = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port
    waiting = box.start("run", ["python3", "-c", SAY, "3128"], stdin=tunnel)
    eventually(lambda: bool(box.sandbox.egress) and box.sandbox.egress[0].received == 5)
    one = gateway.current()
    one._loop.call_soon_threadsafe(one._loop.stop)
    assert waiting.result().stdout.endswith("begun")
    hold.set()
    assert ask(box, f"GET http://localhost:{web.port}/") == ["503 lisrt: the proxy of this sandbox has ended 0"]
    assert web.asked == []
    other = open_box(network=Proxy(allow=web.rules))
    assert ask(other, f"GET http://localhost:{web.port}/") == ["200 OK 7"]


def test_uploads_are_not_its_business(open_box: OpenBox, tmp_path: Path) -> None:
    """Files go as ever."""
    box = open_box(network=Proxy())
    box.write("x", "1")
    assert box.read_text("x") == "1"
