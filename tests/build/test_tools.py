"""The tools that people use in sandboxes, each by way of the proxy and by NAT: what is allowed they reach, and of what is not they
say so in words of their own."""

import functools
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import registries
from support.features import missing

from lisrt import Image, ImageError, Nat, Proxy, Sandbox
from lisrt.egress.trust import bundle
from lisrt.nat.hub import own_addresses
from lisrt.store.catalog import Catalog

pytestmark = pytest.mark.slow
FORBIDDEN = "nowhere.example.org"
RELEASE = f"http://{registries.APT[0]}/debian/dists/bookworm/Release"
TOOLS = "git curl npm openjdk-17-jdk-headless"
JAVA = """
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
class Get {
    public static void main(String[] arguments) throws Exception {
        URI where = URI.create(arguments[1]);
        if (arguments[0].equals("new")) {
            HttpRequest asked = HttpRequest.newBuilder(where).build();
            HttpResponse<String> got = HttpClient.newHttpClient().send(asked, HttpResponse.BodyHandlers.ofString());
            System.out.println(got.statusCode() + " " + (got.body().length() > 100));
        } else {
            HttpURLConnection asked = (HttpURLConnection) where.toURL().openConnection();
            int status = asked.getResponseCode();
            System.out.println(status + " " + (status == 200 && asked.getInputStream().readAllBytes().length > 100));
        }
    }
}
"""


@pytest.fixture(scope="module")
def tools(working_host: None) -> Iterator[Image]:
    """Debian with the tools, as apt brings them; once for all tests."""
    try:
        Catalog().get("debian-12")
    except ImageError:
        missing("image debian-12: `lisrt image build debian-12`")
    with Sandbox("debian-12", network="host") as box:
        install = f"apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {TOOLS}"
        box.sh(install, timeout=220, merge_stderr=True).check()
        yield box.snapshot()


@pytest.fixture(params=["proxy", "nat"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def box(tools: Image, kind: str) -> Iterator[Sandbox]:
    with Sandbox(tools, network=registries.network(kind)) as made:
        yield made


@pytest.fixture
def guarded(tools: Image) -> Iterator[Sandbox]:
    """One that may reach a registry of Python packages and nothing else, as in rule and address."""
    with Sandbox(tools, network=registries.proxy(*registries.PIP)) as made:
        yield made


def sh(box: Sandbox, script: str, timeout: float = 100) -> str:
    result = box.sh(f"set -e\n{script}", timeout=timeout, merge_stderr=True)
    assert result.ok, f"{result.summary()}\n{result.stdout[-3000:]}"
    return result.stdout


def denied(box: Sandbox, script: str, host: str) -> str:
    """What a tool says of a host that no rule allows; the journal has it."""
    result = box.sh(script, timeout=100, merge_stderr=True)
    assert not result.ok, result.stdout[-3000:]
    kept = [one for one in box.egress if one.host == host]
    assert kept and not any(one.allowed for one in kept), box.egress
    assert kept[0].rule == "" and kept[0].why == f"no rule allows {host}:{kept[0].port}"
    assert result.usage.denied == len(kept)
    return result.stdout


def test_pip(box: Sandbox) -> None:
    sh(box, "pip install -q --no-cache-dir --target /tmp/packages six && ls /tmp/packages/six.py")


def test_apt(box: Sandbox) -> None:
    sh(box, "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q hello")
    assert sh(box, "hello") == "Hello, world!\n"


def test_npm(box: Sandbox) -> None:
    sh(box, "mkdir p && cd p && npm install --no-audit --no-fund is-odd")
    assert sh(box, "cd p && node -e 'console.log(require(\"is-odd\")(3))'") == "true\n"


def test_curl(box: Sandbox) -> None:
    for url, word in ((f"https://{registries.PIP[0]}/simple/six/", "six-1"), (RELEASE, "Debian")):
        assert word in sh(box, f"curl --fail --silent --show-error --location {url}"), url


@pytest.mark.parametrize("client", ["new", "old"])
def test_java(box: Sandbox, kind: str, client: str) -> None:
    """HttpClient, and HttpURLConnection; what they trust are the image's own certificates, so without TLS."""
    box.write("Get.java", JAVA)
    assert sh(box, f"java Get.java {client} {RELEASE}").splitlines()[-1] == "200 true"
    if kind == "proxy":
        said = box.sh(f"java Get.java {client} http://{FORBIDDEN}/", timeout=100).check().stdout
        assert said.splitlines()[-1] == "403 false"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    """Served by TLS on this host's own address; the certificates to trust: that server's besides what the host trusts."""
    for program in ("git", "openssl"):
        if not shutil.which(program):
            missing(f"program {program}")
    address = next(iter(own_addresses()), None) or missing("address but its loopback's")
    folder = tmp_path_factory.mktemp("repository")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    run = functools.partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    run(["git", "init", "-q", "work"])
    (folder / "work" / "file").write_text("x" * 100_000)
    run(["git", "-C", "work", "add", "."])
    run(["git", "-C", "work", *identity, "commit", "-qm", "first"])
    run(["git", "clone", "-q", "--bare", "work", "served/work.git"])
    run(["git", "-C", "served/work.git", "update-server-info"])
    name = ["-subj", "/CN=test", "-addext", f"subjectAltName=IP:{address}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
    run(["openssl", "req", "-x509", *key, "-days", "1", *name, "-out", "cert.pem"])
    known = Path(bundle() or os.devnull).read_text()
    (folder / "bundle.pem").write_text(known + (folder / "cert.pem").read_text())
    server = ThreadingHTTPServer((address, 0), functools.partial(Quiet, directory=str(folder / "served")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield address, server.server_port, folder / "bundle.pem"
    server.shutdown()
    server.server_close()
    thread.join()


def test_git(tools: Image, kind: str, repository: tuple[str, int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By HTTPS; whom this host's variables trust, programs inside trust."""
    address, port, certificates = repository
    network: Proxy | Nat = Proxy(allow=[f"{address}:{port}"]) if kind == "proxy" else Nat(allow=[address])
    url = f"https://{address}:{port}/work.git"
    with Sandbox(tools, network=network) as box:
        refused = box.sh(f"git clone {url}", timeout=50, merge_stderr=True)
        assert not refused.ok and "certificate" in refused.stdout
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    with Sandbox(tools, network=network) as box:
        assert sh(box, f"git clone -q {url} && wc -c < work/file") == "100000\n"
        if kind == "proxy":
            last = box.egress[-1]
            assert (last.host, last.port, last.method, last.allowed, last.rule) == (address, port, "CONNECT", True, f"{address}:{port}")


def test_what_tools_say_of_hosts_that_are_not_allowed(guarded: Sandbox) -> None:
    """Each names the host, and says that it was refused."""
    sh(guarded, "pip download -q --no-deps --no-cache-dir -d /tmp six")
    said = denied(guarded, f"curl --silent --show-error --fail https://{FORBIDDEN}/", FORBIDDEN)
    assert "403" in said
    said = guarded.sh(f"curl --silent --show-error http://{FORBIDDEN}/").stdout
    assert said == f"lisrt: no rule allows {FORBIDDEN}:80\n"
    git = f"git.{FORBIDDEN}"
    said = denied(guarded, f"git clone https://{git}/x.git", git)
    assert git in said and "403" in said
    pip = f"pip.{FORBIDDEN}"
    said = denied(guarded, f"pip download --no-cache-dir --retries 0 --index-url https://{pip}/simple -d /tmp six", pip)
    assert pip in said
    said = denied(guarded, "apt-get update", registries.APT[0])
    assert registries.APT[0] in said and "403" in said
    npm = f"npm.{FORBIDDEN}"
    fetch = f"npm install --fetch-retries=0 --no-audit --registry https://{npm}/ is-odd"
    said = denied(guarded, fetch, npm)
    assert npm in said or "403" in said
