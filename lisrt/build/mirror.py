"""A mirror of Debian or Ubuntu: which packages there are, on the word of a key that we were given."""

from __future__ import annotations

import datetime
import email.utils
import lzma
import os
import platform
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lisrt.build.debian import by_version, fields, require_shapes
from lisrt.build.fetch import Wanted, fetch
from lisrt.errors import ImageError

KEYRINGS = "/usr/share/keyrings"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_NAME = re.compile(r"^Package: (\S+)$", re.MULTILINE)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,15}")
_FILENAME = re.compile(r"[!-~]+")
_PROVIDES = re.compile(r"^Provides: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """Suites of one mirror."""

    mirror: str
    """URL of the directory that has `dists` and `pool`."""
    suites: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    keyring: str = ""
    """A file of public keys; a bare name is looked for in /usr/share/keyrings."""
    signed_by: str = ""
    """The keyring's path in the image, for its apt; "" for all keys that it trusts."""
    trusted: bool = False
    """Nobody's word is asked for: for mirrors of one's own."""
    check_valid_until: bool = True
    """Off for snapshots of the past."""

    def paragraph(self, mirror: str | None = None) -> str:
        """As apt's `.sources` files have it."""
        lines = {
            "Types": "deb",
            "URIs": mirror or self.mirror,
            "Suites": " ".join(self.suites),
            "Components": " ".join(self.components),
            "Signed-By": self.signed_by,
            "Trusted": "yes" if self.trusted else "",
            "Check-Valid-Until": "" if self.check_valid_until else "no",
        }
        return "".join(f"{name}: {value}\n" for name, value in lines.items() if value)


@dataclass(frozen=True, slots=True)
class Offer:
    """A version of a package that a mirror has."""

    fields: Mapping[str, str]
    mirror: str

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def version(self) -> str:
        return self.fields["Version"]

    @property
    def url(self) -> str:
        return f"{self.mirror.rstrip('/')}/{self.fields['Filename']}"


class Index:
    """What all sources together have. Paragraphs are read when somebody asks: there are sixty thousand."""

    def __init__(self) -> None:
        self._blocks: dict[str, list[tuple[str, str]]] = {}
        self._provided: dict[str, list[str]] = {}
        self._needed: list[str] = []
        self._offers: dict[str, list[Offer]] = {}

    def add(self, text: str, mirror: str) -> None:
        """A Packages file of a mirror."""
        for block in text.split("\n\n"):
            match = _NAME.search(block)
            if match is None:
                continue
            name = match[1]
            self._blocks.setdefault(name, []).append((block, mirror))
            provides = _PROVIDES.search(block)
            for one in provides[1].split(",") if provides else ():
                self._provided.setdefault(one.split("(")[0].strip(), []).append(name)
            if "\nEssential: yes" in block or "\nPriority: required" in block:
                self._needed.append(name)

    def needed(self) -> list[str]:
        """Names of the packages that every system has."""
        return sorted(set(self._needed))

    def offers(self, name: str) -> list[Offer]:
        """The versions that there are of a package, the newest first. ImageError for a paragraph that can't be one's."""
        found = self._offers.get(name)
        if found is None:
            found = [_offer(name, block, mirror) for block, mirror in self._blocks.get(name, ())]
            found.sort(key=lambda offer: by_version(offer.version), reverse=True)
            self._offers[name] = found
        return found

    def providers(self, name: str) -> list[str]:
        """Packages that stand for one that does not exist itself."""
        return sorted(set(self._provided.get(name, ())))


def _offer(name: str, block: str, mirror: str) -> Offer:
    """Signed or not, it is a stranger's text, and names the file that its package is downloaded to."""
    found = fields(block)
    try:
        require_shapes(found)
        if found["Package"] != name:  # said twice
            raise ImageError(f"a package that is both {name[:100]!r} and {found['Package']!r}")
        for key, shape in (("Filename", _FILENAME), ("SHA256", _DIGEST), ("Size", _SIZE)):
            value = found.get(key, "")
            if not shape.fullmatch(value) or ".." in value.split("/"):
                raise ImageError(f"a package {name!r} whose {key} is {value[:100]!r}")
    except ImageError as error:
        raise ImageError(f"{mirror} has {error}") from None
    return Offer(found, mirror)


def architecture() -> str:
    """Debian's name for this machine's. ImageError for one that we do not know."""
    machine = platform.machine()
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise ImageError(f"packages for {machine} are not known here; {', '.join(_ARCHITECTURES)} are") from None


def read_index(sources: list[tuple[Source, str]], folder: Path, say: Callable[[str], None]) -> Index:
    """Downloads and checks the indexes of (source, mirror to use) into an empty directory. ImageError."""
    index = Index()
    count = 0
    for source, mirror in sources:
        for suite in source.suites:
            place = folder / str(count)
            count += 1
            place.mkdir()
            say(f"index of {mirror} {suite}")
            release = _release(source, mirror, suite, place)
            for text in _packages(source, mirror, suite, release, place):
                index.add(text, mirror)
    return index


def _release(source: Source, mirror: str, suite: str, place: Path) -> dict[str, str]:
    url = f"{mirror.rstrip('/')}/dists/{suite}"
    signed = fetch(Wanted(f"{url}/InRelease", place / "InRelease"))
    text = signed.read_text(errors="replace") if source.trusted else verified(signed, find_keyring(source), f"{url}/InRelease")
    body = text.partition("\n\n")[2] if text.startswith("-----BEGIN PGP SIGNED") else text
    release = fields(body.partition("-----BEGIN PGP SIGNATURE")[0])
    _require_suite(release, suite, source, f"{url}/InRelease")
    until = release.get("Valid-Until")
    if until and source.check_valid_until:
        end = email.utils.parsedate_to_datetime(until)
        if end < datetime.datetime.now(datetime.UTC):
            raise ImageError(
                f"{url}/InRelease was valid until {until}: the mirror is stale, or somebody holds updates back; "
                "for a snapshot of the past write `check-valid-until = false` into the recipe"
            )
    return release


def _require_suite(release: Mapping[str, str], suite: str, source: Source, what: str) -> None:
    """One key signs many suites: a mirror could give an old one, or a testing one, for the one that was asked for.

    `oldstable-security` and `bookworm-security` are one, by Suite and by Codename. Ubuntu's noble-updates has the Codename
    noble, and is not noble. Debian once had `buster/updates` with the Codename buster.
    """
    named, code = release.get("Suite", ""), release.get("Codename", "")
    asked = {suite, suite.rpartition("/")[0]} - {""}
    if named in asked or (code in asked and not named.startswith(f"{code}-")):
        return
    if source.trusted and not named and not code:  # some tools for mirrors of one's own write neither
        return
    raise ImageError(f"{what} is that of Suite {named[:100]!r}, Codename {code[:100]!r}, and not of {suite!r}")


def _packages(source: Source, mirror: str, suite: str, release: dict[str, str], place: Path) -> Iterator[str]:
    known = {}
    for line in release.get("SHA256", "").splitlines():
        parts = line.split()
        if len(parts) == 3:
            known[parts[2]] = (parts[0], int(parts[1]))
    for component in source.components:
        base = f"{component}/binary-{architecture()}/Packages"
        name = next((name for name in (f"{base}.xz", f"{base}.gz", base) if name in known), None)
        url = f"{mirror.rstrip('/')}/dists/{suite}"
        if name is None:
            raise ImageError(f"{url} has no component {component!r} for {architecture()}")
        digest, size = known[name]
        at = f"{Path(name).parent}/by-hash/SHA256/{digest}" if release.get("Acquire-By-Hash") == "yes" else name
        data = fetch(Wanted(f"{url}/{at}", place / component.replace("/", "_"), digest, size)).read_bytes()
        if name.endswith(".xz"):
            data = lzma.decompress(data)
        elif name.endswith(".gz"):
            data = zlib.decompress(data, 31)
        yield data.decode()


def find_keyring(source: Source) -> Path:
    """The file of a source's keys. ImageError when there is none: without a key anybody's packages would do."""
    if not source.keyring:
        raise ImageError(
            f"nothing says whose packages {source.mirror} may have: name a `keyring`, or write `trusted = true` for a mirror "
            "of your own"
        )
    path = Path(KEYRINGS, source.keyring)  # an absolute one stays what it is
    if not path.is_file():
        raise ImageError(f"there is no keyring {path}")
    return path


def verified(signed: Path, keyring: Path, what: str) -> str:
    """The text of a file that is signed, if one of these keys has signed it. ImageError."""
    program = shutil.which("gpgv")
    if program is None:
        raise ImageError(
            f"{what}: its signature can't be checked without gpgv; install it (package gpgv, or gnupg2), or write "
            "`trusted = true` into the recipe"
        )
    plain = signed.with_suffix(".plain")
    argv = [program, "--homedir", str(signed.parent), "--keyring", str(keyring), "--status-fd", "1"]
    done = subprocess.run(
        [*argv, "--output", str(plain), str(signed)],
        capture_output=True,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
    )
    words = [line.split()[1] for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("[GNUPG:] ")]
    # a release is signed by several keys, and gpgv fails when it lacks one: what counts is a good one, and no bad one
    if "GOODSIG" not in words or "BADSIG" in words or not plain.exists():
        last = done.stderr.decode(errors="replace").strip().splitlines()
        raise ImageError(f"{what} is not signed by a key of {keyring}{': ' + last[-1] if last else ''}")
    return plain.read_text()
