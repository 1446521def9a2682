"""An image as a file that other programs take: an OCI image layout in a tar archive, which `docker load` reads as well."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import IO, Any, cast

from lisrt.errors import ImageError
from lisrt.store import archive, manifest
from lisrt.store.blobs import Blobs
from lisrt.store.intake import Progress, silent
from lisrt.store.record import ImageRecord, LayerRecord


def export(record: ImageRecord, name: str, blobs: Blobs, out: IO[bytes], progress: Progress = silent) -> str:
    """Writes an image. The same record and name give the same bytes. Returns its manifest's digest. Raises ImageError, OSError.

    `name` is the tag that it will have where it is loaded; "" for none.
    """
    if record.base:
        raise ImageError(f"its lowest layer is {record.base!r}, this machine's own files, which stay here: it can't be exported")
    kinds = [_media_type(blobs, layer) for layer in record.layers]
    configuration = _json(_configuration(record))
    layers = [
        {"mediaType": kind, "digest": layer.blob, "size": layer.size}
        for kind, layer in zip(kinds, record.layers, strict=True)
    ]
    text = _json(
        {
            "schemaVersion": 2,
            "mediaType": manifest.MANIFEST,
            "config": _described(manifest.CONFIG, configuration),
            "layers": layers,
        }
    )
    entry = {**_described(manifest.MANIFEST, text), "platform": {"architecture": _architecture(record), "os": "linux"}}
    if name:
        entry["annotations"] = {"io.containerd.image.name": name, manifest.REF_NAME: name.rpartition(":")[2]}
    saved = {
        "Config": _path(archive.digest(configuration)),
        "RepoTags": [name] if name else None,
        "Layers": [_path(layer.blob) for layer in record.layers],
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
        total = sum(layer.size for layer in {layer.blob: layer for layer in record.layers}.values())
        done = 0
        for layer in {layer.blob: layer for layer in record.layers}.values():
            info = tarfile.TarInfo(_path(layer.blob))
            info.size = layer.size
            tar.addfile(info, cast(IO[bytes], _Told(blobs.chunks(layer.blob), progress, done, total)))
            done += layer.size
    return archive.digest(text)


class _Told:
    """Chunks as a file that tells how far it has been read."""

    def __init__(self, chunks: Iterator[bytes], progress: Progress, done: int, total: int) -> None:
        self._chunks = chunks
        self._rest = b""
        self._progress = progress
        self._done = done
        self._total = total

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
            self._done += len(chunk)
            self._progress("writing", self._done, self._total)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


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


def _media_type(blobs: Blobs, layer: LayerRecord) -> str:
    head = next(iter(blobs.chunks(layer.blob)), b"")
    return f"{manifest.LAYER}+{archive.compression(head)}".rstrip("+")


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
