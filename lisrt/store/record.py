"""What an image is: its layers, and what a program in it is started with. A JSON file each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lisrt.errors import ImageError
from lisrt.store.blobs import checked_digest

FORMAT = 1


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer: a tar file, compressed."""

    diff_id: str
    """Digest of the tar itself (OCI's diff_id): what the layer is, however it is compressed."""
    blob: str
    """Digest of the file in the store."""
    size: int
    """Bytes of that file."""


@dataclass(frozen=True, slots=True)
class Config:
    """What programs are started with: Docker's ENV, WORKDIR, USER, ENTRYPOINT and CMD."""

    env: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    """"" where the image names none."""
    user: str = ""
    """As the image has it: "", a name or number, perhaps with `:group`."""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of the store."""

    layers: tuple[LayerRecord, ...]
    """The lowest first, as OCI has them."""
    config: Config = Config()
    base: str = ""
    """`host` for layers above this machine's own /usr: such an image stays on hosts like this one. "" for all others."""
    architecture: str = ""
    """OCI's word for it, such as `amd64`; "" where nobody has said."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where it came from, for people: `kind`, `source`, `at` and whatever else is worth knowing."""

    @property
    def id(self) -> str:
        """Digest of what the image is; its provenance is no part of that."""
        layers = [layer.diff_id for layer in self.layers]
        what = {"layers": layers, "config": asdict(self.config), "arch": self.architecture, "base": self.base}
        return "sha256:" + hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes at rest."""
        return sum(layer.size for layer in self.layers)

    def encode(self) -> bytes:
        """The text of its file."""
        return json.dumps({"format": FORMAT, **asdict(self), "provenance": dict(self.provenance)}, indent=2).encode()

    @classmethod
    def decode(cls, text: bytes) -> ImageRecord:
        """ImageError for what is no record, or one of a later lisrt."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ImageError(f"its record has format {value['format']}, and this lisrt knows {FORMAT}: use a later one")
            return cls(
                layers=tuple(_layer(layer) for layer in value["layers"]),
                config=_config(value["config"]),
                base=str(value.get("base", "")),
                architecture=str(value["architecture"]),
                provenance={str(name): str(text) for name, text in value["provenance"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ImageError(f"its record is damaged: {error!r}") from None


def _layer(value: dict[str, Any]) -> LayerRecord:
    return LayerRecord(checked_digest(value["diff_id"]), checked_digest(value["blob"]), int(value["size"]))


def _config(value: dict[str, Any]) -> Config:
    return Config(
        env=tuple((str(name), str(text)) for name, text in value["env"]),
        workdir=str(value["workdir"]),
        user=str(value["user"]),
        entrypoint=tuple(map(str, value["entrypoint"])),
        cmd=tuple(map(str, value["cmd"])),
    )
