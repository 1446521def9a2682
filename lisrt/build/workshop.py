"""The sandbox that steps are done in: opened when the first of them is not in the cache, frozen after each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from lisrt import spawner
from lisrt.build.surroundings import HERE
from lisrt.errors import HostError
from lisrt.sandbox import Sandbox
from lisrt.snapshot import MAX_DEPTH, Image
from lisrt.spec import Mount
from lisrt.store.catalog import Catalog
from lisrt.store.pack import pack
from lisrt.store.record import ImageRecord, LayerRecord

_OURS = frozenset({HERE.strip("/")})


def image_of(name: str, record: ImageRecord) -> Image:
    """A record of the store as an image to begin sandboxes with, whether or not it has a name there. ImageError, HostError."""
    home = spawner.current(spawner.resolve("auto"))
    return Image(name, home.roots.of(name, record), (), home)


def _require_layers(image: Image) -> None:
    """Of a sandbox that is a copy of the whole, what is gone can't be told; links in one may lead bubblewrap out of it."""
    program = image.home.bubblewrap if image.home else None
    if program is not None and not (program.overlay and program.resists_links):
        raise HostError(
            f"bubblewrap {program.version} can't make layers that others build on",
            check="bwrap",
            fix='Name one of version 0.12 or later with $LISRT_BWRAP, or build where launcher="native" works',
        )


class Workshop:
    """One sandbox at a time. `prepare` fills the directory that it has at HERE, once."""

    def __init__(self, name: str, catalog: Catalog, prepare: Callable[[Path], None]) -> None:
        self._name = name
        self._catalog = catalog
        self._prepare = prepare
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._box: Sandbox | None = None
        self._frozen = 0

    def box(self, record: Callable[[], ImageRecord]) -> Sandbox:
        """The sandbox that holds what `record` says: the one that there is has just become that."""
        if self._box is None:
            if self._folder is None:
                # a draft: should this process be killed, what proxies are in it goes all the same
                self._folder = self._stack.enter_context(self._catalog.home.draft()) / "here"
                self._folder.mkdir()
                self._prepare(self._folder)
            image = image_of(self._name, record())
            _require_layers(image)
            self._box = Sandbox(image, network="host", mounts=[Mount(self._folder, HERE)], workdir="/", user=0)
            self._frozen = 0
        return self._box

    def freeze(self) -> LayerRecord:
        """What was written since the last time, as a layer of the store. ImageError, OSError."""
        assert self._box is not None
        layer = pack(Path(self._box.snapshot().layers[0]), self._catalog.home, without=_OURS)
        self._frozen += 1
        if self._frozen == MAX_DEPTH:  # one more, and all of them would be made one
            self._end()
        return layer

    def leave(self) -> None:
        """What comes next is not made from what the sandbox has: a later step was in the cache."""
        self._end()

    def _end(self) -> None:
        if self._box is not None:
            self._box.close()
            self._box = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._end()
        self._stack.close()
