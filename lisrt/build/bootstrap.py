"""The first layer of a Debian or Ubuntu, from its packages alone: no debootstrap, no mmdebstrap, no dpkg, no root.

The packages' files go straight into the layer, beside a package database that says "unpacked"; what is left for a sandbox is
`dpkg --configure`. So the layer is a function of the packages: the same versions give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lisrt.build.debian import Control, Package
from lisrt.build.fetch import Wanted, fetch_all
from lisrt.build.mirror import Offer, Source
from lisrt.errors import ImageError
from lisrt.store.archive import naming
from lisrt.store.home import Home
from lisrt.store.pack import write_layer
from lisrt.store.record import LayerRecord

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32")
"""Links into /usr. Older packages have files below them still, and a link must be there before the first of those."""
_DATABASE = "var/lib/dpkg"
_TRIGGERS = {"interest": "", "interest-await": "", "interest-noawait": "/noawait"}

FILES = {
    # its sandboxes have one user: apt would refuse to go on when the change to `_apt` has changed nothing
    "etc/apt/apt.conf.d/01lisrt": 'APT::Sandbox::User "root";\nAcquire::Languages "none";\n',
    # an image is whole or not there at all, and a sandbox's files do not outlive a crash: nothing to sync for
    "etc/dpkg/dpkg.cfg.d/lisrt": "force-unsafe-io\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/resolv.conf": "",
    "var/lib/dpkg/available": "",
    "var/lib/dpkg/diversions": "",
    "var/lib/dpkg/statoverride": "",
}
EXECUTABLES = {
    # no init runs: a package's installation starts no services (`service NAME start` does)
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}

CONFIGURE = f"""set -e
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DPKG_MAINTSCRIPT_NAME=preinst
for script in /{_DATABASE}/info/*.preinst; do
    [ -e "$script" ] || continue
    package=${{script##*/}}; package=${{package%.preinst}}
    DPKG_MAINTSCRIPT_PACKAGE=${{package%%:*}} "$script" install
done
unset DPKG_MAINTSCRIPT_NAME
dpkg --force-depends --configure base-passwd
dpkg --configure --pending
dpkg --audit
"""
"""What is left to do in a sandbox."""


@dataclass(frozen=True, slots=True)
class _Unpacked:
    name: str
    control: Control
    paths: list[str]
    sums: dict[str, str]
    """MD5 of each configuration file, which is what dpkg knows them by."""


def download(offers: list[Offer], folder: Path, progress: Callable[[int, int], None]) -> list[Path]:
    """The packages' files. `progress` gets the bytes so far, and all. ImageError."""
    wanted = [
        Wanted(offer.url, folder / f"{offer.name}.deb", offer.fields["SHA256"], int(offer.fields["Size"])) for offer in offers
    ]
    whole, so_far = sum(one.size for one in wanted), [0]

    def piece(size: int) -> None:
        so_far[0] += size
        progress(so_far[0], whole)

    fetch_all(wanted, piece)
    return [one.path for one in wanted]


def first_layer(packages: Iterable[Path], sources: list[Source], distribution: str, home: Home) -> LayerRecord:
    """Adds the layer to the store. Call it while `home.adding()` is held. ImageError, OSError."""

    def write(out: IO[bytes]) -> None:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _Composer(tar).compose(packages, sources, distribution)

    return write_layer(home, write)


class _Composer:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._there: set[str] = set()

    def compose(self, packages: Iterable[Path], sources: list[Source], distribution: str) -> None:
        self._directory("usr", 0o755)
        unpacked = []
        for path in packages:
            with naming(path.name):
                unpacked.append(self._package(Package(path)))
        for name, content in _database(unpacked).items():
            self._file(name, content, 0o755 if name.endswith(("inst", "rm", "config")) else 0o644)
        for files, mode in ((FILES, 0o644), (EXECUTABLES, 0o755)):
            for name, said in files.items():
                self._file(name, said.encode(), mode)
        text = "\n".join(source.paragraph() for source in sources)
        self._file(f"etc/apt/sources.list.d/{distribution}.sources", text.encode(), 0o644)

    def _package(self, package: Package) -> _Unpacked:
        control = package.control()
        name = control.fields["Package"]
        if control.fields.get("Multi-Arch") == "same":
            name += f":{control.fields['Architecture']}"
        listed = {line.strip() for line in control.files.get("conffiles", (0, b""))[1].decode().splitlines()}
        made = _Unpacked(name, control, [], {})
        for source, entry in package.contents():
            path = "/" + entry.name.removeprefix("./").strip("/")
            made.paths.append(path if path not in ("/", "/.") else "/.")
            content = source.extractfile(entry) if entry.isreg() else None
            if content is not None and path in listed:
                data = content.read()
                made.sums[path] = hashlib.md5(data, usedforsecurity=False).hexdigest()
                content = io.BytesIO(data)
            self._entry(entry, content)
        return made

    def _entry(self, entry: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        path = self._placed(entry.name)
        if not path or entry.isdev() or (path in self._there and (entry.isdir() or path in _MERGED)):
            return
        made = tarfile.TarInfo(path)
        made.mode, made.mtime, made.type = stat.S_IMODE(entry.mode), int(entry.mtime), entry.type
        if entry.islnk():
            made.linkname = self._placed(entry.linkname)
        elif entry.issym():
            made.linkname = entry.linkname
        self._there.add(path)
        if content is not None:
            made.type, made.size = tarfile.REGTYPE, entry.size
            self._tar.addfile(made, content)
        else:
            self._tar.addfile(made)

    def _placed(self, name: str) -> str:
        """Where a package's file goes when /bin, /lib, ... are links into /usr."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ImageError("`..` in a path")
        if not parts or parts[0] not in _MERGED:
            return "/".join(parts)
        if parts[0] not in self._there:
            self._directory(f"usr/{parts[0]}", 0o755)
            link = tarfile.TarInfo(parts[0])
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, f"usr/{parts[0]}", 0o777
            self._tar.addfile(link)
            self._there.add(parts[0])
        return "/".join(["usr", *parts] if len(parts) > 1 else parts)

    def _directory(self, path: str, mode: int) -> None:
        if path not in self._there:
            self._there.add(path)
            made = tarfile.TarInfo(path)
            made.type, made.mode = tarfile.DIRTYPE, mode
            self._tar.addfile(made)

    def _file(self, path: str, content: bytes, mode: int) -> None:
        if ".." in path.split("/"):  # a trigger's name, say
            raise ImageError(f"`..` in the path {path[:100]!r}")
        made = tarfile.TarInfo(path)
        made.mode, made.size = mode, len(content)
        self._tar.addfile(made, io.BytesIO(content))


def _database(packages: list[_Unpacked]) -> dict[str, bytes]:
    """dpkg's own files, as unpacking would have left them."""
    files: dict[str, bytes] = {f"{_DATABASE}/info/format": b"1\n"}
    status, by_path, by_name = [], [], dict[str, list[str]]()
    for package in packages:
        status.append(_status(package))
        files[f"{_DATABASE}/info/{package.name}.list"] = "".join(f"{path}\n" for path in package.paths).encode()
        for name, (_mode, content) in package.control.files.items():
            files[f"{_DATABASE}/info/{package.name}.{name}"] = content
        for line in package.control.files.get("triggers", (0, b""))[1].decode().splitlines():
            directive, _, trigger = line.partition("#")[0].strip().partition(" ")
            if directive in _TRIGGERS:
                interested = f"{package.name}{_TRIGGERS[directive]}"
                if trigger.startswith("/"):
                    by_path.append(f"{trigger} {interested}\n")
                else:
                    by_name.setdefault(trigger.strip(), []).append(f"{interested}\n")
    files[f"{_DATABASE}/status"] = "\n".join(status).encode()
    files[f"{_DATABASE}/triggers/File"] = "".join(by_path).encode()
    files[f"{_DATABASE}/triggers/Unincorp"] = b""
    files |= {f"{_DATABASE}/triggers/{name}": "".join(lines).encode() for name, lines in by_name.items()}
    return files


def _status(package: _Unpacked) -> str:
    """A paragraph of the status file. Configuration files have their digests, as if they had been asked about already."""
    lines = {"Package": package.control.fields["Package"], "Status": "install ok unpacked", **package.control.fields}
    text = "".join(f"{name}: {value}\n" for name, value in lines.items())
    listed = package.control.files.get("conffiles", (0, b""))[1].decode().split("\n")
    found = [f" {path} {package.sums[path]}\n" for path in map(str.strip, listed) if path in package.sums]
    return text + (f"Conffiles:\n{''.join(found)}" if found else "")
