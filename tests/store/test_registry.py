"""Images from a real registry, with a server in front of it that does what registries do on bad days."""

import base64
import gzip
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from support.archives import Layout, digest, file, folder, tar
from support.features import missing
from support.registry import PASSWORD, USER, Answer, Changed, Cut, Front, Request, free_port, push, registry
from support.waiting import not_blocked

from lisrt import ImageError
from lisrt.store import manifest, web
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home
from lisrt.store.pull import AT_ONCE, pull
from lisrt.store.record import Config

from .conftest import contents

LAYERS = [tar([folder(f"d{number}"), file(f"d{number}/data", os.urandom(200_000))]) for number in range(6)]
PACKED = [gzip.compress(layer, 1, mtime=0) for layer in LAYERS]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody's logins and proxies but the tests'; short waits. Returns the directory of docker's configuration."""
    docker = tmp_path_factory.mktemp("docker")
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(docker))
    monkeypatch.setattr(web, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(manifest, "here", lambda: "amd64")
    return docker


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with `many:1` of six layers, `one:1` of one, and `lists:1` and `lists:others` for several processors."""
    place = tmp_path_factory.mktemp("registry")
    with registry(place / "run") as host:
        many, one, lists, others = Layout(), Layout(), Layout(), Layout()
        many.add(many.image(*LAYERS, config={"Env": ["A=1"], "WorkingDir": "/d1", "Cmd": ["x"]}))
        one.add(one.image(LAYERS[0]))
        for made, names in ((lists, ("arm64", "amd64")), (others, ("arm64", "s390x"))):
            images = [
                {
                    **made.image(LAYERS[0], architecture=name, config={"Env": [f"ARCH={name}"]}),
                    "platform": {"os": "linux", "architecture": name},
                }
                for name in names
            ]
            made.add(made.index(*images))
        for name, made in (("many:1", many), ("one:1", one), ("lists:1", lists), ("lists:others", others)):
            push(host, name, made.write(place / name.replace(":", "-")), "--all")
        yield host


@pytest.fixture
def front(behind: str) -> Iterator[Front]:
    with Front(behind) as made:
        yield made


def no_image(catalog: Catalog) -> None:
    assert contents(catalog) == {}
    assert not catalog.home.part("new").exists() or os.listdir(catalog.home.part("new")) == []


def test_an_image(catalog: Catalog, behind: str) -> None:
    """Layers as they came, the configuration, and where it is from."""
    record = pull(f"{behind}/many:1", catalog)
    assert catalog.get(f"{behind}/many:1") == record
    assert [layer.diff_id for layer in record.layers] == [digest(layer) for layer in LAYERS]
    assert [layer.blob for layer in record.layers] == [digest(layer) for layer in PACKED]
    assert record.config == Config((("A", "1"),), "/d1", "", (), ("x",))
    assert (record.provenance["kind"], record.provenance["source"]) == ("registry", f"{behind}/many:1")
    for layer, packed in zip(record.layers, PACKED, strict=True):
        assert catalog.blobs.path(layer.blob).read_bytes() == packed


def test_by_digest(catalog: Catalog, behind: str) -> None:
    """What is pulled by its digest is that, or nothing."""
    known = pull(f"{behind}/one:1", catalog, "a").provenance["digest"]
    assert pull(f"{behind}/one@{known}", catalog, "b").id == catalog.get("a").id
    with pytest.raises(ImageError, match="404"):
        pull(f"{behind}/one@sha256:{'0' * 64}", catalog, "c")


def test_another_manifest_than_asked_for(catalog: Catalog, front: Front) -> None:
    """A registry that answers with another image is found out."""
    front.script = lambda request: Answer(200, b"{}") if "/manifests/" in request.path else None
    with pytest.raises(ImageError, match="its digest is"):
        pull(f"{front.host}/one@sha256:{'0' * 64}", catalog, "x")


def test_layers_that_are_here_are_not_fetched(catalog: Catalog, front: Front) -> None:
    """Not even asked for."""
    pull(f"{front.host}/one:1", catalog, "one")
    front.requests.clear()
    pull(f"{front.host}/many:1", catalog, "many")
    assert digest(PACKED[0]) not in " ".join(request.path for request in front.requests)
    assert len(list(catalog.home.part("blobs").iterdir())) == len(LAYERS)


def test_the_one_for_this_machine(catalog: Catalog, behind: str) -> None:
    """Out of a list of manifests; none is an error that says which there are."""
    assert pull(f"{behind}/lists:1", catalog, "x").config.env == (("ARCH", "amd64"),)
    with pytest.raises(ImageError, match="linux/arm64, linux/s390x"):
        pull(f"{behind}/lists:others", catalog, "y")


def test_several_at_once(catalog: Catalog, front: Front) -> None:
    """Layers come in parallel: so many are asked for before one is answered."""
    together = threading.Barrier(AT_ONCE, timeout=30)
    first = {digest(packed) for packed in PACKED[:AT_ONCE]}

    def script(request: Request) -> None:
        if request.path.rpartition("/")[2] in first:
            together.wait()

    front.script = script
    pull(f"{front.host}/many:1", catalog, "x")


@pytest.mark.parametrize("name", ["nothing:1", "one:2"])
def test_what_is_not_there(catalog: Catalog, behind: str, name: str) -> None:
    """The registry, its answer, and what was asked for."""
    with pytest.raises(ImageError, match=f"{behind}/{name}: .*404.* has no {name}"):
        pull(f"{behind}/{name}", catalog, "x")
    no_image(catalog)


def test_nobody_listens(catalog: Catalog) -> None:
    """A few tries, then the cause."""
    port = free_port()
    with pytest.raises(ImageError, match=rf"127.0.0.1:{port} can't be reached: .*refused.* \({web.MOST_TRIES} tries\)"):
        pull(f"127.0.0.1:{port}/x", catalog, "x")
    no_image(catalog)


def test_nobody_has_that_name(catalog: Catalog) -> None:
    """The registry is named, as with all that goes wrong."""
    with pytest.raises(ImageError, match="^no-such-registry.invalid/x:latest: .*no-such-registry.invalid can't be reached"):
        pull("no-such-registry.invalid/x", catalog, "x")
    no_image(catalog)


def test_busy(catalog: Catalog, front: Front) -> None:
    """429 and 5xx come and go, with a time to wait in seconds, as a date, or without."""
    answers = [
        Answer(429, headers={"Retry-After": "0"}),
        Answer(429, headers={"Retry-After": formatdate(time.time() - 5, usegmt=True)}),
        Answer(503),
        Answer(502, headers={"Retry-After": "soon"}),
    ]
    for kind in ("/manifests/", "/blobs/"):
        left = list(answers)
        front.script = lambda request, kind=kind, left=left: left.pop(0) if kind in request.path and left else None  # type: ignore[misc]
        pull(f"{front.host}/one:1", Catalog(Home(catalog.home.path / kind.strip("/"))), "x")
        assert not left


def test_waits_as_long_as_it_is_told(catalog: Catalog, front: Front) -> None:
    """Retry-After is no hint."""
    answers = [(time.monotonic(), Answer(429, headers={"Retry-After": "1"}))]
    asked: list[float] = []

    def script(request: Request) -> Answer | None:
        if "/manifests/" in request.path:
            asked.append(time.monotonic())
            return answers.pop()[1] if answers else None
        return None

    front.script = script
    pull(f"{front.host}/one:1", catalog, "x")
    assert asked[1] - asked[0] >= 1.0


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_busy_for_ever(catalog: Catalog, front: Front, kind: str) -> None:
    """The tries are counted, and the last answer is told."""
    front.script = lambda request: Answer(503) if f"/{kind}/" in request.path else None
    with pytest.raises(ImageError, match=rf"answers 503 Service Unavailable \({web.MOST_TRIES} tries\)"):
        pull(f"{front.host}/one:1", catalog, "x")
    assert len([request for request in front.requests if f"/{kind}/" in request.path]) == web.MOST_TRIES
    no_image(catalog)


def test_come_back_tomorrow(catalog: Catalog, front: Front) -> None:
    """Nobody waits for hours without a word."""
    front.script = lambda request: Answer(429, headers={"Retry-After": "86400"})
    with pytest.raises(ImageError, match="429 .*come back in 86400 s"):
        pull(f"{front.host}/one:1", catalog, "x")
    assert len(front.requests) == 1


def test_cut_off_and_taken_up_again(catalog: Catalog, front: Front) -> None:
    """However often a connection breaks, what has come is not asked for again."""
    name = digest(PACKED[0])
    front.script = lambda request: Cut(70_000) if name in request.path else None
    pull(f"{front.host}/one:1", catalog, "x")
    starts = [int(request.headers.get("range", "bytes=0-")[6:-1]) for request in front.blobs() if name in request.path]
    assert starts == list(range(0, len(PACKED[0]), 70_000))


def test_a_registry_that_cannot_go_on(catalog: Catalog, front: Front) -> None:
    """One that ignores Range sends all of it once more; that must not end up behind what was there."""
    name = digest(PACKED[0])
    left = [Cut(70_000), Cut(100)]

    def script(request: Request) -> Cut | Changed | None:
        if name not in request.path:
            return None
        return left.pop() if left else Changed(headers={})

    front.script = script
    record = pull(f"{front.host}/one:1", catalog, "x")
    assert catalog.blobs.path(record.layers[0].blob).read_bytes() == PACKED[0]


def test_cut_off_for_ever(catalog: Catalog, front: Front) -> None:
    """A connection that brings nothing counts as a try."""
    name = digest(PACKED[0])
    front.script = lambda request: Cut(10) if name in request.path else None
    with pytest.raises(ImageError, match=rf"layer 1 of 1: blob {name}: it broke off after \d+ of {len(PACKED[0])} bytes"):
        pull(f"{front.host}/one:1", catalog, "x")
    no_image(catalog)


def test_a_silent_registry(catalog: Catalog, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left, and asked again."""
    monkeypatch.setattr(web, "TIMEOUT", 0.3)
    done = threading.Event()
    waiting = [done]

    def script(request: Request) -> None:
        if "/blobs/" in request.path and waiting:
            waiting.pop().wait(30)

    front.script = script
    try:
        pull(f"{front.host}/one:1", catalog, "x")
    finally:
        done.set()


@pytest.mark.parametrize("body", [PACKED[1], PACKED[0][:-1] + b"x"], ids=["another", "one byte"])
def test_another_layer_than_asked_for(catalog: Catalog, front: Front, body: bytes) -> None:
    """Layer, cause; and nothing of the other layers stays."""
    name = digest(PACKED[0])
    front.script = lambda request: Changed(body=body) if name in request.path else None
    with pytest.raises(ImageError, match=f"^{front.host}/many:1: layer 1 of 6: it"):
        pull(f"{front.host}/many:1", catalog, "x")
    no_image(catalog)


def test_one_layer_that_fails(catalog: Catalog, front: Front) -> None:
    """The others are given up, and the error is that of the one that failed."""
    name = digest(PACKED[3])
    front.script = lambda request: Answer(404) if name in request.path else None
    with pytest.raises(ImageError, match="layer 4 of 6: .*404"):
        pull(f"{front.host}/many:1", catalog, "x")
    no_image(catalog)


def test_nobody_waits_for_a_registry_that_is_silent(catalog: Catalog, front: Front) -> None:
    """When one layer has failed, connections on which nothing comes are ended. (It would take 30 s each.)"""
    done = threading.Event()
    silent = threading.Semaphore(0)

    def script(request: Request) -> Answer | None:
        if digest(PACKED[0]) in request.path:
            silent.release()
            done.wait(50)
        if digest(PACKED[1]) in request.path:
            assert silent.acquire(timeout=30)
            return Answer(404)
        return None

    front.script = script
    try:
        with not_blocked(), pytest.raises(ImageError, match="layer 2 of 6: .*404"):
            pull(f"{front.host}/many:1", catalog, "x")
    finally:
        done.set()


def test_docker_of_old(catalog: Catalog, front: Front) -> None:
    """Manifests of the first kind, and things that are no images."""
    for body, says in ((b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"), (b"<html>", "no JSON"), (b"[]", "no JSON object")):
        front.script = lambda request, body=body: Changed(body=body)  # type: ignore[misc]
        with pytest.raises(ImageError, match=says):
            pull(f"{front.host}/one:1", catalog, "x")


def log_in(docker: Path, host: str, password: str = PASSWORD) -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (docker / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that wants a password (Basic)."""
    place = tmp_path_factory.mktemp("closed")
    with registry(place / "run", login=True) as host:
        made = Layout()
        push(host, "one:1", made.add(made.image(LAYERS[0])).write(place / "one"), f"--dest-creds={USER}:{PASSWORD}")
        yield host


def test_a_password(catalog: Catalog, closed: str, surroundings: Path) -> None:
    """From docker's file; said plainly where there is none, or a wrong one."""
    with pytest.raises(ImageError, match=rf"answers 401 .*takes a login: `docker login {closed}`"):
        pull(f"{closed}/one:1", catalog, "x")
    log_in(surroundings, closed, "wrong")
    with pytest.raises(ImageError, match=rf"answers 401 .*what `docker login {closed}` has kept is not good"):
        pull(f"{closed}/one:1", catalog, "x")
    no_image(catalog)
    log_in(surroundings, closed)
    pull(f"{closed}/one:1", catalog, "x")


def test_a_password_of_a_helper(
    catalog: Catalog, closed: str, surroundings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that docker's file names is asked."""
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    helper = tmp_path / "bin/docker-credential-tests"
    helper.parent.mkdir()
    helper.write_text(f"#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {closed}' ] && echo '{answer}'\n")
    (surroundings / "config.json").write_text(json.dumps({"credHelpers": {closed: "tests"}}))
    with pytest.raises(ImageError, match="docker-credential-tests, which is not installed"):
        pull(f"{closed}/one:1", catalog, "x")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    pull(f"{closed}/one:1", catalog, "x")


class TokenServer:
    """A front that wants a token for everything, and gives it to those who know the password, or a refresh token."""

    def __init__(self, front: Front, *, open_to_all: bool = False) -> None:
        self.front, self.open, self.given = front, open_to_all, 0
        self.spoilt = False
        front.script = self

    def __call__(self, request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            return self._give(request)
        if request.headers.get("authorization") == f"Bearer token-{self.given}" and not self.spoilt:
            return None
        self.spoilt = False
        scope = "repository:one:pull"
        challenge = f'Bearer realm="http://{self.front.host}/token",service="tests",scope="{scope}"'
        return Answer(401, headers={"WWW-Authenticate": challenge})

    def _give(self, request: Request) -> Answer:
        asked = urllib.parse.parse_qs(request.body.decode() or request.path.partition("?")[2])
        assert (asked["service"], asked["scope"]) == (["tests"], ["repository:one:pull"])
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = request.headers.get("authorization") == basic or asked.get("refresh_token") == ["refreshing"]
        if not known and not self.open:
            return Answer(401)
        self.given += 1
        return Answer(200, json.dumps({"token": f"token-{self.given}"}).encode())


def test_a_token(catalog: Catalog, front: Front, surroundings: Path) -> None:
    """For the password of docker's file; without it, 401."""
    TokenServer(front)
    with pytest.raises(ImageError, match="401"):
        pull(f"{front.host}/one:1", catalog, "x")
    log_in(surroundings, front.host)
    server = TokenServer(front)
    pull(f"{front.host}/one:1", catalog, "x")
    assert server.given == 1
    shown = [request.headers.get("authorization", "") for request in front.requests if "/v2/" in request.path]
    assert not [authorization for authorization in shown if "Basic" in authorization]


def test_a_token_for_everybody(catalog: Catalog, front: Front) -> None:
    """As Docker's own registry has it."""
    TokenServer(front, open_to_all=True)
    pull(f"{front.host}/one:1", catalog, "x")


def test_a_refresh_token(catalog: Catalog, front: Front, surroundings: Path) -> None:
    """`identitytoken` in docker's file, as Azure's registries have it."""
    (surroundings / "config.json").write_text(json.dumps({"auths": {front.host: {"identitytoken": "refreshing"}}}))
    TokenServer(front)
    pull(f"{front.host}/one:1", catalog, "x")


def test_a_token_that_runs_out(catalog: Catalog, front: Front) -> None:
    """In the midst of a pull: another one is got."""
    server = TokenServer(front, open_to_all=True)

    def script(request: Request) -> Answer | None:
        if digest(PACKED[0]) in request.path and server.given == 1:
            server.spoilt = True
        return server(request)

    front.script = script
    pull(f"{front.host}/one:1", catalog, "x")
    assert server.given == 2


def test_elsewhere(catalog: Catalog, front: Front, behind: str, surroundings: Path) -> None:
    """Blobs often lie at another server, which must not see the password (and refuses those who show one)."""
    log_in(surroundings, front.host)
    with Front(behind) as other:

        def script(request: Request) -> Answer | None:
            if not request.headers.get("authorization"):
                return Answer(401, headers={"WWW-Authenticate": 'Basic realm="tests"'})
            return Answer(307, headers={"Location": f"http://{other.host}{request.path}"}) if "/blobs/" in request.path else None

        front.script = script
        pull(f"{front.host}/one:1", catalog, "x")
        assert other.requests
        assert not [request for request in other.requests if "authorization" in request.headers]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_elsewhere_is_the_web(catalog: Catalog, front: Front, location: str) -> None:
    """A redirect to a file of this machine is not followed."""
    front.script = lambda request: Answer(307, headers={"Location": location}) if "/blobs/" in request.path else None
    with pytest.raises(ImageError, match="not followed|not allowed"):
        pull(f"{front.host}/one:1", catalog, "x")


def test_tls(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on this machine; certificates are checked, those that the environment names are known."""
    if shutil.which("openssl") is None:
        missing("openssl")
    name = ["-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([*command, *name, *files], cwd=tmp_path, check=True, capture_output=True)
    with registry(tmp_path / "run", certificate=(tmp_path / "cert.pem", tmp_path / "key.pem")) as host:
        made = Layout()
        push(host, "one:1", made.add(made.image(LAYERS[0])).write(tmp_path / "one"))
        with pytest.raises(ImageError):
            pull(f"{host}/one:1", catalog, "x")
        no_image(catalog)
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(tmp_path / "cert.pem"))
                pull(f"{host}/one:1", Catalog(Home(tmp_path / variable)), "x")


def test_a_proxy(catalog: Catalog, front: Front, behind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's way out is used for registries elsewhere, and never for those of this machine."""
    asked: list[str] = []

    def script(request: Request) -> Answer:
        asked.append(request.path)
        return Answer(404)

    front.script = script
    monkeypatch.setenv("http_proxy", f"http://{front.host}")
    with pytest.raises(ImageError, match="404"):
        pull("registry.invalid/x/y:1", catalog, "x", insecure=True)
    assert asked == ["http://registry.invalid/v2/x/y/manifests/1"]
    pull(f"{behind}/one:1", catalog, "x")
    assert len(asked) == 1


def test_without_tls_only_where_somebody_said_so() -> None:
    """Nothing is sent."""
    with pytest.raises(ImageError, match="not https"):
        with web.Web(trusted_plain=False, without_proxy=True).get("http://127.0.0.1:9/", {}):
            raise AssertionError("it was asked")
