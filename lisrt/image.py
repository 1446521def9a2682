"""Images: what a sandbox's root file system is made of."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lisrt import settings
from lisrt.errors import ImageError
from lisrt.hostimage import build_skeleton, submounts, unmerged_directories


@dataclass(frozen=True, slots=True)
class Layer:
    """An immutable directory tree on the host, shown at `target` below the image's root ("" is the root itself)."""

    path: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """Layers, the topmost first, and what programs in them expect."""

    name: str
    layers: tuple[Layer, ...]
    binds: tuple[tuple[str, str], ...] = ()
    """(host path, target): file systems mounted inside a layer, shown read-only in their place."""
    env: tuple[tuple[str, str], ...] = field(default=())


DEFAULT_ENV = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
)


def resolve_name(name: str | None) -> str:
    """The name that is asked for; for None `$LISRT_IMAGE`, then the settings file, then `host`. ImageError."""
    chosen = name if name is not None else settings.get("image") or "host"
    if chosen != "host":
        raise ImageError(f"there is no image named {chosen!r}; this version has `host`, made of this machine's own /usr")
    return chosen


def host_image(workplace: str) -> Image:
    """The image `host`: this machine's /usr, and what little of /etc programs need, without a download.

    The small part that is copied goes below `workplace`. Everything in it is readable to every user of this machine;
    no home directory, no /root, /tmp, /run, /var, /srv, /mnt, /media and nothing that is mounted there is part of it.
    """
    skeleton = build_skeleton(Path(workplace) / "host")
    layers = [Layer(str(skeleton / "root")), Layer(str(skeleton / "usr"), "usr"), Layer("/usr", "usr")]
    for name in unmerged_directories():
        layers.append(Layer(os.path.realpath(f"/{name}"), name))
    binds = tuple((mount, mount.lstrip("/")) for mount in submounts("/usr"))
    return Image("host", tuple(layers), binds, DEFAULT_ENV)
