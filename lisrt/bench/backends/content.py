"""The content of an image of lisrt's store, or of `host`, for runtimes that are not lisrt: the same files for all."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

from lisrt import spawner
from lisrt.bench.backend import Unavailable
from lisrt.errors import LisrtError
from lisrt.image import DEFAULT_ENV, HOST, Root, resolve_name
from lisrt.plan import DEFAULT_WORKDIR
from lisrt.store.catalog import Catalog
from lisrt.store.export import export

REPOSITORY = "localhost/lisrt-bench"
"""What engines know the images by, with the digest of their content as the tag."""
_ID = re.compile("sha256:[0-9a-f]{64}")
INITS = ("docker-init", "tini-static", "tini", "catatonit", "dumb-init")
"""The first is what `--init` of Docker is; all of them take `-- PROGRAM`, reap, and do nothing else."""


@dataclass(frozen=True, slots=True)
class Content:
    """An image as an engine has it, and what its containers need beside it."""

    reference: str
    binds: tuple[tuple[str, str], ...]
    """(host path, target): shown read-only."""
    env: dict[str, str]
    """The same variables as lisrt's programs have."""
    workdir: str
    init: str = ""
    """A small init process among the binds, where they hide the one that Docker puts below /sbin."""


def unpacked(image: str | None) -> Root:
    """The image's layers as directories of this host, for runtimes that mount them: those that lisrt's sandboxes have, kept as
    long as this process's spawner lives. Unavailable."""
    try:
        return spawner.current().roots.get(resolve_name(image))
    except (LisrtError, OSError) as error:
        raise Unavailable(f"the image is not to be had: {error}") from None


def brought(api: Any, image: str | None, *, zstd: bool) -> Content:
    """Sees that the engine behind a Docker SDK's client has the image: it is sent once, for it is found again by its digest, and
    stays there. `zstd`: the engine reads it. Unavailable; the SDK's own errors."""
    name = resolve_name(image)
    if name == HOST:
        return _host(api)
    try:
        catalog = Catalog()
        record = catalog.get(name)
        reference = f"{REPOSITORY}:{record.id.removeprefix('sha256:')[:16]}"
        if not _has(api, reference):
            with TemporaryFile() as file:
                export(record, reference, catalog, file, as_is=zstd)
                file.seek(0)
                for line in api.load_image(file, quiet=True):
                    if "error" in line:
                        raise Unavailable(f"the engine does not load the image: {line['error']}")
    except LisrtError as error:
        raise Unavailable(str(error)) from None
    variables = {**dict(DEFAULT_ENV), **dict(record.config.env)}
    return Content(reference, (), variables, record.config.workdir or DEFAULT_WORKDIR)


def _host(api: Any) -> Content:
    """lisrt's skeleton as an image, and this machine's /usr over it: the engine must be this machine's."""
    root = unpacked(HOST)
    archive = _tar(root.layers[0])
    reference = f"{REPOSITORY}:host-{hashlib.sha256(archive).hexdigest()[:16]}"
    if not _has(api, reference):
        made = _ID.search(api.import_image_from_data(archive))
        if made is None:
            raise Unavailable("the engine does not say what it has made of the image")
        repository, _, tag = reference.rpartition(":")
        api.tag(made[0], repository, tag)  # podman 4.3 does not heed a tag while it imports
    binds = tuple((place, f"/{target}") for place, target in root.binds)
    found = filter(None, (shutil.which(name, path="/usr/bin:/usr/sbin") for name in INITS))
    return Content(reference, binds, dict(DEFAULT_ENV), DEFAULT_WORKDIR, next(found, ""))


def _has(api: Any, reference: str) -> bool:
    return bool(api.images(reference))


def _tar(directory: str) -> bytes:
    """The tree, all of it root's. Equal trees give equal bytes."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(directory, arcname=".", filter=_roots)
    return written.getvalue()


def _roots(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info
