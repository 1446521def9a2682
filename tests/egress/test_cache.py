"""The cache of downloads: one fetch for all, the right bytes or none of it, and rules as without it."""

import contextlib
import errno
import hashlib
import http.server
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.features import missing
from support.fresh import environment
from support.waiting import eventually

from lisrt import Proxy, Sandbox
from lisrt.egress.downloads import BLOCK
from lisrt.egress.registries import Links, look

from .conftest import Web

# `localhost` is in no_proxy, as everywhere: programs would not ask the proxy for it.
ENV = {"no_proxy": "", "NO_PROXY": ""}
#: Prints the status and the SHA-256 of what it gets, or what went wrong.
ASK = """if True:
    import hashlib, sys, urllib.error, urllib.request
    headers = dict(pair.split("=", 1) for pair in sys.argv[2:])
    try:
        with urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=headers), timeout=50) as answer:
            print(answer.status, hashlib.sha256(answer.read()).hexdigest())
    except urllib.error.HTTPError as error:
        print(error.code, error.reason)
    except Exception as error:
        print(type(error).__name__)
"""
BODY = bytes(range(256)) * 4000
GOOD = f"200 {hashlib.sha256(BODY).hexdigest()}"


@dataclass
class Registry:
    """An index by HTTPS that remembers what it was asked."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer."""
    missing: int = 0
    """Bytes at the end that are promised and do not come."""
    go_on: threading.Event = field(default_factory=threading.Event)
    """After half of a file."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def rules(self) -> list[str]:
        return [f"localhost:{self.port}", f"127.0.0.0/8:{self.port}"]

    def url(self, path: str) -> str:
        """As programs name it."""
        return f"http://localhost:{self.port}{path}"

    def count(self, path: str) -> int:
        return [asked for asked, _ in self.asked].count(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are kept: nowhere yet. And a user without settings."""
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "NPM_CONFIG_", "CONDA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LISRT_CACHE", str(tmp_path / "downloads"))
    monkeypatch.delenv("LISRT_CACHE_SIZE", raising=False)
    return tmp_path / "downloads"


@pytest.fixture
def registry(certificate: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    made = Registry()
    made.go_on.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            body = made.files.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            for name, value in made.headers.items():
                self.send_header(name, value)
            body = body or b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            sent = body[: len(body) - made.missing]
            with contextlib.suppress(OSError):  # who asked may leave
                self.wfile.write(sent[: len(sent) // 2])
                self.wfile.flush()
                made.go_on.wait(60)
                self.wfile.write(sent[len(sent) // 2 :])
            self.close_connection = bool(made.missing)

        do_POST = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.port = server.server_port
        monkeypatch.setenv("PIP_INDEX_URL", f"https://localhost:{made.port}/simple")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        made.go_on.set()
        server.shutdown()
        thread.join()


def asks(box: Sandbox, url: str, *headers: str) -> str:
    return box.run(["python3", "-c", ASK, url, *headers], timeout=60).check().stdout.strip()


def boxed(registry: Registry, **options: object) -> Sandbox:
    return Sandbox(network=Proxy(allow=registry.rules, cache=True), env=ENV, **options)


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


def test_twenty_at_once_are_one_fetch(registry: Registry, cache: Path) -> None:
    """Each has the bytes as they come, before all of them are there; each one's journal says where they are from."""
    registry.files["/a-1.whl"] = BODY
    registry.go_on.clear()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(20) as threads:
        boxes = [stack.enter_context(boxed(registry)) for _ in range(20)]
        answers = [threads.submit(asks, box, registry.url("/a-1.whl")) for box in boxes]
        eventually(lambda: all(sum(one.received for one in box.egress) > 100_000 for box in boxes), within=40)
        registry.go_on.set()
        assert {answer.result() for answer in answers} == {GOOD}
        assert registry.count("/a-1.whl") == 1
        assert sorted(box.egress[-1].cached for box in boxes) == [False] + 19 * [True]
        assert all(box.egress[-1].received == len(BODY) for box in boxes)
        eventually(lambda: len(kept(cache)) == 1 and ".part" not in kept(cache)[0], within=10)
        assert asks(boxes[0], registry.url("/a-1.whl")) == GOOD
    assert registry.count("/a-1.whl") == 1
    [(_, headers)] = registry.asked
    assert headers["host"] == f"localhost:{registry.port}" and headers["user-agent"] == "lisrt"


def test_a_digest_in_the_url_is_looked_at(registry: Registry, cache: Path) -> None:
    """What is not what its name says is passed on, as without a cache, and not kept."""
    digest = hashlib.blake2b(BODY, digest_size=32).hexdigest()
    right, wrong = (f"/packages/{name[:2]}/{name[2:4]}/{name[4:]}/a.whl" for name in (digest, digest[::-1]))
    registry.files |= {right: BODY, wrong: BODY}
    with boxed(registry) as box:
        assert [asks(box, registry.url(path)) for path in (wrong, wrong, right, right)] == [GOOD] * 4
    assert (registry.count(wrong), registry.count(right)) == (2, 1)
    eventually(lambda: len(kept(cache)) == 1, within=10)


def test_half_a_file_is_not_kept(registry: Registry, cache: Path) -> None:
    """Nor is it taken for a whole one."""
    registry.files["/a.whl"], registry.missing = BODY, 1000
    with boxed(registry) as box:
        assert asks(box, registry.url("/a.whl")) == "IncompleteRead"
        eventually(lambda: kept(cache) == [], within=10)
        registry.missing = 0
        assert asks(box, registry.url("/a.whl")) == GOOD


def test_rules_hold_for_what_is_kept(registry: Registry) -> None:
    """By name, by address, by what is denied, and by rules that come later."""
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert asks(box, registry.url("/a.whl")) == GOOD
        box.set_network(Proxy(allow=registry.rules, deny=["localhost:*"]))
        assert asks(box, registry.url("/a.whl")) == f"403 lisrt: rule 'localhost:*' denies localhost:{registry.port}"
    private = "127.0.0.1 is no public address, and no rule allows it"
    for allow, why in ([], f"no rule allows localhost:{registry.port}"), (registry.rules[:1], private):
        with Sandbox(network=Proxy(allow=allow, cache=True), env=ENV) as box:
            assert asks(box, registry.url("/a.whl")) == f"403 lisrt: {why}"
            assert [one.allowed for one in box.egress] == [False]
    assert len(registry.asked) == 1


def test_bytes_count(registry: Registry) -> None:
    """Those that come from the cache, too."""
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert asks(box, registry.url("/a.whl")) == GOOD
    with Sandbox(network=Proxy(allow=registry.rules, cache=True, max_bytes=len(BODY) // 2), env=ENV) as box:
        assert asks(box, registry.url("/a.whl")) == "IncompleteRead"
        assert "more than" in box.egress[-1].why


@pytest.mark.parametrize("header", ["Authorization=Basic eDp5", "Cookie=a=b", "Range=bytes=0-", "Cache-Control=no-cache"])
def test_requests_of_ones_own(registry: Registry, cache: Path, header: str) -> None:
    """They go to the registry, each, and leave nothing for others."""
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert [asks(box, registry.url("/a.whl"), header) for _ in range(2)] == [GOOD] * 2
    name, _, value = header.partition("=")
    assert [headers[name.lower()] for _, headers in registry.asked] == [value] * 2
    assert kept(cache) == []


@pytest.mark.parametrize("header", [("Cache-Control", "private"), ("Cache-Control", "no-store"), ("Set-Cookie", "a=b")])
def test_answers_of_ones_own(registry: Registry, cache: Path, header: tuple[str, str]) -> None:
    """They are passed on."""
    registry.files["/a.whl"], registry.headers = BODY, dict([header])
    with boxed(registry) as box:
        assert [asks(box, registry.url("/a.whl")) for _ in range(2)] == [GOOD] * 2
        assert asks(box, registry.url("/none.whl")).startswith("404")
    assert kept(cache) == []


@pytest.mark.parametrize("path", ["/simple/a/", "/a.whl?token=1", "/a.exe"])
def test_what_is_no_package(registry: Registry, cache: Path, path: str) -> None:
    """Is asked for each time."""
    registry.files[path.partition("?")[0]] = BODY
    with boxed(registry) as box:
        assert [asks(box, registry.url(path)) for _ in range(2)] == [GOOD] * 2
    assert registry.count(path) == 2 and kept(cache) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/vnd.pypi.simple.v1+json"])
def test_links_of_an_index_lead_back(registry: Registry, kind: str) -> None:
    """To known hosts, and no others."""
    page = '["https://localhost:{0}/a.whl#sha256=00", "https://elsewhere.org/a.whl", "https://localhost:{0}0/", "/b.whl"]'
    registry.files["/simple/a/"], registry.headers = page.format(registry.port).encode(), {"Content-Type": kind}
    read = ASK.replace("hashlib.sha256(answer.read()).hexdigest()", "answer.read().decode()")
    with boxed(registry) as box:
        command = ["python3", "-c", read, registry.url("/simple/a/"), "Accept-Encoding=gzip"]
        said = box.run(command, timeout=60).check().stdout
    led = page.format(registry.port).replace(f"https://localhost:{registry.port}/", registry.url("/"))
    assert said.strip() == f"200 {led}"
    assert registry.asked[0][1]["accept-encoding"] == "identity"


def test_links_in_pieces(cache: Path) -> None:
    """Wherever a page is cut."""
    files, rest = b'<a href="https://files.pythonhosted.org/x">https://pypi.org</a> ', b" https://pypi.org.evil/"
    text = files + b'"https://pypi.org" https://pypi.org:443/' + rest
    whole = files.replace(b"https://files.pythonhosted.org", b"http://files.pythonhosted.org:80")
    whole += b'"http://pypi.org:80" http://pypi.org:80/' + rest
    for size in range(1, len(text) + 1):
        links = Links(look())
        made = b"".join(links.feed(text[at : at + size]) for at in range(0, len(text), size)) + links.end()
        assert made == whole


def test_two_processes_share_it(registry: Registry, cache: Path) -> None:
    """The second waits for the first, and there is one fetch."""
    registry.files["/a.whl"] = BODY
    registry.go_on.clear()
    source = f"""if True:
        import sys
        from lisrt import Proxy, Sandbox
        with Sandbox(network=Proxy(allow={registry.rules!r}, cache=True), env={ENV!r}) as box:
            print("ready", flush=True)
            print(box.run(["python3", "-c", sys.argv[1], sys.argv[2]], timeout=60).check().stdout, end="")
            print(box.egress[-1].cached)
    """
    command = [sys.executable, "-c", source, ASK, registry.url("/a.whl")]
    with contextlib.ExitStack() as stack:
        pair = []
        for _ in range(2):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
            one = stack.enter_context(process)
            assert one.stdout and one.stdout.readline() == "ready\n"
            pair.append(one)
            eventually(lambda: len(registry.asked) == 1, within=30)
        registry.go_on.set()
        said = sorted(one.communicate(timeout=60)[0] for one in pair)
    assert said == [f"{GOOD}\nFalse\n", f"{GOOD}\nTrue\n"]
    assert len(registry.asked) == 1 and len(kept(cache)) == 1


def test_what_is_asked_for_least_goes_first(registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is too much."""
    monkeypatch.setenv("LISRT_CACHE_SIZE", str(3 * (BLOCK + len(BODY))))
    registry.files |= {f"/{name}.whl": BODY for name in "abcd"}
    with boxed(registry) as box:
        for name in "abcad":  # d takes the place of b
            assert asks(box, registry.url(f"/{name}.whl")) == GOOD
            eventually(lambda: not [one for one in kept(cache) if ".part" in one], within=10)
        eventually(lambda: len(kept(cache)) == 3, within=10)
        for name in "adc":
            assert asks(box, registry.url(f"/{name}.whl")) == GOOD
    assert [registry.count(f"/{name}.whl") for name in "abcd"] == [1, 1, 1, 1]


def test_what_is_too_large_is_passed_on(registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And puts nothing else out."""
    monkeypatch.setenv("LISRT_CACHE_SIZE", "1000")
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert asks(box, registry.url("/a.whl")) == GOOD
    assert kept(cache) == []


@pytest.mark.parametrize("change", ["a byte", "the end", "nothing left"])
def test_a_damaged_file_is_fetched_again(registry: Registry, cache: Path, change: str) -> None:
    """Never a wrong byte."""
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert asks(box, registry.url("/a.whl")) == GOOD
        eventually(lambda: len(kept(cache)) == 1 and ".part" not in kept(cache)[0], within=10)
        path = cache / kept(cache)[0]
        data = path.read_bytes()
        position = BLOCK + 5000
        changed = {"a byte": data[:position] + b"!" + data[position + 1 :], "the end": data[:-1], "nothing left": b""}
        path.write_bytes(changed[change])
        assert asks(box, registry.url("/a.whl")) == GOOD
    assert registry.count("/a.whl") == 2


def test_a_directory_that_can_not_be_made(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file comes all the same."""
    monkeypatch.setenv("LISRT_CACHE", "/proc/nowhere")
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert [asks(box, registry.url("/a.whl")) for _ in range(2)] == [GOOD] * 2


def test_a_full_disk(registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is known before anybody is promised anything."""

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    registry.files["/a.whl"] = BODY
    with boxed(registry) as box:
        assert [asks(box, registry.url("/a.whl")) for _ in range(2)] == [GOOD] * 2
    assert kept(cache) == []


def test_leftovers_of_a_dead_process(registry: Registry, cache: Path) -> None:
    """Half a file whose owner is gone stops nobody."""
    registry.files["/a.whl"] = BODY
    name = hashlib.sha256(f"https://localhost:{registry.port}/a.whl".encode()).hexdigest()
    cache.mkdir()
    (cache / f"{name}.part").write_bytes(b"x" * 100)
    (cache / f"{'0' * 64}.part-aa").write_bytes(b"x" * 100)
    with boxed(registry) as box:
        assert asks(box, registry.url("/a.whl")) == GOOD
        eventually(lambda: kept(cache) == [name], within=10)


def test_apt_in_clear_text(web: Web, cache: Path) -> None:
    """A .deb of a pool is kept, by apt's own signatures; anything else in clear text is not."""
    port = web.port
    with Sandbox(network=Proxy(allow=web.rules, cache=True), env=ENV) as box:
        for path in ("/debian/pool/a.deb", "/a.whl", "/debian/dists/a.deb"):
            assert asks(box, f"http://localhost:{port}{path}") == asks(box, f"http://localhost:{port}{path}") != ""
    paths = [path for _, path, *_ in web.asked]
    assert [paths.count(path) for path in ("/debian/pool/a.deb", "/a.whl", "/debian/dists/a.deb")] == [1, 2, 2]


def test_what_tools_are_told(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The host's own indexes; a password is none of a sandbox's business, and what nobody vouches for is left as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    usual = look()
    assert usual.variables["npm_config_registry"] == "http://registry.npmjs.org/"
    assert usual.variables["CONDA_CHANNEL_ALIAS"] == "http://conda.anaconda.org"
    assert usual.secured["files.pythonhosted.org", 80] == 443
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@nexus.corp:8443/pypi/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://self.signed/simple http://plain/simple https://two.corp/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "self.signed plain")
    (tmp_path / ".npmrc").write_text("//nexus.corp:8043/:_authToken=secret\nregistry=https://nexus.corp:8043/npm/\n")
    (tmp_path / ".condarc").write_text("channels:\n  - x\nchannel_alias: https://conda.corp\n")
    found = look()
    assert found.variables == {
        "PIP_INDEX_URL": "http://nexus.corp:8443/pypi/simple",
        "PIP_EXTRA_INDEX_URL": "https://self.signed/simple http://plain/simple http://two.corp:80/simple",
        "PIP_TRUSTED_HOST": "nexus.corp:8443 two.corp:80 plain self.signed",
        "npm_config_registry": "http://nexus.corp:8043/npm/",
        "npm_config_replace_registry_host": "nexus.corp:8043",
        "CONDA_CHANNEL_ALIAS": "http://conda.corp",
    }
    places = {("nexus.corp", 8443): 8443, ("two.corp", 80): 443, ("nexus.corp", 8043): 8043, ("conda.corp", 80): 443}
    assert found.secured == places


def real(*names: str) -> list[str]:
    """Rules for hosts of the internet, as this machine sees it."""
    rules = list(names)
    for name in names:
        try:
            address = socket.gethostbyname(name)
        except OSError:
            missing(f"way to {name}")
        if not ipaddress.ip_address(address).is_global:  # a mirror of this site's
            rules.append(address)
    return rules


def test_pip_unchanged(cache: Path) -> None:
    """Against the real index: the second sandbox has it from the first one's."""
    proxy = Proxy(allow=real("pypi.org", "files.pythonhosted.org"), cache=True)
    python = next((one for one in ("/usr/bin/python3", sys.executable) if not _fails([one, "-m", "pip", "--version"])), None)
    if python is None:
        missing("pip")
    options = "--no-deps --no-cache-dir --only-binary :all: --dest /tmp/got"
    script = f"{python} -m pip download {options} six==1.16.0 2>&1 && sha256sum /tmp/got/*"
    sums = []
    for is_second in (False, True):
        with Sandbox(network=proxy) as box:
            result = box.sh(script, timeout=120)
            assert result.ok, result.stdout
            sums.append(result.stdout.splitlines()[-1])
            assert [one.cached for one in box.egress if one.host == "files.pythonhosted.org"][-1:] == [is_second]
            assert not [one for one in box.egress if one.method == "CONNECT"]
            eventually(lambda: kept(cache) and not [one for one in kept(cache) if ".part" in one], within=10)
    assert sums[0] == sums[1] and "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254" in sums[0]


def test_npm_unchanged(cache: Path) -> None:
    """The same; its lock file says what it says elsewhere."""
    if not shutil.which("npm", path="/usr/bin:/bin"):
        missing("npm")
    proxy = Proxy(allow=real("registry.npmjs.org"), cache=True)
    for is_second in (False, True):
        with Sandbox(network=proxy) as box:
            result = box.sh("mkdir -p /tmp/p && cd /tmp/p && npm install --no-audit --no-fund is-odd@3.0.1 2>&1", timeout=120)
            assert result.ok, result.stdout
            lock = json.loads(box.read("/tmp/p/package-lock.json"))
            assert lock["packages"]["node_modules/is-odd"]["resolved"] == "https://registry.npmjs.org/is-odd/-/is-odd-3.0.1.tgz"
            assert not [one for one in box.egress if one.method == "CONNECT"]
            assert [one.cached for one in box.egress].count(True) == (2 if is_second else 0)  # is-number, too
            eventually(lambda: kept(cache) and not [one for one in kept(cache) if ".part" in one], within=10)


def _fails(command: list[str]) -> bool:
    return not os.access(command[0], os.X_OK) or subprocess.run(command, capture_output=True).returncode != 0
