"""An image of the store, made ready on this host: its layers unpacked, its settings read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from lisrt.emulation import emulation_layers
from lisrt.errors import ImageError
from lisrt.image import Root, architecture
from lisrt.kernel import native
from lisrt.passwd import parse
from lisrt.store import cache
from lisrt.store.catalog import Catalog
from lisrt.store.record import ImageRecord

_LARGEST_PASSWD = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def stored_root(
    reference: str,
    record: ImageRecord,
    base: str,
    catalog: Catalog,
    below: Root | None = None,
    announce: Callable[[str], object] = lambda _: None,
) -> tuple[Root, dict[str, int]]:
    """The image of that record, and descriptors to keep open as long as it is used, by directory.

    `below`: what its `base` names. Layers that are not unpacked on this host yet are unpacked now, into `base`; `announce` is
    told before. ImageError.
    """
    _check_architecture(reference, record)
    if not all(cache.has(layer, Path(base)) for layer in record.layers):
        announce(reference)
    below = below or Root(())
    trees: list[cache.Tree] = []
    try:
        for layer in reversed(record.layers):
            try:
                trees.append(cache.tree(layer, catalog.blobs, Path(base)))
            except ImageError as error:
                raise ImageError(f"image {reference!r}: {error}") from None
            except OSError as error:
                raise ImageError(f"image {reference!r} could not be unpacked into {base}: {error}") from error
        # each once, where it is topmost: overlayfs refuses the same directory twice, and it would show nothing more
        layers = (*dict.fromkeys(str(tree.path) for tree in trees), *below.layers)
        if not layers:
            raise ImageError(f"image {reference!r} has no layers: there is nothing to run in it")
        config = record.config
        root = Root(
            (*emulation_layers(Path(base), layers), *layers),
            below.binds,
            trusted=False,
            record=record,
            env=config.env,
            workdir=config.workdir,
            user=config.user,
            entrypoint=config.entrypoint,
            cmd=config.cmd,
            accounts=parse(read_text(layers, "etc/passwd")) or below.accounts,
        )
    except BaseException:
        for tree in trees:
            os.close(tree.lock)
        raise
    locks: dict[str, int] = {}
    for tree in trees:
        if locks.setdefault(str(tree.path), tree.lock) != tree.lock:  # the same layer again: images have empty ones
            os.close(tree.lock)
    return root, locks


def read_text(layers: tuple[str, ...], path: str) -> str:
    """A small file of an image, through no link that leads out of its layer; "" where there is none, or none to be read."""
    for layer in layers:
        try:
            root = os.open(layer, _DIRECTORY)
            try:
                fd = native.open_in_root(root, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            finally:
                os.close(root)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # it is there, and what lies below is not what programs see
            return ""
        with open(fd, "rb") as file:
            return file.read(_LARGEST_PASSWD).decode(errors="replace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    return ""


def _check_architecture(reference: str, record: ImageRecord) -> None:
    if record.architecture not in ("", architecture()):
        raise ImageError(f"image {reference!r} is for {record.architecture}, and this machine is {architecture()}")
