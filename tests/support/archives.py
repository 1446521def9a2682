"""Layers, image layouts and saved images, made byte by byte: what real tools would refuse to make, too."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lisrt.store.archive import zstd_writer

Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"", mode: int = 0o644, **fields: Any) -> Entry:
    """A regular file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    return _with(info, fields), data


def folder(name: str, mode: int = 0o755, **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return _with(info, fields)


def link(name: str, target: str) -> Entry:
    """A symbolic one."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def hard(name: str, target: str) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def special(name: str, kind: bytes, major: int = 1, minor: int = 3) -> Entry:
    """A device, a pipe, or whatever type one likes."""
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = kind, major, minor
    return info


def _with(info: tarfile.TarInfo, fields: Mapping[str, Any]) -> tarfile.TarInfo:
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def tar(entries: Iterable[Entry], format: int = tarfile.PAX_FORMAT) -> bytes:
    """The archive of these entries, uncompressed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for entry in entries:
            info, data = entry if isinstance(entry, tuple) else (entry, b"")
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    out = io.BytesIO()
    with zstd_writer(out) as writer:
        writer.write(data)
    return out.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": zstd,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
MEDIA_TYPES = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An OCI image layout in the making."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.entries: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Puts it in, and returns its descriptor."""
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def json(self, value: object, media_type: str) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type)

    def image(
        self,
        *layers: bytes,
        how: str = "gzip",
        config: Mapping[str, Any] | None = None,
        diff_ids: list[str] | None = None,
        layer_type: str | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """An image of these tars; `more` goes into its configuration. Returns its descriptor."""
        whole = {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(layer) for layer in layers]},
            **more,
        }
        kind = layer_type or f"application/vnd.oci.image.layer.v1.tar{MEDIA_TYPES[how]}"
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.json(whole, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(COMPRESSIONS[how](layer), kind) for layer in layers],
        }
        return self.json(manifest, manifest["mediaType"])  # type: ignore[arg-type]

    def index(self, *entries: Mapping[str, Any]) -> dict[str, Any]:
        """An index as a blob."""
        kind = "application/vnd.oci.image.index.v1+json"
        return self.json({"schemaVersion": 2, "mediaType": kind, "manifests": entries}, kind)

    def add(self, descriptor: Mapping[str, Any], tag: str = "", **platform: str) -> "Layout":
        entry: dict[str, Any] = dict(descriptor)
        if tag:
            entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        if platform:
            entry["platform"] = {"os": "linux", **platform}
        self.entries.append(entry)
        return self

    def files(self) -> dict[str, bytes]:
        """Its files by name."""
        return {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": self.entries}).encode(),
            **{f"blobs/sha256/{name.removeprefix('sha256:')}": data for name, data in self.blobs.items()},
        }

    def write(self, root: Path) -> Path:
        """As a directory."""
        for name, data in self.files().items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    def archive(self) -> bytes:
        """As a tar archive, the blobs first, as skopeo does it."""
        return tar(file(name, data) for name, data in sorted(self.files().items()))


def saved(*layers: bytes, tag: str = "some/image:1", how: str = "plain", **config: Any) -> bytes:
    """What `docker save` wrote before Docker 25: a folder for each layer, and a manifest.json."""
    text = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
    ).encode()
    names = [f"{hashlib.sha256(b'%d' % number).hexdigest()}/layer.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": f"{digest(text)[7:]}.json", "RepoTags": [tag], "Layers": names}]
    entries: list[Entry] = []
    first: dict[bytes, str] = {}
    for name, layer in zip(names, layers, strict=True):
        entries += [folder(name.rpartition("/")[0] + "/"), file(name.replace("layer.tar", "VERSION"), b"1.0")]
        if layer in first:  # one that it had saved before
            entries.append(link(name, f"../{first[layer]}"))
        else:
            entries.append(file(name, COMPRESSIONS[how](layer)))
        first.setdefault(layer, name)
    entries += [file(f"{digest(text)[7:]}.json", text), file("manifest.json", json.dumps(manifest).encode())]
    return tar([*entries, file("repositories", b"{}")])
