"""What a build of one recipe knows: how it is wanted, its lock, this host, and, once somebody asks, what the mirrors have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lisrt.build import lock, resolve, surroundings
from lisrt.build.lock import Versions
from lisrt.build.mirror import Index, Source, architecture, read_index
from lisrt.build.recipe import LOCK, Recipe
from lisrt.build.report import Report
from lisrt.errors import ImageError
from lisrt.store.catalog import Catalog
from lisrt.store.record import Config, LayerRecord


@dataclass(frozen=True, slots=True)
class Options:
    """How to build."""

    locked: bool = False
    """The lock's versions or none. Without it they are preferred."""
    update: bool = False
    """The newest versions, and a new lock."""
    cache: bool = True
    """Take layers that earlier builds have made."""
    names: tuple[str, ...] = ()
    """For the image; the recipe's own when there are none."""

    def __post_init__(self) -> None:
        if self.locked and self.update:
            raise ValueError("a build is locked, or it updates the lock")


@dataclass(frozen=True, slots=True)
class State:
    """What there is after a base, and after each step."""

    layers: tuple[LayerRecord, ...]
    config: Config
    key: str
    """Stands for all of this in the cache."""
    versions: Versions
    base: str = ""
    """`host`, or nothing: see ImageRecord."""
    sources: tuple[Source, ...] = ()
    """Where its packages come from."""
    distribution: str = ""


class Job:
    """A build. Raises ImageError for a lock that is damaged, or that `locked` needs and is not there."""

    def __init__(self, recipe: Recipe, options: Options, report: Report, catalog: Catalog) -> None:
        self.recipe = recipe
        self.options = options
        self.report = report
        self.catalog = catalog
        self.architecture = architecture()
        self.lock_file = recipe.folder / LOCK
        self.log = catalog.home.part("builds") / f"{recipe.name}.log"
        self.surroundings = surroundings.look()
        # an update looks at no lock, not even at one that is damaged
        self.lock = None if options.update else lock.read(self.lock_file, self.architecture)
        if options.locked and self.lock is None:
            raise ImageError(f"{self.lock_file} is not there, or not for {self.architecture}: nothing to be locked to")
        self._pins: Versions | None = None
        self._index: Index | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    def mirrors(self, state_sources: tuple[Source, ...], distribution: str) -> list[tuple[Source, str]]:
        """Each source, and the mirror of it for this host. ImageError for a setting that is none."""
        return [(source, surroundings.mirror_of(source, distribution)) for source in state_sources]

    def index(self, sources: tuple[Source, ...], distribution: str) -> Index:
        """What the mirrors have; read once. ImageError."""
        if self._index is None:
            with self.catalog.home.draft() as folder:
                self._index = read_index(self.mirrors(sources, distribution), folder, self.report.doing)
        return self._index

    def pins(self, sources: tuple[Source, ...], distribution: str) -> Versions:
        """The versions to hold packages to. ImageError where `locked` wants what is gone from the mirrors.

        Without `locked` it is all of the lock or, once the mirrors have dropped one, nothing of the distribution's: of an old
        package and its new sibling apt can't always make one system.
        """
        if self._pins is None:
            wanted = self.lock or Versions()
            gone = resolve.missing(self.index(sources, distribution), wanted.apt) if sources and wanted.apt else []
            if gone and self.options.locked:
                raise ImageError(f"{self.lock_file}: gone from the mirrors: {', '.join(gone)}; `--update` takes what there is")
            if gone:
                self.report.warn(
                    f"{self.name}: {len(gone)} of the lock's packages are gone from the mirrors ({_some(gone)}): "
                    "the newest are taken; `--update` renews the lock"
                )
                wanted = Versions({}, wanted.pip)
            self._pins = wanted
        return self._pins

    def prepare(self, sources: tuple[Source, ...], distribution: str) -> Callable[[Path], None]:
        """What fills the directory that the build's sandboxes see."""
        return lambda folder: self.surroundings.files(
            folder, self.mirrors(sources, distribution), self.pins(sources, distribution)
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
