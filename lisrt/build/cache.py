"""Layers that earlier builds have made: looked up by what they were made from, taken when they hold what the lock wants.

A file each in the store's `builds`. The layers themselves are blobs like others: once no image needs them and `lisrt image gc`
has removed them, they are made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lisrt.build.lock import Versions
from lisrt.build.recipe import Copy, Step
from lisrt.errors import ImageError
from lisrt.store.blobs import checked_digest
from lisrt.store.catalog import Catalog
from lisrt.store.record import LayerRecord

_FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """What a step has made, or a base."""

    layers: tuple[LayerRecord, ...]
    """Its own, the lowest first; none for a step that writes nothing."""
    versions: Versions
    """Of all packages that are there afterwards."""


def key(parent: str, what: Any) -> str:
    """Names what is made by doing `what`, a JSON value, on top of `parent`."""
    return hashlib.sha256(json.dumps([_FORMAT, parent, what], sort_keys=True).encode()).hexdigest()


def describe(step: Step) -> Any:
    """A step as a JSON value that is another one when the step would do something else. OSError."""
    if isinstance(step, Copy):
        return {"kind": "Copy", "to": step.to, "from": _contents(step.source)}
    return {"kind": type(step).__name__, **asdict(step)}


def _contents(path: Path) -> list[list[str]]:
    """Name, mode and digest of every file."""
    found = []
    for entry in [path, *(sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [])]:
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            said = os.readlink(entry)
        elif stat.S_ISREG(status.st_mode):
            with open(entry, "rb") as file:
                said = hashlib.file_digest(file, "sha256").hexdigest()
        elif stat.S_ISDIR(status.st_mode):
            said = ""
        else:
            raise ImageError(f"{entry}: files, directories and links can be copied, and nothing else")
        found.append([str(entry.relative_to(path)), oct(status.st_mode), said])
    return found


def find(catalog: Catalog, name: str, wanted: Versions | None) -> Made | None:
    """What was made, if its layers are still there, and it holds no other versions than `wanted` (None: any)."""
    try:
        value = json.loads((catalog.home.part("builds") / f"{name}.json").read_bytes())
        layers = tuple(
            LayerRecord(checked_digest(one["diff_id"]), checked_digest(one["blob"]), int(one["size"]))
            for one in value["layers"]
        )
        made = Made(layers, Versions(value["apt"], value["pip"]))
    except (OSError, ValueError, KeyError, TypeError, ImageError):
        return None  # none, or one that a crash has damaged: it is made again
    if not all(catalog.blobs.has(layer.blob, layer.size) for layer in layers):
        return None
    return None if wanted is not None and made.versions.differing(wanted) else made


def keep(catalog: Catalog, name: str, made: Made) -> None:
    """Call it while `home.adding()` is held. OSError."""
    value = {
        "layers": [asdict(layer) for layer in made.layers],
        "apt": dict(made.versions.apt),
        "pip": dict(made.versions.pip),
    }
    catalog.home.put("builds", f"{name}.json", json.dumps(value).encode())
