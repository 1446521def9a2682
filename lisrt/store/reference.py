"""How images of registries are named: `debian`, `localhost:5000/x:tag`, `ghcr.io/a/b@sha256:...`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from lisrt.store.blobs import checked_digest

_DEFAULT_HOST = "docker.io"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"({_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(:[0-9]{{1,5}})?")
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image of a registry."""

    host: str
    """With the port, where one is named."""
    repository: str
    tag: str
    """"" where there is a digest and no tag."""
    digest: str = ""

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def api_host(self) -> str:
        """Where the registry answers, which for Docker's is another name."""
        return "registry-1.docker.io" if self.host == _DEFAULT_HOST else self.host

    @property
    def is_local(self) -> bool:
        """Whether the registry is on this machine, so that it may do without TLS."""
        name = re.sub(r":[0-9]+$", "", self.host).strip("[]")
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost" or name.endswith(".localhost")

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{self.tag and ':'}{self.tag}{self.digest and '@'}{self.digest}"


def parse(text: str) -> Reference:
    """With Docker's defaults: `debian` is `docker.io/library/debian:latest`. Raises ValueError, and ImageError for its digest."""
    name, at, digest = text.removeprefix("docker://").partition("@")
    if at:
        checked_digest(digest)
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host, name = first, rest
    else:
        host = _DEFAULT_HOST
    repository, colon, tag = name.partition(":")
    host = _DEFAULT_HOST if host in ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com") else host
    if host == _DEFAULT_HOST and "/" not in repository:
        repository = f"library/{repository}"
    if not _HOST.fullmatch(host) or not _REPOSITORY.fullmatch(repository) or (colon and not _TAG.fullmatch(tag)):
        raise ValueError(f"an image of a registry is named like HOST/PATH:TAG or HOST/PATH@sha256:..., not {text!r}")
    return Reference(host, repository, tag or ("" if digest else "latest"), digest)
