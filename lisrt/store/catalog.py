"""The images that there are, by id and by name."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from lisrt.errors import ImageError
from lisrt.store.blobs import Blobs
from lisrt.store.home import Home
from lisrt.store.record import ImageRecord

RESERVED = ("host",)
OWN = ("ubuntu-24.04", "ubuntu-24.04-slim", "debian-12", "debian-12-slim")
"""Names of lisrt's own recipes."""
_LATEST = ":latest"
Stamp: TypeAlias = tuple[int, int, int]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_SHORTEST = 6
_HEX = re.compile(rf"(sha256:)?[0-9a-f]{{{_SHORTEST},64}}")


@dataclass(frozen=True, slots=True)
class Listed:
    """An image and the names that it has."""

    record: ImageRecord
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """What `Catalog.sweep` has removed, or would."""

    images: int
    blobs: int
    bytes: int


def checked_name(name: str) -> str:
    """A name that an image may get. ValueError."""
    if not _NAME.fullmatch(name) or len(_quoted(name)) > 255 or ".." in name or "//" in name:
        raise ValueError(f"an image's name has letters, digits and . _ - / : @, and begins with one of the first two: {name!r}")
    if name in RESERVED or _HEX.fullmatch(name):
        raise ValueError(f"an image can't be named {name!r}: that is {'taken' if name in RESERVED else 'what ids look like'}")
    return name


class Catalog:
    """The records and names of a store."""

    def __init__(self, home: Home | None = None) -> None:
        self.home = home or Home()
        self.blobs = Blobs(self.home)

    def put(self, record: ImageRecord, *names: str) -> ImageRecord:
        """Enters an image, whose layers are there, under those names; a name that was another image's moves over.

        Call it while `home.adding()` is held, since before its layers were added. Raises ImageError, ValueError, OSError.
        """
        for layer in record.layers:
            if not self.blobs.has(layer.blob, layer.size):
                raise ImageError(f"the store lacks layer {layer.blob}")
        for name in names:
            checked_name(name)
        with self.home.naming():
            record = self._with_its_origin(record)
            self.home.put("images", f"{_hex(record.id)}.json", record.encode())
            for name in names:
                self.home.put("names", _quoted(name), record.id.encode())
        return record

    def _with_its_origin(self, record: ImageRecord) -> ImageRecord:
        """An image that comes again, by another way, stays what it was; a build says anew what has proved it."""
        with contextlib.suppress(ImageError):
            known = self._read(_hex(record.id)).provenance
            if record.provenance.get("kind") != "build":
                return replace(record, provenance=known)
            if known.get("kind") == "build":
                return replace(record, provenance={**record.provenance, "at": known.get("at", record.provenance["at"])})
        return record

    def get(self, reference: str) -> ImageRecord:
        """The image of that name, or of that id or the beginning of one. ImageError says what there is instead."""
        return self._read(self._resolved(reference))

    def _resolved(self, reference: str) -> str:
        """The hexadecimal part of the id of what `get` would get, whether or not that can be read."""
        if reference in RESERVED:
            raise ImageError(f"{reference!r} is this machine's own /usr, and in no store")
        named = self._named(self._known_as(reference))
        if named:
            return named
        if _HEX.fullmatch(reference):
            wanted = reference.removeprefix("sha256:")
            found = [name for name in self._ids() if name.startswith(wanted)]
            if len(found) == 1:
                return found[0]
            if found:
                raise ImageError(f"several images have an id that begins with {reference!r}: say more of it")
        if any(one.startswith(reference.removeprefix("sha256:")) for one in self._ids()):
            raise ImageError(f"there is no image named {reference!r}; of an id say at least {_SHORTEST} digits")
        raise ImageError(f"there is no image named {reference!r}; {self._instead(reference)}")

    def _known_as(self, reference: str) -> str:
        """The name that is there: `x` for `x:latest`, and the other way round, where the one that was said is none."""
        other = _with_or_without_latest(reference)
        return other if self._named(reference) is None and self._named(other) is not None else reference

    def id_of(self, name: str) -> str | None:
        """The id that a name stands for; None when it is no name of an image."""
        found = self._named(name)
        return f"sha256:{found}" if found else None

    def stamp(self, name: str) -> Stamp | None:
        """Another one whenever the name is another image's; None when it is no name of an image."""
        try:
            status = os.stat(self.home.part("names") / _quoted(self._known_as(name)))
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_dev

    def all(self) -> list[Listed]:
        """Every image that can be read, by name; those that have none come last."""
        names: dict[str, list[str]] = {}
        for name in self.names():
            names.setdefault(self._named(name) or "", []).append(name)
        found = [Listed(record, tuple(sorted(names.get(_hex(record.id), ())))) for record in self._readable()]
        return sorted(found, key=lambda listed: (not listed.names, listed.names, listed.record.id))

    def faults(self) -> list[str]:
        """What is wrong with the records that can't be read."""
        faults = []
        for one in self._ids():
            try:
                self._read(one)
            except ImageError as error:
                faults.append(str(error))
        return faults

    def names_of(self, record: ImageRecord) -> tuple[str, ...]:
        """The names that an image has."""
        return tuple(name for name in self.names() if self._named(name) == _hex(record.id))

    def names(self) -> list[str]:
        """Every name."""
        return sorted(urllib.parse.unquote(path.name) for path in _files(self.home.part("names")))

    def tag(self, reference: str, name: str) -> ImageRecord:
        """Gives an image one more name; one that was another image's moves over. ImageError, ValueError, OSError."""
        checked_name(name)
        with self.home.adding():
            return self.put(self.get(reference), name)

    def remove(self, reference: str) -> tuple[list[str], bool]:
        """Takes a name away, or, by its id, an image with all its names. What its layers take stays until `sweep`.

        Returns the names that are gone, and whether the image is.
        """
        with self.home.naming():
            reference = self._known_as(reference)
            one = self._named(reference)
            if one:
                (self.home.part("names") / _quoted(reference)).unlink()
                gone = [reference]
            else:
                one = self._resolved(reference)
                gone = [name for name in self.names() if self._named(name) == one]
                for name in gone:
                    (self.home.part("names") / _quoted(name)).unlink()
            if any(self._named(name) == one for name in self.names()):
                return gone, False
            (self.home.part("images") / f"{one}.json").unlink(missing_ok=True)
            return gone, True

    def sweep(
        self, *, unnamed: bool = False, dry_run: bool = False, waiting: Callable[[], None] = lambda: None
    ) -> Swept:
        """Removes blobs that no image needs, and what imports that were killed have left. Waits for those that run.

        With `unnamed` also images that have no name: those whose names have moved on to others.
        """
        with self.home.alone(waiting), self.home.naming():
            named = {self._named(name) for name in self.names()}
            nameless = [one for one in self._ids() if unnamed and one not in named]
            needed = {_hex(layer.blob) for one in self._ids() if one not in nameless for layer in self._read(one).layers}
            for one in [] if dry_run else nameless:
                (self.home.part("images") / f"{one}.json").unlink(missing_ok=True)
            count = size = 0
            for path in _files(self.home.part("blobs")):
                if path.name not in needed:
                    count, size = count + 1, size + path.stat().st_size
                    if not dry_run:
                        path.unlink()
            for path in [] if dry_run else list(self.home.part("new").iterdir()):
                shutil.rmtree(path, ignore_errors=True)
            return Swept(len(nameless), count, size)

    def _readable(self) -> Iterator[ImageRecord]:
        for one in self._ids():
            with contextlib.suppress(ImageError):  # `faults` has them
                yield self._read(one)

    def _ids(self) -> list[str]:
        return sorted(path.name.removesuffix(".json") for path in _files(self.home.part("images")))

    def _named(self, name: str) -> str | None:
        """The hexadecimal part of the id that a name stands for."""
        try:
            return _hex((self.home.part("names") / _quoted(name)).read_text().strip())
        except OSError:
            return None

    def _read(self, one: str) -> ImageRecord:
        try:
            return ImageRecord.decode((self.home.part("images") / f"{one}.json").read_bytes())
        except FileNotFoundError:
            raise ImageError(f"image {one[:12]} has been removed") from None
        except ImageError as error:
            raise ImageError(f"image {one[:12]} in {self.home.path}: {error}; `lisrt image rm {one[:12]}`") from None

    def _instead(self, reference: str) -> str:
        if reference in OWN:
            return f"`lisrt image build {reference}` makes it"
        known = [*RESERVED, *self.names()]
        near = difflib.get_close_matches(reference, known, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        some = ", ".join(known[:8]) + (" ..." if len(known) > 8 else "")
        return f"there are {some}; `lisrt image build` makes ubuntu-24.04 and debian-12; more: `lisrt image --help`"


def _files(directory: Path) -> Iterator[Path]:
    try:
        yield from (path for path in directory.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return


def _with_or_without_latest(name: str) -> str:
    """What a registry's reference without a tag stands for, and the other way round."""
    if name.endswith(_LATEST):
        return name.removesuffix(_LATEST)
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}{_LATEST}"


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
