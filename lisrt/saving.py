"""What a sandbox has written, kept in a directory of the host while it goes on; and an image made of that again.

For what has to outlive this process: a snapshot takes no time, but ends the sandbox's programs and goes with the process.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from lisrt.box import Box
from lisrt.channel import Channel
from lisrt.errors import ImageError
from lisrt.image import HOST, architecture
from lisrt.snapshot import Image as Snapshot
from lisrt.snapshot import check_layered, pack_layers, reading_files_of
from lisrt.spawned import Spawner
from lisrt.store.blobs import Blobs
from lisrt.store.catalog import Catalog
from lisrt.store.home import Home
from lisrt.store.pack import pack
from lisrt.store.record import ImageRecord, LayerRecord
from lisrt.waiting import Flow, Offload
from lisrt.writable import check_kept

_RECORD = "image.json"


def save(box: Box, directory: str, above: str | None = None) -> Flow[None]:
    """Packs all that it has written into that directory, in place of what an earlier call has put there.

    `above`: the directory that it was restored from, whose layers are taken along. Programs go on meanwhile: a file that one of
    them is writing may be had in part. HostError, ImageError, OSError.
    """
    check_kept(box.tmpfs)
    with box.gate.using():
        home = yield from box.home_here()
        check_layered(home)
        yield Offload(partial(_pack, home, box.channel, box.root.record, box.base, Path(directory), above))


def _pack(
    home: Spawner,
    channel: Channel,
    record: ImageRecord | None,
    base: Snapshot | None,
    directory: Path,
    above: str | None,
) -> None:
    store = Home(directory)
    below = record or ImageRecord((), base=HOST, architecture=architecture())
    with store.adding():
        old = pack_layers(base, store) if base else ()
        with reading_files_of(home):
            top = pack(Path(home.scratch, channel.name, "u"), store)
        kept = _taken_along(below, Path(above), store) if above is not None else []
        made = replace(below, layers=(*below.layers, *old, top), provenance={"kind": "saved", "source": channel.name})
        store.put(".", _RECORD, made.encode())
    wanted = {Blobs(store).path(layer.blob).name for layer in (*kept, *old, top)}
    for path in store.part("blobs").iterdir():
        if path.name not in wanted:
            path.unlink()


def _taken_along(below: ImageRecord, above: Path, store: Home) -> list[LayerRecord]:
    """The layers of an earlier save, in this one, too: the store may lose them, and that save is going to be deleted."""
    found = []
    for layer in below.layers:
        source, target = Blobs(Home(above)).path(layer.blob), Blobs(store).path(layer.blob)
        if source.exists():
            if not target.exists():
                try:
                    os.link(source, target)
                except OSError:  # another file system, or one without links
                    Blobs(store).add(Blobs(Home(above)).chunks(layer.blob), expected=layer.blob, size=layer.size)
            found.append(layer)
    return found


def restore(directory: str | os.PathLike[str]) -> str:
    """Enters what was saved there into the store, under a name of its own, and returns that. ImageError, OSError.

    Each call gives another name: the same files may be had by many, and one who has done with them takes nothing from the others.
    """
    saved, catalog = Home(Path(directory)), Catalog()
    try:
        record = ImageRecord.decode((saved.path / _RECORD).read_bytes())
    except FileNotFoundError:
        raise ImageError(f"{directory} holds nothing that a sandbox has saved") from None
    name = f"restored-{os.urandom(8).hex()}"
    with catalog.home.adding():
        for layer in record.layers:
            if not catalog.blobs.has(layer.blob, layer.size):
                catalog.blobs.add(Blobs(saved).chunks(layer.blob), expected=layer.blob, size=layer.size)
        catalog.put(record, name)
    return name


def forget(name: str) -> None:
    """Takes a name that `restore` has given out of the store, and the image, if it has no other. OSError."""
    try:
        Catalog().remove(name)
    except ImageError:
        pass  # somebody else has already
