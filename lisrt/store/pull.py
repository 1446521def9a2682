"""Images from registries."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from lisrt.errors import ImageError
from lisrt.store import archive, manifest
from lisrt.store import reference as references
from lisrt.store.catalog import Catalog
from lisrt.store.intake import Expected, Intake, Progress, silent, taking_in
from lisrt.store.manifest import Descriptor
from lisrt.store.record import ImageRecord, LayerRecord
from lisrt.store.registry import Registry

AT_ONCE = 4
"""Layers: registries slow down those who ask for more."""
_MOST_INDEXES = 4


def pull(
    reference: str, catalog: Catalog, *names: str, insecure: bool = False, progress: Progress = silent
) -> ImageRecord:
    """Fetches an image, under those names, or else under the reference as it is written. `insecure`: also without TLS.

    Layers that the store has are not fetched. Raises ImageError that begins with the reference and names layer and cause,
    the store being as it was; ValueError for what is no reference, or no name.
    """
    wanted = references.parse(reference)
    stop = threading.Event()
    with taking_in(catalog, names or (reference.removeprefix("docker://"),)) as intake, archive.naming(str(wanted)):
        registry = Registry(wanted, insecure=insecure, stop=stop)
        digest, content = _manifest(registry, wanted.wanted)
        parts = manifest.manifest(content)
        described = manifest.described(registry.text(parts.config))
        if len(parts.layers) != len(described.diff_ids):
            raise ImageError(f"it has {len(parts.layers)} layers, and its configuration speaks of {len(described.diff_ids)}")
        layers = _Layers(registry, intake, stop, progress).all(list(zip(parts.layers, described.diff_ids, strict=True)))
        return intake.finish(
            layers, described.config, described.architecture, kind="registry", source=str(wanted), digest=digest
        )


def _manifest(registry: Registry, wanted: str) -> tuple[str, bytes]:
    """The digest and text of the manifest for this machine."""
    for _ in range(_MOST_INDEXES):
        content, media_type = registry.manifest(wanted)
        if not manifest.is_index(content, media_type):
            return archive.digest(content), content
        wanted = manifest.choose(manifest.index(content), None, lambda one: _architecture(registry, one)).digest
    raise ImageError(f"its indexes are more than {_MOST_INDEXES} deep")


def _architecture(registry: Registry, entry: Descriptor) -> str:
    """Of an image whose entry in an index does not say."""
    return manifest.architecture(registry.manifest(entry.digest)[0], registry.text)


class _Layers:
    def __init__(self, registry: Registry, intake: Intake, stop: threading.Event, progress: Progress) -> None:
        self._registry = registry
        self._intake = intake
        self._stop = stop
        self._progress = progress

    def all(self, wanted: list[tuple[Descriptor, str]]) -> list[LayerRecord]:
        """Several at once. When one can't be had the others are given up, and its error is raised."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lisrt-pull") as threads:
            futures: list[Future[LayerRecord]] = []
            try:  # from the first one on: Ctrl-C may come before the last is on its way
                for number, (layer, diff_id) in enumerate(wanted, 1):
                    futures.append(threads.submit(self._one, f"layer {number} of {len(wanted)}", number, layer, diff_id))
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                self._raise_first(done)
            finally:
                self._registry.give_up()
                for future in futures:
                    future.cancel()
        return [future.result() for future in futures]

    def _raise_first(self, done: set[Future[LayerRecord]]) -> None:
        errors = [error for future in done if (error := future.exception()) is not None]
        if errors:
            raise errors[0]

    def _one(self, what: str, number: int, layer: Descriptor, diff_id: str) -> LayerRecord:
        found = self._intake.known(diff_id)
        if found is not None:
            self._progress(f"{what}: here already", layer.size, layer.size)
            return found
        path = self._intake.place / f"layer-{number}"
        with archive.naming(what):
            self._registry.download(layer, path, lambda done: self._told(f"{what}: downloading", done, layer.size))
        return self._intake.layer(path, Expected(layer.digest, layer.size, diff_id), what, self._told)

    def _told(self, what: str, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise ImageError(f"{what}: given up, as something else failed")
        self._progress(what, done, total)
