"""A real registry (Debian's docker-registry) on loopback, and a server in front of it that misbehaves by a script."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.features import missing
from support.waiting import eventually

USER, PASSWORD = "user", "secret"
_HTPASSWD = "user:$2b$04$ZCLDexKJcPu5prvSzoY63OFK29QraCkAKQNHstwCaEGkuSiWvm6D6\n"


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@contextlib.contextmanager
def registry(place: Path, *, login: bool = False, certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """A registry whose data is in `place`, as HOST:PORT; dead afterwards."""
    program = shutil.which("docker-registry")
    if program is None:
        missing("docker-registry")
    port = free_port()
    place.mkdir(exist_ok=True)
    (place / "htpasswd").write_text(_HTPASSWD)
    lines = [
        "version: 0.1",
        "log: {level: error}",
        f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}",
        f"http:\n  addr: '127.0.0.1:{port}'",
    ]
    if certificate:
        lines.append(f"  tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}")
    if login:
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {place}/htpasswd}}}}")
    (place / "config.yml").write_text("\n".join(lines) + "\n")
    with open(place / "log", "wb") as log:
        process = subprocess.Popen([program, "serve", place / "config.yml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(port) or process.poll() is not None, within=30, what="the registry's start")
        assert process.poll() is None, (place / "log").read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def push(host: str, name: str, layout: Path, *options: str) -> None:
    """With skopeo, from an OCI image layout."""
    if shutil.which("skopeo") is None:
        missing("skopeo")
    environment = {**os.environ, "TMPDIR": str(layout.parent), "REGISTRY_AUTH_FILE": str(layout.parent / "none.json")}
    command = ["skopeo", "copy", "--dest-tls-verify=false", *options, f"oci:{layout}", f"docker://{host}/{name}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=layout.parent)
    assert done.returncode == 0, done.stderr


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


@dataclass(frozen=True)
class Request:
    """What came. Names of headers are lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "GET"


@dataclass(frozen=True)
class Answer:
    """Instead of the registry's."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """The registry's answer, of which only so many bytes come before the connection ends."""

    after: int


@dataclass(frozen=True)
class Changed:
    """The registry's answer to another request than this one, with another body where that is given."""

    headers: Mapping[str, str] | None = None
    body: bytes | None = None


Script = Callable[[Request], Answer | Cut | Changed | None]


class Front:
    """Passes GETs on to a registry, unless `script` has another idea; `requests` has all that came."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.requests: list[Request] = []
        self.script: Script = lambda request: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def blobs(self) -> list[Request]:
        """The requests for blobs so far."""
        return [request for request in self.requests if "/blobs/" in request.path]

    def __enter__(self) -> "Front":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(front) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body, self.command)
                front.requests.append(request)
                with contextlib.suppress(ConnectionError):  # clients may leave
                    self._answer(request, front.script(request))
                self.close_connection = True

            do_POST = do_GET

            def _answer(self, request: Request, wanted: Answer | Cut | Changed | None) -> None:
                if isinstance(wanted, Answer):
                    self._send(wanted.status, {**wanted.headers, "Content-Length": str(len(wanted.body))}, wanted.body)
                    return
                changed = wanted if isinstance(wanted, Changed) else Changed()
                asked = changed.headers if changed.headers is not None else request.headers
                status, headers, body = front._forward(request.path, asked)
                if changed.body is not None:
                    body = changed.body
                    headers["Content-Length"] = str(len(body))
                self._send(status, headers, body[: wanted.after] if isinstance(wanted, Cut) else body)

            def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def _forward(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.behind, timeout=30)
        try:
            kept = {name: value for name, value in headers.items() if name in ("accept", "range")}
            connection.request("GET", path, headers=kept)
            answer = connection.getresponse()
            names = ("content-type", "content-length", "content-range", "docker-content-digest")
            return answer.status, {name: value for name, value in answer.getheaders() if name.lower() in names}, answer.read()
        finally:
            connection.close()
