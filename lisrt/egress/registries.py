"""Where tools of a sandbox get packages: the indexes that this host has been told of, asked for in plain HTTP.

A tool that asks for `https:` has a tunnel, in which nobody can see a file, let alone keep it. So it is told `http:`, and the
gateway goes on by TLS: for the hosts that are named here, and no others.
"""

from __future__ import annotations

import configparser
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_PIP = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries")
_PYPI, _PYPI_FILES = "https://pypi.org/simple", "https://files.pythonhosted.org"
_NPM = "https://registry.npmjs.org/"
_CONDA = "https://conda.anaconda.org"
_FILES = ("~/.npmrc", "~/.condarc")
_VARIABLES = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CONFIG_FILE", "npm_config_registry", "NPM_CONFIG_REGISTRY",
    "CONDA_CHANNEL_ALIAS",
)  # fmt: skip
_LINKED = frozenset(("text/html", "application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+json"))


@dataclass(frozen=True, slots=True)
class Registries:
    """Of this host, at this moment."""

    secured: Mapping[tuple[str, int], int]
    """Host and port as programs name them with `http:`; the port that is asked by TLS."""
    indexes: tuple[tuple[str, int, str], ...]
    """Host, that port and the beginning of the path of pages whose links lead to packages."""
    variables: Mapping[str, str]
    """What programs find them by."""

    def is_index(self, host: str, port: int, path: str) -> bool:
        """Whether links are looked for there."""
        return any((host, port) == (name, at) and path.startswith(start) for name, at, start in self.indexes)

    def links(self, kind: str) -> Links | None:
        """For the text of a page of that type."""
        return Links(self) if self.secured and kind.partition(";")[0].strip().lower() in _LINKED else None


class Links:
    """Text that comes in pieces, whose links to known hosts are to lead through the proxy."""

    def __init__(self, registries: Registries) -> None:
        self._plain: dict[bytes, bytes] = {}
        for (host, shown), port in registries.secured.items():
            for text in (f"{host}:{port}", *([host] if port == 443 else [])):
                self._plain[b"https://" + text.encode()] = f"http://{host}:{shown}".encode()
        every = b"|".join(re.escape(text) for text in self._plain)
        self._pattern = re.compile(rb"(?:%s)(?=[/\"'])" % every)
        self._longest = max(map(len, self._plain)) + 1
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """As much as is certain by now."""
        text = self._rest + data
        made, at = [], 0
        for match in self._pattern.finditer(text):
            made += [text[at : match.start()], self._plain[match[0]]]
            at = match.end()
        until = max(at, len(text) - self._longest)  # a link may go on in the next piece
        self._rest = text[until:]
        return b"".join([*made, text[at:until]])

    def end(self) -> bytes:
        """What was held back."""
        rest, self._rest = self._rest, b""
        return rest


def look() -> Registries:
    """pip's, npm's and conda's settings of this host."""
    named = tuple(os.environ.get(name) for name in ("HOME", "XDG_CONFIG_HOME", *_VARIABLES))
    return _read(named, tuple(map(_stamp, (*_pip_paths(), *map(os.path.expanduser, _FILES)))))


@lru_cache(maxsize=4)
def _read(_named: tuple[str | None, ...], _stamps: tuple[tuple[int, int], ...]) -> Registries:
    """For every sandbox: half a millisecond, unless nothing has changed."""
    pip = pip_variables()
    unverified = set(pip.get("PIP_TRUSTED_HOST", "").split())
    secured: dict[tuple[str, int], int] = {}
    indexes, shown = [], []
    for url in (pip.get("PIP_INDEX_URL", _PYPI), *pip.get("PIP_EXTRA_INDEX_URL", "").split()):
        host, port = _place(url)
        if not url.startswith("https://") or {host, f"{host}:{port}"} & unverified:
            shown.append(_bare(url))  # in clear text, or with a certificate that is nobody's: not through us
            continue
        secured[host, _asked(port)] = port
        indexes.append((host, port, urllib.parse.urlsplit(url).path))
        shown.append(_plain(url))
    if any(host == "pypi.org" for host, _, _ in indexes):
        secured[_place(_PYPI_FILES)[0], 80] = 443
    # with a port, which is in no `https:` URL: there pip goes on looking at certificates
    trusted = [*(f"{host}:{port}" for host, port in secured), *sorted(unverified)]
    found = {"PIP_INDEX_URL": shown[0], **({"PIP_TRUSTED_HOST": " ".join(trusted)} if trusted else {})}
    if shown[1:]:
        found["PIP_EXTRA_INDEX_URL"] = " ".join(shown[1:])
    npm = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY") or _setting(_FILES[0], "=")
    npm = npm if npm.startswith("http") and _place(npm)[0] else _NPM
    conda = os.environ.get("CONDA_CHANNEL_ALIAS") or _setting(_FILES[1], ":") or _CONDA
    for url, name in ((npm, "npm_config_registry"), (conda, "CONDA_CHANNEL_ALIAS")):
        host, port = _place(url)
        if url.startswith("https://") and host:
            secured[host, _asked(port)] = port
            found[name] = _plain(url).replace(":80/", "/", 1).removesuffix(":80")  # the port would be in names of channels
        else:
            found[name] = _bare(url)
    # npm's own way to leave a registry's host out of metadata and lock files
    found["npm_config_replace_registry_host"] = "npmjs" if npm == _NPM else _bare(npm).split("/")[2]
    return Registries(secured, tuple(indexes), found)


def pip_variables() -> dict[str, str]:
    """pip's own settings, its variables before its files. Those that name files of the host mean nothing in a sandbox."""
    found = dict(_pip_files())
    for key in _PIP:
        name = "PIP_DEFAULT_TIMEOUT" if key == "timeout" else f"PIP_{key.upper().replace('-', '_')}"
        found[key] = os.environ.get(name) or found.get(key, "")
    urls = {key: " ".join(url for url in found[key].split() if url.startswith("http")) for key in _PIP if key.endswith("url")}
    names = {key: "PIP_" + ("default-" if key == "timeout" else "") + key for key in _PIP}
    return {names[key].upper().replace("-", "_"): text for key, text in {**found, **urls}.items() if text}


def _pip_paths() -> tuple[str, ...]:
    home, config = os.path.expanduser("~"), os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return "/etc/pip.conf", f"{home}/.pip/pip.conf", f"{config}/pip/pip.conf", os.environ.get("PIP_CONFIG_FILE", "")


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _pip_files() -> Iterator[tuple[str, str]]:
    for path in _pip_paths():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path or [])
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself would stop at it; here it is only not used
        for section in ("global", "install"):
            for key in _PIP if parser.has_section(section) else ():
                if parser.has_option(section, key):
                    yield key, parser.get(section, key)


def _setting(path: str, sign: str) -> str:
    """npm's registry, conda's channel_alias: the one line that is wanted of a file."""
    name = "registry" if sign == "=" else "channel_alias"
    try:
        text = Path(os.path.expanduser(path)).read_text(errors="replace")
    except OSError:
        return ""
    return _first(re.findall(rf"^{name}\s*{sign}\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE))


def _first(found: Iterable[str]) -> str:
    return next(iter(found), "")


def _place(url: str) -> tuple[str, int]:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", 0


def _asked(port: int) -> int:
    return 80 if port == 443 else port


def _plain(url: str) -> str:
    host, port = _place(url)
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(scheme="http", netloc=f"{host}:{_asked(port)}"))


def _bare(url: str) -> str:
    """Without the password: nothing that a sandbox should know."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
