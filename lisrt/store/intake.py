"""The way of every new image into the store: all of it, looked through, or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

from lisrt.errors import ImageError
from lisrt.store import archive
from lisrt.store.blobs import CHUNK
from lisrt.store.catalog import Catalog, checked_name
from lisrt.store.record import Config, ImageRecord, LayerRecord
from lisrt.store.unpack import LONGEST, examine

KEPT = ("gzip", "zstd")
"""Compressed like this a layer stays as it came; whatever else is turned into zstd, which OCI has a media type for."""

Progress = Callable[[str, int, int | None], None]
"""Is told what is being done, how many bytes of that are done, and how many there are (None: nobody knows). By any thread."""


def silent(_what: str, _done: int, _total: int | None) -> None:
    """For those who don't watch."""


@contextlib.contextmanager
def taking_in(catalog: Catalog, names: Iterable[str]) -> Iterator[Intake]:
    """Nothing is in the store until `Intake.finish`, and nothing stays of what never came so far.

    Raises ImageError, and ValueError for a name that images can't have, at once.
    """
    wanted = tuple(checked_name(name) for name in names)
    with catalog.home.adding(), contextlib.ExitStack() as stack:
        with archive.naming(f"images in {catalog.home.path}"):
            place = stack.enter_context(catalog.home.draft())
        yield Intake(catalog, wanted, place)


@dataclass(frozen=True, slots=True)
class Expected:
    """What somebody has said about a layer's file; None where nobody has."""

    digest: str | None = None
    size: int | None = None
    diff_id: str | None = None


class Intake:
    """An image on its way in. `place` is a directory for files that are gone afterwards."""

    def __init__(self, catalog: Catalog, names: tuple[str, ...], place: Path) -> None:
        self._catalog = catalog
        self._names = names
        self.place = place
        self._known = {layer.diff_id: layer for listed in catalog.all() for layer in listed.record.layers}
        self._new: dict[str, Path] = {}

    def known(self, diff_id: str) -> LayerRecord | None:
        """A layer that the store has, which was looked through when it came."""
        layer = self._known.get(diff_id)
        return layer if layer and self._catalog.blobs.has(layer.blob, layer.size) else None

    def copy(self, chunks: Iterable[bytes], name: str, expected: Expected, what: str) -> Path:
        """Writes a file of `place`, and checks its size and digest. ImageError that begins with `what`."""
        path, digest, length = self.place / name, hashlib.sha256(), 0
        with archive.naming(what):
            with open(path, "xb") as file:
                for chunk in chunks:
                    length += len(chunk)
                    if expected.size is not None and length > expected.size:
                        raise ImageError(f"it is longer than the {expected.size} bytes that it should have")
                    digest.update(chunk)
                    file.write(chunk)
            if expected.size is not None and length != expected.size:
                raise ImageError(f"it ends after {length} of {expected.size} bytes")
            check_digest(f"sha256:{digest.hexdigest()}", expected.digest)
        return path

    def layer(self, path: Path, expected: Expected, what: str, progress: Progress = silent) -> LayerRecord:
        """Takes in a file of `place` whose own digest has been checked. ImageError that begins with `what`."""
        total = path.stat().st_size
        seen = examine(
            path,
            what,
            lambda done: progress(f"{what}: looking through", done, None),
            is_whole=bool(expected.diff_id),
        )
        if expected.diff_id is not None and seen.diff_id != expected.diff_id:
            raise ImageError(
                f"{what}: its contents have digest {seen.diff_id}, and should have {expected.diff_id}"
            )
        with archive.naming(what):
            with open(path, "rb") as file:
                if archive.compression(file.read(8)) not in KEPT:
                    path = _compressed(path, file, lambda done: progress(f"{what}: compressing", done, seen.size))
                    expected = Expected(diff_id=seen.diff_id)
                    total = path.stat().st_size
            digest = expected.digest or _digest_of(path)
        record = LayerRecord(seen.diff_id, digest, total)
        self._new[digest] = path
        self._known[seen.diff_id] = record
        return record

    def finish(
        self, layers: Iterable[LayerRecord], config: Config, architecture: str, **provenance: str
    ) -> ImageRecord:
        """Enters the image. ImageError."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        config = replace(config, workdir=_checked_workdir(config.workdir))
        record = ImageRecord(tuple(layers), config, architecture=architecture, provenance={**provenance, "at": at})
        if not record.layers:
            raise ImageError("it has no layers")
        with archive.naming("entering it into the store"):
            for digest, path in self._new.items():
                _sync(path)
                self._catalog.blobs.adopt(path, digest)  # also in the place of one: that may be damaged, this is not
            return self._catalog.put(record, *self._names)


def _checked_workdir(path: str) -> str:
    """As an absolute path without `.` in it: a relative one begins at the root. ImageError where no program could start."""
    if not path:
        return ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    wrong = "has `..` in it" if ".." in parts else ""
    try:
        lengths = [len(os.fsencode(part)) for part in parts]
        if max(lengths, default=0) > 255 or sum(lengths) + len(lengths) > LONGEST:
            wrong = "is too long for a path"
    except UnicodeEncodeError:
        wrong = "is no text"
    if wrong:
        raise ImageError(f"its WORKDIR, {path[:100]!r}, {wrong}")
    return "/" + "/".join(parts)


def check_digest(found: str, expected: str | None) -> None:
    """ImageError where they differ."""
    if expected is not None and found != expected:
        raise ImageError(
            f"its digest is {found}, and should be {expected}: damaged, or not what was asked for"
        )


def _compressed(path: Path, raw: IO[bytes], told: Callable[[int], None]) -> Path:
    """`raw` once more, as zstd."""
    raw.seek(0)
    made = path.with_name(f"{path.name}.zst")
    count = 0
    with (
        open(made, "xb") as file,
        archive.decompressed(raw) as source,
        archive.zstd_writer(cast(IO[bytes], file)) as writer,
    ):
        while chunk := source.read(CHUNK):
            writer.write(chunk)
            count += len(chunk)
            told(count)
    path.unlink()
    return made


def _digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def chunks_of(file: IO[bytes], progress: Progress, what: str, total: int | None) -> Iterator[bytes]:
    """A file's contents, told about."""
    count = 0
    while chunk := file.read(CHUNK):
        count += len(chunk)
        progress(what, count, total)
        yield chunk
