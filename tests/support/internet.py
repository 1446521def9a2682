"""An internet of the test's own: two hosts, a name server and a network that is somebody's private one, in network namespaces.

    unshare --user --map-current-user --keep-caps --net --mount python internet.py DIRECTORY COMMAND...

COMMAND runs, without any power over it, in a namespace whose one way out leads to them; DIRECTORY/ca.pem is whom to trust.
"""

import ctypes
import http.server
import itertools
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path

WAY_OUT, NAME_SERVER = "203.0.113.1", "9.9.9.9"
ORG, NET, PRIVATE, METADATA = "93.184.215.14", "151.101.0.223", "10.0.0.5", "169.254.169.254"
NAMES = {
    "example.org": ORG,
    "www.example.org": ORG,
    "example.net": NET,
    "files.example.net": NET,
    "private.example.org": PRIVATE,
    "metadata.example.org": METADATA,
    "loopback.example.org": "127.0.0.1",
    "everything.example.org": "0.0.0.0",
    "mapped.example.org": f"::ffff:{PRIVATE}",
    "site.example.org": "203.0.113.2",
}
REBINDING = "rebinding.example.org"
"""Alternates between a public address and a private one."""
COMMAND_PREFIX = ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--mount")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def certificate(directory: Path) -> None:
    """One for all names, signed by itself."""
    names = ",".join(f"DNS:{name}" for name in NAMES)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        + ["-subj", "/CN=internet", "-addext", f"subjectAltName={names}"]
        + ["-keyout", str(directory / "key.pem"), "-out", str(directory / "ca.pem")],
        check=True,
        capture_output=True,
    )


class Page(http.server.BaseHTTPRequestHandler):
    """Says which host was asked, on which address; /to?URL redirects; /size?N sends so many bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = json.dumps({"address": self.connection.getsockname()[0], "host": self.headers.get("Host")}).encode()
        self.send_response(302 if path == "/to" else 200)
        if path == "/to":
            self.send_header("Location", query)
        size = int(query) if path == "/size" else len(body)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(b"x" * size if path == "/size" else body)

    do_POST = do_GET

    def log_message(self, *_args: object) -> None:
        pass


def serve_pages(directory: Path) -> None:
    for port in (80, 443):
        server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Page)
        server.daemon_threads = True
        if port == 443:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(directory / "ca.pem", directory / "key.pem")
            # the handshake belongs to the connection's thread: one that never comes must not stop the others
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()


def answer(question: bytes, turns: "itertools.cycle[str]") -> bytes:
    """To one question of DNS (RFC 1035)."""
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    asked = question[12 : at + 5]
    (kind,) = struct.unpack("!H", asked[-4:-2])
    name = ".".join(labels).lower()
    address = next(turns) if name == REBINDING and kind == 1 else NAMES.get(name, "")
    family, wanted = (socket.AF_INET6, 28) if ":" in address else (socket.AF_INET, 1)
    known = name in NAMES or name == REBINDING
    found = bool(address) and kind == wanted
    head = question[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, int(found), 0, 0)
    if not found:
        return head + asked
    data = socket.inet_pton(family, address)
    return head + asked + struct.pack("!HHHIH", 0xC00C, wanted, 1, 0, len(data)) + data


def serve_names() -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((NAME_SERVER, 53))
    turns = itertools.cycle([ORG, PRIVATE])

    def run() -> None:
        while True:
            question, client = sock.recvfrom(1500)
            sock.sendto(answer(question, turns), client)

    threading.Thread(target=run, daemon=True).start()


def be_the_internet(directory: Path) -> None:
    """In a namespace of its own; ends with whoever has started it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    print("here", flush=True)
    sys.stdin.readline()  # the link has been made
    ip("link", "set", "lo", "up")
    for address in (ORG, NET, PRIVATE, METADATA, NAME_SERVER):
        ip("address", "add", f"{address}/32", "dev", "lo")
    ip("address", "add", f"{WAY_OUT}/24", "dev", "internet")
    ip("link", "set", "internet", "up")
    serve_pages(directory)
    serve_names()
    print("up", flush=True)
    signal.pause()


def main() -> None:
    directory = Path(sys.argv[1])
    if sys.argv[2:] == ["--internet"]:
        return be_the_internet(directory)
    certificate(directory)
    child = subprocess.Popen(
        ["unshare", "--net", sys.executable, __file__, str(directory), "--internet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin and child.stdout
    assert child.stdout.readline() == b"here\n"
    ip("link", "add", "site", "type", "veth", "peer", "name", "internet", "netns", str(child.pid))
    ip("link", "set", "lo", "up")
    ip("address", "add", "203.0.113.2/24", "dev", "site")
    ip("link", "set", "site", "up")
    ip("route", "add", "default", "via", WAY_OUT)
    child.stdin.write(b"\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"up\n"
    (directory / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\noptions timeout:2 attempts:1\n")
    subprocess.run(["mount", "--bind", directory / "resolv.conf", os.path.realpath("/etc/resolv.conf")], check=True)
    os.environ["SSL_CERT_FILE"] = str(directory / "ca.pem")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    powerless = ["setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--bounding-set=-all"]
    os.execvp("setpriv", [*powerless, *sys.argv[2:]])


if __name__ == "__main__":
    main()
