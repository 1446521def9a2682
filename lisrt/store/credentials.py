"""Names and passwords for registries, from where `docker login` and `podman login` put them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lisrt.errors import ImageError

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT = 60.0
_DOCKER_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry wants to know. The secrets never show up in a repr."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)
    """Instead of both: an OAuth refresh token."""

    @property
    def basic(self) -> str:
        """The value of the header `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(host: str) -> Credentials | None:
    """Those for a registry; None where nobody has logged in. ImageError: a file or a helper is broken."""
    for path in _files():
        settings = _read(path)
        helper = _table(settings, "credHelpers").get(host) or settings.get("credsStore")
        for server in _servers(host):
            found = _from_entry(_table(settings, "auths").get(server), path)
            if found is None and helper:
                found = _ask(str(helper), server)
            if found is not None:
                return found
    return None


def _files() -> list[Path]:
    docker = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    places = [Path(docker) / "config.json"]
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        places.insert(0, Path(named))
    if run := os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(run) / "containers" / "auth.json")
    return places


def _servers(host: str) -> list[str]:
    """The keys that a registry may have."""
    if host == "docker.io":
        return [_DOCKER_HUB, "docker.io", "index.docker.io"]
    return [host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/"]


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path} is no JSON: {error}") from None
    return value if isinstance(value, dict) else {}


def _table(settings: dict[str, Any], key: str) -> dict[str, Any]:
    value = settings.get(key)
    return value if isinstance(value, dict) else {}


def _from_entry(entry: Any, path: Path) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    token = str(entry.get("identitytoken") or "")
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password") or ""), token)
    if not entry.get("auth"):
        return Credentials("", "", token) if token else None
    try:
        user, colon, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise ImageError(f"{path}: an `auth` that is not `user:password` in base64")
    return Credentials(user, password.rstrip("\0"), token)


def _ask(helper: str, server: str) -> Credentials | None:
    """A program that somebody has chosen for this: it gets the server on stdin and says JSON."""
    if not _HELPER.fullmatch(helper):
        raise ImageError(f"docker's configuration names the credential helper {helper!r}, which is no name of a program")
    command = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(command, input=server.encode(), capture_output=True, timeout=_HELPER_TIMEOUT)
    except FileNotFoundError:
        raise ImageError(f"docker's configuration names {command[0]}, which is not installed") from None
    except subprocess.TimeoutExpired:
        raise ImageError(f"{command[0]} did not answer within {_HELPER_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        return None  # it knows nothing about this server
    try:
        value = json.loads(done.stdout)
        user, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, KeyError, TypeError):
        raise ImageError(f"{command[0]} did not answer as helpers do") from None
    return Credentials("", "", secret) if user == "<token>" else Credentials(user, secret)
