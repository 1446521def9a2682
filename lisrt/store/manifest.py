"""What OCI and Docker say about images, in JSON: indexes, manifests, configurations. Read with the distrust that they deserve."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lisrt.errors import ImageError
from lisrt.store.blobs import checked_digest
from lisrt.store.record import Config

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = (INDEX, DOCKER_LIST)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
REF_NAME = "org.opencontainers.image.ref.name"
MOST_TEXT = 8 << 20
"""Bytes of a manifest or configuration; those of real images have some thousand."""
MOST_LAYERS = 1000

_LAYERS = {
    *(
        f"application/vnd.oci.image.layer.{far}v1.tar{how}"
        for far in ("", "nondistributable.")
        for how in ("", "+gzip", "+zstd")
    ),
    *(
        f"application/vnd.docker.image.rootfs.{far}diff.tar{how}"
        for far in ("", "foreign.")
        for how in ("", ".gzip", ".zstd")
    ),
}
_CONFIGS = (CONFIG, "application/vnd.docker.container.image.v1+json")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "loongarch64": "loong64"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob that something else names."""

    digest: str
    size: int
    media_type: str = ""
    architecture: str = ""
    """"" where it does not say."""
    os: str = ""
    name: str = ""
    """Of an index' entry: the tag that it was saved under."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: where its configuration and its layers are."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What a configuration says."""

    config: Config
    architecture: str
    diff_ids: tuple[str, ...]


def here() -> str:
    """OCI's word for this machine's architecture."""
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def is_index(text: bytes, media_type: str = "") -> bool:
    """Whether it is a list of manifests rather than one. ImageError where it is neither."""
    value = _parsed(text)
    said = value.get("mediaType", media_type)
    if said in INDEXES or (said not in MANIFESTS and isinstance(value.get("manifests"), list)):
        return True
    if value.get("schemaVersion") == 1 or "fsLayers" in value:
        raise ImageError(
            "its manifest is of Docker's first kind (schema 1), which registries gave up: push the image again"
        )
    if said not in ("", None, *MANIFESTS):
        raise ImageError(f"its manifest has the unknown media type {str(said)[:100]!r}")
    return False


def index(text: bytes) -> list[Descriptor]:
    """The manifests of an index, in its order. ImageError."""
    return [_descriptor(entry) for entry in _list(_parsed(text).get("manifests"), "manifests")]


def manifest(text: bytes) -> Manifest:
    """ImageError, also where it is about something else than an image, such as a chart or a signature."""
    value = _parsed(text)
    layers = tuple(_descriptor(layer) for layer in _list(value.get("layers"), "layers"))
    for number, layer in enumerate(layers, 1):
        if layer.media_type not in _LAYERS:
            raise ImageError(f"layer {number} has the unknown media type {layer.media_type[:100]!r}")
    config = _descriptor(value.get("config"))
    if config.media_type not in _CONFIGS:
        raise ImageError(
            f"its configuration has the unknown media type {config.media_type[:100]!r}: no image of a file system"
        )
    return Manifest(config, layers)


def described(text: bytes) -> Described:
    """From an image's configuration. ImageError, also for an image of another system or processor."""
    value = _parsed(text)
    started = value.get("config") or {}
    if not isinstance(started, dict):
        raise ImageError("its configuration is damaged: 'config' is no object")
    system, architecture = _text(value, "os") or "linux", _text(value, "architecture")
    if system != "linux" or architecture not in ("", here()):
        raise ImageError(f"it is for {system[:50]}/{architecture[:50]}, and this machine is linux/{here()}")
    rootfs = value.get("rootfs")
    diff_ids = _list(rootfs.get("diff_ids") if isinstance(rootfs, dict) else None, "rootfs.diff_ids")
    return Described(
        Config(
            env=tuple(_variable(entry) for entry in _texts(started, "Env")),
            workdir=_text(started, "WorkingDir"),
            user=_text(started, "User"),
            entrypoint=_texts(started, "Entrypoint"),
            cmd=_texts(started, "Cmd"),
        ),
        architecture,
        tuple(checked_digest(one) for one in diff_ids),
    )


def architecture(text: bytes, blob: Callable[[Descriptor], bytes]) -> str:
    """Of the image of this manifest; "" where nobody says, or for an index, `none` for what is no image, such as a signature."""
    try:
        if is_index(text):
            return ""
        config = manifest(text).config
    except ImageError:
        return "none"
    return _text(_parsed(blob(config)), "architecture")


def choose(entries: Sequence[Descriptor], pick: str | None, look: Callable[[Descriptor], str]) -> Descriptor:
    """The one entry of an index that is for this machine, and named `pick` where that is given.

    `look` finds out the architecture of an entry that does not say. ImageError: none, or several.
    """
    images = [
        one for one in entries if one.media_type in ("", *MANIFESTS, *INDEXES) and one.os in ("", "linux")
    ]
    if pick is not None:
        images = [one for one in images if pick in (one.name, one.name.rpartition(":")[2], one.digest)]
    if len(images) == 1 and not images[0].architecture:
        return images[0]  # what is wrong with it, if anything, it says itself
    known = {one: one.architecture or ("" if one.media_type in INDEXES else look(one)) for one in images}
    found = [one for one in images if known[one] in (here(), "")]
    if len({one.digest for one in found}) == 1:
        return found[0]
    if found:
        raise ImageError(f"it has several images, so say which one: {_some(one.name or one.digest for one in found)}")
    wanted = f"named {pick!r} and for linux/{here()}" if pick is not None else f"for linux/{here()}"
    others = (f"{one.name} linux/{known.get(one) or one.architecture or '?'}".strip() for one in images or entries)
    raise ImageError(f"none of its images is {wanted}; it has {_some(others)}")


def _some(words: Iterable[str]) -> str:
    return ", ".join(sorted({word[:100] for word in words})[:8]) or "none at all"


def _variable(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    if not name or "\0" in entry:
        raise ImageError(f"its configuration has the variable {entry[:100]!r}")
    return name, value


def _parsed(text: bytes) -> dict[str, Any]:
    if len(text) > MOST_TEXT:
        raise ImageError(f"a manifest or configuration of more than {MOST_TEXT >> 20} MiB")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"its manifest or configuration is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError("its manifest or configuration is no JSON object")
    return value


def _descriptor(value: Any) -> Descriptor:
    if not isinstance(value, dict):
        raise ImageError("its manifest is damaged: a descriptor is no object")
    size = value.get("size")
    if not isinstance(size, int) or size < 0:
        raise ImageError(f"its manifest is damaged: a size is {str(size)[:50]!r}")
    platform, notes = value.get("platform"), value.get("annotations")
    platform = platform if isinstance(platform, dict) else {}
    notes = notes if isinstance(notes, dict) else {}
    return Descriptor(
        checked_digest(value.get("digest")),
        size,
        _text(value, "mediaType"),
        _text(platform, "architecture"),
        _text(platform, "os"),
        str(notes.get("io.containerd.image.name") or notes.get(REF_NAME) or ""),
    )


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST_LAYERS:
        raise ImageError(
            f"its manifest or configuration is damaged: {what!r} is no list, or one of more than {MOST_LAYERS}"
        )
    return value


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key) or ""
    if not isinstance(found, str) or "\0" in found:
        raise ImageError(f"its configuration is damaged: {key!r} is {str(found)[:50]!r}")
    return found


def _texts(value: dict[str, Any], key: str) -> tuple[str, ...]:
    found = value.get(key) or []
    if isinstance(found, str):  # Docker takes a string for a command of a shell
        found = ["/bin/sh", "-c", found]
    if not isinstance(found, list) or not all(isinstance(one, str) and "\0" not in one for one in found):
        raise ImageError(f"its configuration is damaged: {key!r} is {str(found)[:50]!r}")
    return tuple(found)
