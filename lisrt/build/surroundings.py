"""What of the host reaches a build: mirrors, proxies, Python indexes, certificates. And how an image keeps none of it.

Variables are set for the build's commands alone; files lie in a directory that is mounted while it runs (HERE).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lisrt import settings, uplink
from lisrt.build.debian import paragraphs
from lisrt.build.lock import Versions
from lisrt.build.mirror import Source
from lisrt.egress.registries import pip_variables
from lisrt.egress.trust import bundle
from lisrt.errors import ImageError

HERE = "/run/lisrt"
"""In the sandboxes of a build: read-only, and gone from the layers."""
_APT_PROXY = re.compile(r"^Acquire::https?::Proxy(::\S+)? \"[^\"]*\";$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of this host, at this moment."""

    env: Mapping[str, str]
    bundle: Path | None
    apt_proxies: tuple[str, ...]

    def files(self, folder: Path, sources: Iterable[tuple[Source, str]], pins: Versions) -> None:
        """Fills the directory that is to be mounted at HERE."""
        conf = [*self.apt_proxies, f'Dir::Etc::Preferences "{HERE}/preferences";']
        if self.bundle is not None:
            shutil.copyfile(self.bundle, folder / "ca.pem")
            conf.append(f'Acquire::https::CAInfo "{HERE}/ca.pem";')
        changed = [(source, mirror) for source, mirror in sources if mirror != source.mirror]
        if changed:
            text = "\n".join(source.paragraph(mirror) for source, mirror in sources)
            (folder / "mirrors.sources").write_text(text)
            conf += [f'Dir::Etc::SourceList "{HERE}/mirrors.sources";', 'Dir::Etc::SourceParts "-";']
        pinned = (f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in pins.apt.items())
        (folder / "preferences").write_text("\n".join(pinned))
        (folder / "constraints.txt").write_text("".join(f"{name}=={version}\n" for name, version in pins.pip.items()))
        (folder / "apt.conf").write_text("\n".join(conf) + "\n")

    def variables(self) -> dict[str, str]:
        """For the build's commands."""
        bundles = dict.fromkeys(uplink.BUNDLE_VARIABLES, f"{HERE}/ca.pem") if self.bundle is not None else {}
        return {**self.env, **bundles, "APT_CONFIG": f"{HERE}/apt.conf", "DEBIAN_FRONTEND": "noninteractive"}


def look() -> Surroundings:
    """Asks this host. ValueError for broken settings."""
    trusted = bundle()
    return Surroundings({**uplink.proxies(), **pip_variables()}, Path(trusted) if trusted else None, _apt_proxies())


def _apt_proxies() -> tuple[str, ...]:
    program = shutil.which("apt-config")
    if program is None:
        return ()
    done = subprocess.run([program, "dump"], capture_output=True, text=True, errors="replace")
    return tuple(match[0] for match in _APT_PROXY.finditer(done.stdout))


def mirror_of(source: Source, distribution: str) -> str:
    """Where to get a source's packages on this host: its settings, its own apt's mirror, or what the recipe says.

    The setting `mirrors` is `FROM=TO`, more of them separated by spaces: of URLs that begin with FROM. ImageError.
    """
    for pair in (settings.get("mirrors") or "").split():
        start, equals, other = pair.partition("=")
        if not equals or not start or not other:
            raise ImageError(f"the setting `mirrors` ($LISRT_MIRRORS) is FROM=TO FROM=TO ..., not {pair!r}")
        if source.mirror.startswith(start):
            return other + source.mirror.removeprefix(start)
    return _apt_mirror(source, distribution) or source.mirror


def _apt_mirror(source: Source, distribution: str) -> str | None:
    """The mirror that this host's apt has for the same suites of the same distribution."""
    name = source.mirror.rstrip("/").rpartition("/")[2]
    if _distribution() != distribution:
        return None
    for uri, suites in _apt_sources(Path("/etc/apt")):
        if uri.startswith("http") and uri.rstrip("/").rpartition("/")[2] == name and set(source.suites) <= suites:
            return uri.rstrip("/")
    return None


def _distribution() -> str:
    try:
        match = re.search(r'^ID="?([a-z0-9._-]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""


def _apt_sources(etc: Path) -> list[tuple[str, set[str]]]:
    """URI and suites of every source, `.sources` and one-line files."""
    found: dict[str, set[str]] = {}
    parts = etc / "sources.list.d"
    for path in sorted([etc / "sources.list", *parts.glob("*.list"), *parts.glob("*.sources")]):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue  # none there, or one that holds a password
        if path.suffix == ".sources":
            for one in paragraphs("\n".join(line for line in text.splitlines() if not line.startswith("#"))):
                for uri in one.get("URIs", "").split() if "deb" in one.get("Types", "").split() else ():
                    found.setdefault(uri, set()).update(one.get("Suites", "").split())
        else:
            for line in text.splitlines():
                match = re.match(r"deb\s+(?:\[[^]]*]\s+)?(\S+)\s+(\S+)\s", line + " ")
                if match:
                    found.setdefault(match[1], set()).add(match[2])
    return list(found.items())
