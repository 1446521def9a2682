"""Where logins are found, and what references mean."""

import base64
import json
from pathlib import Path

import pytest

from lisrt import ImageError
from lisrt.store.credentials import Credentials, find
from lisrt.store.reference import Reference, parse


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker's configuration, of this test's own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return tmp_path / "config.json"


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("key", ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v2/"])
def test_forms_of_a_server(docker: Path, key: str) -> None:
    """docker has written each of them."""
    docker.write_text(json.dumps({"auths": {key: {"auth": auth("me:it:self")}}}))
    assert find("r.example:5000") == Credentials("me", "it:self")
    assert find("r.example") is None


def test_docker_hub(docker: Path) -> None:
    """It goes by an old name."""
    docker.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"username": "me", "password": "x"}}}))
    assert find("docker.io") == Credentials("me", "x")


def test_podman(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file in the session's directory, and the one that it can be told to use."""
    (tmp_path / "run/containers").mkdir(parents=True)
    (tmp_path / "run/containers/auth.json").write_text(json.dumps({"auths": {"r.example": {"auth": auth("me:session")}}}))
    (tmp_path / "named.json").write_text(json.dumps({"auths": {"r.example": {"auth": auth("me:named")}}}))
    assert find("r.example") == Credentials("me", "session")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named.json"))
    assert find("r.example") == Credentials("me", "named")


def helper(place: Path, body: str) -> None:
    (place / "bin").mkdir(exist_ok=True)
    (place / "bin/docker-credential-store").write_text(f"#!/bin/sh\n{body}\n")
    (place / "bin/docker-credential-store").chmod(0o755)


def test_a_store_of_secrets(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked where the file itself has nothing; one that knows nothing is no fault."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    docker.write_text(json.dumps({"credsStore": "store", "auths": {"r.example": {}}}))
    helper(tmp_path, """echo '{"Username": "me", "Secret": "x"}'""")
    assert find("r.example") == Credentials("me", "x")
    helper(tmp_path, """echo '{"Username": "<token>", "Secret": "x"}'""")
    assert find("r.example") == Credentials("", "", "x")
    helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert find("r.example") is None
    helper(tmp_path, "echo nonsense")
    with pytest.raises(ImageError, match="docker-credential-store did not answer"):
        find("r.example")


@pytest.mark.parametrize(
    "text", ["{", '{"auths": {"r": {"auth": "!"}}}', '{"auths": {"r": {"auth": "eA=="}}}', '{"credsStore": "../../bin/sh"}']
)
def test_a_broken_file(docker: Path, text: str) -> None:
    """Named, never taken for a file without logins, and no program outside PATH is run."""
    docker.write_text(text)
    with pytest.raises(ImageError, match="docker|config.json"):
        find("r")


@pytest.mark.parametrize("text", ["[]", "{}", '{"auths": []}', '{"auths": {"r": []}}'])
def test_a_file_without_logins(docker: Path, text: str) -> None:
    """It need not have any."""
    docker.write_text(text)
    assert find("r") is None


def test_secrets_are_not_shown() -> None:
    """In a traceback, say."""
    assert "secret" not in repr(Credentials("me", "secret", "secret"))


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("debian", Reference("docker.io", "library/debian", "latest")),
        ("debian:12", Reference("docker.io", "library/debian", "12")),
        ("me/x", Reference("docker.io", "me/x", "latest")),
        ("docker.io/debian", Reference("docker.io", "library/debian", "latest")),
        ("index.docker.io/me/x:1", Reference("docker.io", "me/x", "1")),
        ("docker://ghcr.io/a/b/c:v1.2_3", Reference("ghcr.io", "a/b/c", "v1.2_3")),
        ("localhost/x", Reference("localhost", "x", "latest")),
        ("localhost:5000/x:1", Reference("localhost:5000", "x", "1")),
        ("[::1]:5000/x", Reference("[::1]:5000", "x", "latest")),
        (f"debian@{DIGEST}", Reference("docker.io", "library/debian", "", DIGEST)),
        (f"r.example/x:1@{DIGEST}", Reference("r.example", "x", "1", DIGEST)),
    ],
)
def test_references(text: str, wanted: Reference) -> None:
    """Docker's defaults."""
    assert parse(text) == wanted
    assert parse(str(wanted)) == wanted


NO_REFERENCES = ["", "/", "Debian", "a//b", "a/../b", "x:", "x:a/b", "x@sha256:0", "r.example/", "-x", "a b", "x?y", "h/x#y"]


@pytest.mark.parametrize("text", NO_REFERENCES)
def test_what_is_no_reference(text: str) -> None:
    """It never gets into a URL."""
    with pytest.raises((ValueError, ImageError)):
        parse(text)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.9.9", True), ("[::1]:80", True),
        ("localhost.example", False), ("127.0.0.1.example:5000", False), ("10.0.0.1", False), ("docker.io", False),
    ],
)  # fmt: skip
def test_local_registries(host: str, local: bool) -> None:
    """Only those may do without TLS unasked."""
    assert parse(f"{host}/x").is_local is local
