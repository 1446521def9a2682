"""Images from files: an OCI image layout, what `docker save` writes, a tar archive of a file system, a directory.

Which of them it is is found out by looking, not from the name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lisrt.errors import ImageError
from lisrt.store import archive, bundle, manifest
from lisrt.store.blobs import checked_digest
from lisrt.store.bundle import Archive, Bundle, Folder
from lisrt.store.catalog import Catalog
from lisrt.store.intake import Expected, Intake, Progress, check_digest, chunks_of, silent, taking_in
from lisrt.store.manifest import Described, Descriptor
from lisrt.store.pack import pack
from lisrt.store.record import Config, ImageRecord

_MOST_INDEXES = 4
"""An index may be of indexes."""


def import_image(
    source: Path, catalog: Catalog, *names: str, pick: str | None = None, origin: str = "", progress: Progress = silent
) -> ImageRecord:
    """Takes an image in under those names. `pick` says which one, where there are several: a tag, a name or a digest.
    `origin`: where it has come from, if not from that path.

    Raises ImageError that begins with the path and names layer and cause, the store being as it was; ValueError for names
    that images can't have.
    """
    with taking_in(catalog, names) as intake, archive.naming(origin or str(source)):
        reader = _Reader(intake, source, pick, origin or os.path.abspath(source), progress)
        if source.is_dir():
            if (source / "oci-layout").is_file() and (source / "index.json").is_file():
                return reader.layout(Folder(source))
            if (source / "recipe.toml").is_file():
                raise ImageError("a recipe, and no file system: `lisrt image build` makes its image")
            return _from_directory(source, catalog, intake)
        if not source.is_file():
            raise ImageError(
                "there is no such file" if not source.exists() else "neither a file nor a directory"
            )
        found = bundle.members(source)
        if found and {"oci-layout", "index.json"} <= found.files.keys():
            with bundle.plain(source, intake.place) as path:
                return reader.layout(Archive(path, found))
        if found and "manifest.json" in found.files:
            with bundle.plain(source, intake.place) as path:
                return reader.saved(Archive(path, found))
        return reader.tarball()


class _Reader:
    def __init__(self, intake: Intake, source: Path, pick: str | None, origin: str, progress: Progress) -> None:
        self._intake = intake
        self._source = source
        self._origin = origin
        self._pick = pick
        self._progress = progress

    def layout(self, files: Bundle) -> ImageRecord:
        """An OCI image layout."""
        version = _object(bundle.text(files, "oci-layout")).get("imageLayoutVersion")
        if version != "1.0.0":
            raise ImageError(
                f"an OCI image layout of version {str(version)[:50]!r}, and this lisrt knows 1.0.0"
            )
        found = self._chosen(files, manifest.index(bundle.text(files, "index.json")))
        parts = manifest.manifest(self._blob(files, found))
        described = manifest.described(self._blob(files, parts.config))
        wanted = [(_blob_name(layer.digest), layer.digest, layer.size) for layer in parts.layers]
        return self._take("oci", files, described, wanted, digest=found.digest, tag=found.name)

    def _chosen(self, files: Bundle, entries: list[Descriptor]) -> Descriptor:
        pick = self._pick
        for _ in range(_MOST_INDEXES):
            chosen = manifest.choose(entries, pick, lambda one: self._architecture(files, one))
            content = self._blob(files, chosen)
            if not manifest.is_index(content, chosen.media_type):
                return chosen
            entries, pick = manifest.index(content), None
        raise ImageError(f"its indexes are more than {_MOST_INDEXES} deep")

    def _architecture(self, files: Bundle, entry: Descriptor) -> str:
        return manifest.architecture(self._blob(files, entry), lambda config: self._blob(files, config))

    def _blob(self, files: Bundle, wanted: Descriptor) -> bytes:
        content = bundle.text(files, _blob_name(wanted.digest))
        with archive.naming(f"blob {wanted.digest}"):
            check_digest(archive.digest(content), wanted.digest)
        return content

    def saved(self, files: Bundle) -> ImageRecord:
        """What `docker save` wrote before it wrote OCI layouts, and what other tools still do."""
        try:
            images = json.loads(bundle.text(files, "manifest.json"))
            chosen = self._one(images)
            configuration, layers = str(chosen["Config"]), [str(layer) for layer in chosen["Layers"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ImageError(f"its manifest.json is not that of an image archive: {error!r}") from None
        content = bundle.text(files, configuration)
        described = manifest.described(content)
        tag = next(iter(chosen.get("RepoTags") or ()), "")
        wanted = [(layer, None, files.size(layer)) for layer in layers]
        return self._take("docker", files, described, wanted, digest=archive.digest(content), tag=str(tag))

    def _one(self, images: Any) -> dict[str, Any]:
        named = {str(tag): image for image in images for tag in image.get("RepoTags") or ()}
        if self._pick is not None:
            found = [image for tag, image in named.items() if self._pick in (tag, tag.rpartition(":")[2])]
        else:
            found = list(images)
        if len(found) != 1:
            some = ", ".join(sorted(named)[:8])
            raise ImageError(
                f"it has {len(images)} images, so say which one: {some}" if images else "it has no image"
            )
        return dict(found[0])

    def _take(
        self,
        kind: str,
        files: Bundle,
        described: Described,
        wanted: Sequence[tuple[str, str | None, int]],
        **provenance: str,
    ) -> ImageRecord:
        if len(wanted) != len(described.diff_ids):
            raise ImageError(
                f"it has {len(wanted)} layers, and its configuration speaks of {len(described.diff_ids)}"
            )
        layers = []
        for number, ((name, digest, size), diff_id) in enumerate(
            zip(wanted, described.diff_ids, strict=True), 1
        ):
            what = f"layer {number} of {len(wanted)}"
            layer = self._intake.known(diff_id)
            if layer is None:
                expected = Expected(digest, size, diff_id)
                chunks = self._told(files.chunks(name), what, size)
                path = self._intake.copy(chunks, f"layer-{number}", expected, what)
                layer = self._intake.layer(path, expected, what, self._progress)
            layers.append(layer)
        said = {key: value for key, value in provenance.items() if value}
        return self._intake.finish(
            layers, described.config, described.architecture, kind=kind, source=self._origin, **said
        )

    def _told(self, chunks: Iterator[bytes], what: str, total: int) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            self._progress(f"{what}: reading", done, total)
            yield chunk

    def tarball(self) -> ImageRecord:
        """The archive of a file system: one layer, and a default configuration."""
        what = "its one layer"
        with open(self._source, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            chunks = chunks_of(file, self._progress, "reading", total)
            path = self._intake.copy(chunks, "layer-1", Expected(), what)
        layer = self._intake.layer(path, Expected(), what, self._progress)
        return self._intake.finish([layer], Config(), "", kind="tar", source=self._origin, digest=layer.diff_id)


def _from_directory(source: Path, catalog: Catalog, intake: Intake) -> ImageRecord:
    layer = pack(source, catalog.home)
    return intake.finish(
        [layer], Config(), "", kind="directory", source=os.path.abspath(source), digest=layer.diff_id
    )


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{checked_digest(digest).removeprefix('sha256:')}"


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError("no JSON object")
    return value
