"""An image as a file that other programs take: an OCI image layout in a tar archive, which `docker load` reads as well."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lisrt.errors import ImageError
from lisrt.store import archive, manifest
from lisrt.store.blobs import CHUNK
from lisrt.store.catalog import Catalog
from lisrt.store.intake import Progress, silent
from lisrt.store.record import ImageRecord, LayerRecord


def export(
    record: ImageRecord, name: str, catalog: Catalog, out: IO[bytes], *, as_is: bool = False, progress: Progress = silent
) -> str:
    """Writes an image. The same record and name give the same bytes. Returns its manifest's digest. Raises ImageError, OSError.

    Args:
        name: the tag that it will have where it is loaded; "" for none.
        as_is: layers stay compressed as they are. Otherwise zstd becomes gzip, for those who don't read it: Docker before
            23, umoci, and skopeo where it makes an image of Docker's kind.
    """
    if record.base:
        raise ImageError(f"its lowest layer is {record.base!r}, this machine's own files, which stay here: it can't be exported")
    with catalog.home.adding(), catalog.home.draft() as place:  # meanwhile nobody takes its layers for garbage
        layers = [_layer(catalog, layer, place, as_is, progress) for layer in record.layers]
        configuration = _json(_configuration(record))
        text = _json(
            {
                "schemaVersion": 2,
                "mediaType": manifest.MANIFEST,
                "config": _described(manifest.CONFIG, configuration),
                "layers": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers],
            }
        )
        entry = {**_described(manifest.MANIFEST, text), "platform": {"architecture": _architecture(record), "os": "linux"}}
        if name:
            entry["annotations"] = {"io.containerd.image.name": name, manifest.REF_NAME: name.rpartition(":")[2]}
        saved = {
            "Config": _path(archive.digest(configuration)),
            "RepoTags": [name] if name else None,
            "Layers": [_path(layer.digest) for layer in layers],
        }
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            _add(tar, "index.json", _json({"schemaVersion": 2, "mediaType": manifest.INDEX, "manifests": [entry]}))
            _add(tar, "manifest.json", _json([saved]))
            for folder in ("blobs", "blobs/sha256"):  # skopeo, when it makes one itself, wants to give it to root
                info = tarfile.TarInfo(folder)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            for content in (text, configuration):
                _add(tar, _path(archive.digest(content)), content)
            _add_layers(tar, list({layer.digest: layer for layer in layers}.values()), progress)
    return archive.digest(text)


@dataclass(frozen=True, slots=True)
class _Layer:
    path: Path
    digest: str
    size: int
    media_type: str


def _layer(catalog: Catalog, layer: LayerRecord, place: Path, as_is: bool, progress: Progress) -> _Layer:
    path, digest, size = catalog.blobs.path(layer.blob), layer.blob, layer.size
    head = next(catalog.blobs.chunks(layer.blob), b"")
    kind = archive.compression(head)
    if kind == "zstd" and not as_is:
        with archive.naming(f"layer {layer.diff_id}"):
            path = _as_gzip(path, place / layer.diff_id, progress)
        digest, size, kind = _digest_of(path), path.stat().st_size, "gzip"
    return _Layer(path, digest, size, f"{manifest.LAYER}+{kind}")


def _as_gzip(source: Path, target: Path, progress: Progress) -> Path:
    count = 0
    with (
        open(source, "rb") as raw,
        archive.decompressed(raw) as plain,
        open(target, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as writer,
    ):
        while chunk := plain.read(CHUNK):
            writer.write(chunk)
            count += len(chunk)
            progress("compressing", count, None)
    return target


def _digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _add_layers(tar: tarfile.TarFile, layers: list[_Layer], progress: Progress) -> None:
    total, done = sum(layer.size for layer in layers), 0
    for layer in layers:
        info = tarfile.TarInfo(_path(layer.digest))
        info.size = layer.size
        with open(layer.path, "rb") as file:
            tar.addfile(info, file)
        done += layer.size
        progress("writing", done, total)


def _configuration(record: ImageRecord) -> dict[str, Any]:
    started = {
        "Env": [f"{name}={value}" for name, value in record.config.env],
        "WorkingDir": record.config.workdir,
        "User": record.config.user,
        "Entrypoint": list(record.config.entrypoint),
        "Cmd": list(record.config.cmd),
    }
    at = record.provenance.get("at")
    return {
        **({"created": at} if at else {}),
        "architecture": _architecture(record),
        "os": "linux",
        "config": {key: value for key, value in started.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in record.layers]},
        "history": [{"created_by": f"lisrt, from {record.provenance.get('kind', 'somewhere')}"}] * len(record.layers),
    }


def _architecture(record: ImageRecord) -> str:
    return record.architecture or manifest.here()


def _described(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": archive.digest(content), "size": len(content)}


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
