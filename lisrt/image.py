"""Images: what a sandbox's root file system is made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lisrt import settings
from lisrt.errors import ImageError
from lisrt.hostimage import shared_skeleton, unmerged_directories


@dataclass(frozen=True, slots=True)
class Image:
    """Layers, and what programs in them expect."""

    name: str
    layers: tuple[str, ...]
    """Immutable directory trees on the host, the topmost first."""
    binds: tuple[tuple[str, str], ...] = ()
    """(host path, target): directories of the host that are shown read-only, with all that is mounted in them."""
    env: tuple[tuple[str, str], ...] = ()
    trusted: bool = True
    """No program in a sandbox has had a hand in the layers: links in them lead where their maker meant them to."""


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


def host_image(base: str, workplace: str) -> tuple[Image, int]:
    """The image `host`: this machine's /usr, and what little of /etc programs need, without a download.

    /usr is bound, not layered: docs/decisions/0005. The small part that is copied stays in `base` for the next process.
    Everything in it is readable to every user of this machine; no home directory, no /root, /tmp, /run, /var, /srv,
    /mnt, /media and nothing that is mounted there is part of it. Returns the image, and a descriptor to keep open as
    long as it is used. OSError.
    """
    skeleton, lock = shared_skeleton(Path(base), Path(workplace))
    binds = tuple((os.path.realpath(f"/{name}"), name) for name in ("usr", *unmerged_directories()))
    return Image("host", (str(skeleton),), binds, DEFAULT_ENV), lock
