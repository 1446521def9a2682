"""Snapshots: writable layers that are not written to any more, and what is made of them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lisrt import spawner
from lisrt.changes import Change, changes
from lisrt.channel import Channel
from lisrt.errors import HostError, ImageError
from lisrt.explain import limit_error
from lisrt.image import HOST, Root, architecture
from lisrt.spawned import Spawner
from lisrt.store.blobs import Blobs
from lisrt.store.catalog import Catalog, checked_name
from lisrt.store.home import Home
from lisrt.store.merge import merge
from lisrt.store.pack import pack
from lisrt.store.record import ImageRecord, LayerRecord
from lisrt.waiting import Flow, Offload

MAX_DEPTH = 30
"""Snapshots above each other; of more, one is made. Each layer costs a look in every lookup of a new name."""
MOST_DEPTH = 150
"""Where they can't be made one: so many names fit into the page that mount(2) takes."""


class Frozen:
    """A layer in the owner's directory. It goes when the last image and sandbox that need it have gone, from `own` on."""

    def __init__(self, home: Spawner, name: str) -> None:
        self.path = os.path.join(home.scratch, name)
        self.packed: LayerRecord | None = None
        self._home, self._name = home, name

    def own(self) -> None:
        """Of what is there under that name, and is no sandbox's: a sandbox that lives must not lose what it writes to."""
        end = weakref.finalize(self, _discard, self._home, self._name, spawner.generation())
        end.atexit = False  # the spawner's end takes all of them


def _discard(home: Spawner, name: str, generation: int) -> None:
    if generation == spawner.generation():  # in a forked child all of this belongs to the parent
        home.discard(name)


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """Files as a sandbox had them at one moment, to begin others with. Made by `Sandbox.snapshot`.

    It is in no store: it lives in the scratch directory until nothing refers to it any more, neither your program nor a
    sandbox that was made from it, and at the longest until this process ends. `save` keeps it.
    """

    name: str
    """The one that it was given, or `image#1` for a first snapshot of a sandbox of `image`, `image#2` for one above that."""
    root: Root
    frozen: tuple[Frozen, ...] = ()
    """The layers that are its own, or those of snapshots below; the topmost first."""
    home: Spawner | None = field(default=None)
    generation: int = field(default_factory=spawner.generation)

    @property
    def layers(self) -> tuple[str, ...]:
        """Directories on this host that hold its files, the topmost first, in overlayfs' form. Look, don't touch."""
        return self.root.layers

    def ready(self, launcher: str, idmap: str = "single") -> Spawner:
        """The spawner that has its layers. ImageError when that is gone, or is another launcher's, or has other ids."""
        if self.generation != spawner.generation():
            raise ImageError(f"snapshot {self.name!r} belongs to the process that this one was forked from")
        if self.home is None or not self.home.alive:
            raise ImageError(f"snapshot {self.name!r} is gone: the spawner process of this program has ended")
        here = "native" if self.home.bubblewrap is None else "bwrap"
        if launcher not in ("auto", here):
            raise ImageError(f"snapshot {self.name!r} was made with launcher {here!r}: it can't be used with {launcher!r}")
        if idmap != self.home.idmap:
            raise ImageError(f"snapshot {self.name!r} was made with idmap={self.home.idmap!r}: it can't be used with {idmap!r}")
        return self.home

    def save(self, name: str) -> str:
        """Keeps it in the store under that name, and returns its id. Takes as long as compressing its files does.

        An image that began as `host` is kept without this machine's /usr, and needs a host like this one.
        Raises ValueError for a name that no image can have, ImageError, OSError.
        """
        checked_name(name)
        catalog = Catalog()
        with catalog.home.adding():
            return catalog.put(self._record(catalog), name).id

    def _record(self, catalog: Catalog) -> ImageRecord:
        below = self.root.record or ImageRecord((), base=HOST, architecture=architecture())
        layers = pack_layers(self, catalog.home)
        if len(self.frozen) < len(self.root.layers):  # else they hold all of it: under bubblewrap without overlays
            layers = (*(self._present(layer, catalog) for layer in below.layers), *layers)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return replace(below, layers=layers, provenance={"kind": "snapshot", "source": self.name, "at": at})

    def _present(self, layer: LayerRecord, catalog: Catalog) -> LayerRecord:
        """A layer of the image below; out of its tree, where it has gone from the store since: `lisrt image gc` may come at any
        time, and what was done above it must not be lost for that."""
        if catalog.blobs.has(layer.blob, layer.size):
            return layer
        name = layer.diff_id.removeprefix("sha256:")
        tree = next((path for path in self.root.layers if os.path.basename(path) == name), None)
        if tree is None:
            raise ImageError(f"the store lacks layer {layer.blob}: import or build the image below {self.name!r} again")
        return pack(Path(tree), catalog.home)

    def __repr__(self) -> str:
        return f"<Image {self.name}>"


def pack_layers(image: Image, home: Home) -> tuple[LayerRecord, ...]:
    """The layers of a snapshot as layers of the store, the lowest first. Call it while `home.adding()` is held."""
    with reading_files_of(image.home):
        for one in image.frozen:
            if one.packed is None or not Blobs(home).has(one.packed.blob):
                one.packed = pack(Path(one.path), home)
    return tuple(one.packed for one in reversed(image.frozen) if one.packed)


@contextlib.contextmanager
def reading_files_of(home: Spawner | None) -> Iterator[None]:
    """With subordinate ids there are files that nobody outside may read: then an ImageError that says so."""
    try:
        yield
    except PermissionError as error:
        if home is None or home.idmap == "single":
            raise
        name = "" if not error.filename or str(error.filename).startswith("/proc") else f" (such as {error.filename})"
        raise ImageError(
            f"files that only another user of the sandbox may read{name} can't be read from outside: idmap='subuid'"
        ) from None


def coming(home: Spawner, name: str, root: Root, below: Image | None) -> Image:
    """What the files of a sandbox are to be: see `take`. HostError, ImageError."""
    program = home.bubblewrap
    if program is not None and program.overlay and not program.resists_links:
        raise HostError(
            f"bubblewrap {program.version} follows links in a root out of it (CVE-2026-87766): nothing can be made of a root"
            " that programs in a sandbox have written to",
            check="bwrap",
            fix='Bubblewrap 0.12 or later does it safely: name one with $LISRT_BWRAP; so does launcher="native"',
        )
    old = below.frozen if below else ()
    if len(old) >= MOST_DEPTH:
        raise ImageError(f"{len(old)} snapshots lie above each other, and can't be made one: begin again with another image")
    layer = Frozen(home, _new_name())
    origin, _, number = (below.name if below else name).partition("#")
    frozen, layers = ((layer,), ()) if _is_copied(home) else ((layer, *old), root.layers)
    root = replace(root, layers=(layer.path, *layers), trusted=False)
    return Image(f"{origin}#{int(number or 0) + 1}", root, frozen, home)


def take(home: Spawner, channel: Channel, image: Image) -> None:
    """Takes away what a sandbox has written, as the topmost layer of an image that was coming, which it is when the sandbox has
    ended: see to that at once, and that the layer is owned. Programs write to it until then: they have it by its inode.

    Raises HostError, SandboxGone, OSError; then nothing has happened.
    """
    if not channel.alive:  # what it has written is being deleted
        raise channel.gone()
    path = image.frozen[0].path
    source = os.path.join(home.scratch, channel.name, "r" if _is_copied(home) else "u")
    try:
        if home.idmap != "single":  # a program may have given it away: only the spawner can move it then
            home.take(channel.name, os.path.basename(path))
            return
        mode = stat.S_IMODE(os.lstat(source).st_mode)
        # A directory that is moved is written to, its `..`, and a program may have closed its root. It stays open: of a layer
        # the topmost directory's mode is not what programs see.
        if mode & 0o700 != 0o700:
            os.chmod(source, mode | 0o700)
        os.rename(source, path)
    except FileNotFoundError:
        raise channel.gone() from None
    except OSError as error:
        raise limit_error(error, "take a snapshot") or error from None


def written(home: Spawner, channel: Channel, root: Root) -> Flow[list[Change]]:
    """What a sandbox has written above its root. HostError, ImageError."""
    check_layered(home)
    top = os.path.join(home.scratch, channel.name, "u")
    with reading_files_of(home):
        found: list[Change] = yield Offload(partial(changes, top, root.layers))
    return found


def check_layered(home: Spawner) -> None:
    """HostError: where sandboxes have copies of their images, nobody knows what was written."""
    if home.bubblewrap is not None and _is_copied(home):
        raise HostError(
            f"bubblewrap {home.bubblewrap.version} gives each sandbox a copy of its image: nobody knows what has changed",
            check="bwrap",
            fix='Use launcher="native", or bubblewrap 0.11 or later',
        )


def flattened(image: Image) -> Flow[Image]:
    """The same files in fewer layers, where there are many. As it is where that does not work: a program inside can prevent it,
    with a path that is too long, and must not end its sandbox with that."""
    if image.home is None or len(image.frozen) % MAX_DEPTH != 1 or len(image.frozen) < MAX_DEPTH:
        return image
    try:
        one: Frozen = yield Offload(partial(_flatten, image.home, image.frozen))
    except OSError:
        return image
    layers = (one.path, *image.root.layers[len(image.frozen) :])
    return replace(image, root=replace(image.root, layers=layers), frozen=(one,))


def _is_copied(home: Spawner) -> bool:
    """Whether its sandboxes have copies of their images, and no layers."""
    return home.bubblewrap is not None and not home.bubblewrap.overlay


def _new_name() -> str:
    return f"f{os.urandom(8).hex()}"


def _flatten(home: Spawner, frozen: tuple[Frozen, ...]) -> Frozen:
    merged = Frozen(home, _new_name())
    merged.own()
    merge([one.path for one in frozen], merged.path)
    return merged
