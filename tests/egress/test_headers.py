"""Headers that the proxy adds: keys that never enter the sandbox, on requests that leave this host encrypted."""

import json
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.subjects import Box

from lisrt import Proxy
from lisrt.egress.rules import Policy

KEY = "Bearer sk-0123456789"
ASK = """if True:
    import sys, urllib.error, urllib.request
    request = urllib.request.Request(sys.argv[1], headers={"Authorization": "mine", "X-Own": "1"})
    try:
        with urllib.request.urlopen(request, sys.argv[2].encode() if sys.argv[2:] else None, timeout=40) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.reason)
"""
OpenBox = Callable[..., Box]


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """Of an HTTPS server that answers with the headers and the length of the body that it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            answer = json.dumps({**{name.lower(): value for name, value in self.headers.items()}, "size": size}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / "key.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def rules(port: int) -> list[str]:
    return [f"localhost:{port}", f"127.0.0.0/8:{port}"]


# `localhost` is in no_proxy, as everywhere: programs would not ask the proxy for it.
ENV = {"no_proxy": "", "NO_PROXY": ""}


def test_the_key_is_added_outside(open_box: OpenBox, port: int) -> None:
    """In the place of the program's own; nothing in the sandbox knows it, nor what is written down."""
    proxy = Proxy(allow=rules(port), headers={f"localhost:{port}": {"Authorization": KEY, "X-Team": "a b"}})
    box = open_box(network=proxy, env=ENV)
    got = json.loads(box.python(ASK, "http://localhost/v1", timeout=50).check().stdout)
    assert (got["authorization"], got["x-team"], got["x-own"], got["host"]) == (KEY, "a b", "1", f"localhost:{port}")
    assert KEY not in repr(proxy) + repr(box.sandbox.egress) + box.sh("env; cat /proc/*/environ | tr '\\0' '\\n'").stdout
    [record] = box.sandbox.egress
    assert (record.host, record.port, record.method, record.allowed) == ("localhost", port, "GET", True)


def test_large_bodies_go_through(open_box: OpenBox, port: int) -> None:
    """Many records of TLS."""
    box = open_box(network=Proxy(allow=rules(port), headers={f"localhost:{port}": {"X-Key": "k"}}), env=ENV)
    source = ASK.replace("sys.argv[2].encode() if sys.argv[2:] else None", "b'x' * 3_000_000")
    assert json.loads(box.python(source, "http://localhost/v1", timeout=50).check().stdout)["size"] == 3_000_000


def test_rules_hold_all_the_same(open_box: OpenBox, port: int) -> None:
    """Headers allow nothing by themselves."""
    box = open_box(network=Proxy(headers={f"localhost:{port}": {"Authorization": KEY}}), env=ENV)
    assert box.python(ASK, "http://localhost/v1", timeout=50).check().stdout == f"403 lisrt: no rule allows localhost:{port}\n"


def test_a_host_that_nobody_vouches_for_gets_no_key(
    open_box: OpenBox, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The certificate is looked at before anything is sent."""
    other = tmp_path / "other.pem"
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    box = open_box(network=Proxy(allow=rules(port), headers={f"localhost:{port}": {"Authorization": KEY}}), env=ENV)
    said = box.python(ASK, "http://localhost/v1", timeout=50).check().stdout
    assert said.startswith("502 lisrt: localhost: ") and "certificate verify failed" in said


@pytest.mark.parametrize(
    "headers",
    [
        {"*.example.org": {"A": "b"}},
        {"10.0.0.1": {"A": "b"}},
        {"*": {"A": "b"}},
        {"example.org": {"A b": "c"}},
        {"example.org": {"A": "b\r\nC: d"}},
        {"example.org": {"A": ""}},
        {"example.org": {"Host": "b"}},
        {"example.org": {"Proxy-Authorization": "b"}},
        {"example.org": {"Content-Length": "1"}},
        {"GET example.org": {"A": "b"}},
    ],
)
def test_what_can_not_be_added(headers: dict[str, dict[str, str]]) -> None:
    """ValueError, at once, and without the value."""
    with pytest.raises(ValueError) as caught:
        Proxy(headers=headers)
    [(_, added)] = headers.items()
    assert not [value for value in added.values() if value.strip() and repr(value)[1:-1] in str(caught.value).split()]


def test_where_headers_belong() -> None:
    """By name, whatever its case; at 443 unless a port is named."""
    policy = Policy([], [], {"API.example.org": {"A": "b"}, "other.example.org:8443": {"A": "b"}})
    assert {name: one.port for name, one in policy.additions.items()} == {"api.example.org": 443, "other.example.org": 8443}
