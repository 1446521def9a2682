"""What a sandbox's root file system is made of, and what its programs are started with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lisrt import settings
from lisrt.hostimage import SYNTHETIC, shared_skeleton, unmerged_directories
from lisrt.passwd import Account, parse
from lisrt.store import manifest
from lisrt.store.record import ImageRecord

HOST = "host"


@dataclass(frozen=True, slots=True)
class Root:
    """Layers, ready on this host. A plan is made from these; equal layers and binds make equal plans."""

    layers: tuple[str, ...]
    """Directory trees that nobody changes, the topmost first."""
    binds: tuple[tuple[str, str], ...] = ()
    """(host path, target): directories of the host that are shown read-only, with all that is mounted in them."""
    trusted: bool = True
    """No program in a sandbox has had a hand in the layers: links in them lead where their maker meant them to."""
    record: ImageRecord | None = field(default=None, compare=False)
    """The image of the store that it is, or that it began with; None for `host`. It may have gone from there meanwhile."""
    env: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """The image's own variables, over DEFAULT_ENV."""
    workdir: str = field(default="", compare=False)
    """"" where the image names none."""
    user: str = field(default="", compare=False)
    """As the image has it: "", a name or number, perhaps with `:group`."""
    entrypoint: tuple[str, ...] = field(default=(), compare=False)
    cmd: tuple[str, ...] = field(default=(), compare=False)
    accounts: tuple[Account, ...] = field(default=(), compare=False)
    """Its /etc/passwd."""


DEFAULT_ENV = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
)


def architecture() -> str:
    """This machine's, in OCI's word."""
    return manifest.here()


def resolve_name(name: str | None) -> str:
    """The name that is asked for; for None `$LISRT_IMAGE`, then the settings file, then `host`."""
    return name if name is not None else settings.get("image") or HOST


def host_root(base: str, workplace: str) -> tuple[Root, int]:
    """The image `host`: this machine's /usr, and what little of /etc programs need, without a download.

    /usr is bound, not layered: docs/decisions/0005. The small part that is copied stays in `base` for the next process.
    Everything in it is readable to every user of this machine; no home directory, no /root, /tmp, /run, /var, /srv,
    /mnt, /media and nothing that is mounted there is part of it. Returns the image, and a descriptor to keep open as
    long as it is used. OSError.
    """
    skeleton, lock = shared_skeleton(Path(base), Path(workplace))
    binds = tuple((os.path.realpath(f"/{name}"), name) for name in ("usr", *unmerged_directories()))
    return Root((str(skeleton),), binds, accounts=parse(SYNTHETIC["passwd"])), lock
