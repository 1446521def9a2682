"""The base of an image: made from a distribution's packages, or taken from elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

from lisrt.build import bootstrap, cache, recipes, resolve, steps
from lisrt.build.cache import Made
from lisrt.build.job import Job, State
from lisrt.build.mirror import Offer, find_keyring
from lisrt.build.recipe import Suites, Taken
from lisrt.build.workshop import Workshop, image_of
from lisrt.errors import ImageError
from lisrt.sandbox import Sandbox
from lisrt.store.intake import Progress
from lisrt.store.record import Config, ImageRecord


def bootstrapped(job: Job, base: Suites) -> State:
    """A system of a distribution's packages. ImageError."""
    where = f"recipe {job.name}, base"
    job.report.begin(f"{job.name} base: {base.distribution} {base.sources[0].suites[0]}")
    begun = time.monotonic()
    how = {"configure": bootstrap.CONFIGURE, "files": bootstrap.FILES, "executables": bootstrap.EXECUTABLES}
    what = {"sources": [source.paragraph() for source in base.sources], "include": base.include, "for": base.distribution}
    name = cache.key("", {**what, "architecture": job.architecture, "keys": _keys(base, where), **how})
    # the lock has versions alone: of a signed mirror each is one package, of others one must look
    signed = not any(source.trusted for source in base.sources)
    made = cache.find(job.catalog, name, job.lock) if job.options.cache and job.lock and signed else None
    note = "from the cache"
    if made is None:
        offers = _offers(job, base, where)
        exact = cache.key(name, [[offer.name, offer.version, offer.fields["SHA256"]] for offer in offers])
        made = cache.find(job.catalog, exact, None) if job.options.cache else None
        with telling(where):
            if made is None:
                made, note = _make(job, base, offers, where), f"{len(offers)} packages"
                cache.keep(job.catalog, exact, made)
            cache.keep(job.catalog, name, made)
    job.report.end(note, time.monotonic() - begun)
    key = cache.key(name, [layer.diff_id for layer in made.layers])
    return State(made.layers, Config(), key, made.versions, "", base.sources, base.distribution)


def _keys(base: Suites, where: str) -> list[str]:
    """Each keyring's digest: what other keys have vouched for is another base."""
    digests = []
    for source in base.sources:
        if source.trusted:
            digests.append("")
            continue
        try:
            keyring = find_keyring(source)
        except ImageError as error:
            raise ImageError(f"{where}: {error}") from None
        with telling(where), open(keyring, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


def _offers(job: Job, base: Suites, where: str) -> list[Offer]:
    try:
        index = job.index(base.sources, base.distribution)
        return resolve.choose(index, base.include, job.pins(base.sources, base.distribution).apt)
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from None


def _make(job: Job, base: Suites, offers: list[Offer], where: str) -> Made:
    with job.catalog.home.draft() as folder:
        try:
            files = bootstrap.download(
                offers, folder, lambda done, of: job.report.doing(f"downloading {done >> 20} of {of >> 20} MiB")
            )
        except ImageError as error:
            raise ImageError(f"{where}: {error}") from None
        job.report.doing("unpacking")
        first = bootstrap.first_layer(files, list(base.sources), base.distribution, job.catalog.home)
    job.report.doing("configuring")
    with Workshop(job.name, job.catalog, job.prepare(base.sources, base.distribution)) as workshop:
        box = workshop.box(lambda: ImageRecord((first,), architecture=job.architecture))
        steps.run(
            steps.Place(box, job.surroundings.variables(), "/", job.log), bootstrap.CONFIGURE, where, shown="dpkg --configure -a"
        )
        versions = steps.versions(box)
        return Made((first, workshop.freeze()), versions)


@contextlib.contextmanager
def telling(where: str) -> Iterator[None]:
    """A full disk, and what else the host refuses, is an ImageError that begins with `where`."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise ImageError(f"{where}: {error.strerror or error}{name}") from error


def taken(job: Job, base: Taken) -> State:
    """An image that somebody else has made. ImageError."""
    job.report.begin(f"{job.name} base: {base.source}")
    begun = time.monotonic()
    try:
        record = _record(job, base)
    except ImageError as error:
        raise ImageError(f"recipe {job.name}, base: {error}") from None
    with Sandbox(image_of(job.name, record)) as box:
        versions = steps.versions(box)
    job.report.end("", time.monotonic() - begun)
    return State(record.layers, record.config, record.id, versions, record.base)


def _record(job: Job, base: Taken) -> ImageRecord:
    match base.kind:
        case "host":
            return ImageRecord((), base="host", architecture=job.architecture)
        case "archive":
            return _imported(job, base)
    if base.source in job.catalog.names():
        return job.catalog.get(base.source)
    if base.source in recipes.own():  # and not what some registry has by that name
        raise ImageError(
            f"there is no image {base.source!r} yet: `lisrt image build {base.source}` makes it, or say"
            f' recipe = "{base.source}", which does so by itself'
        )
    return _pulled(job, base)


def _imported(job: Job, base: Taken) -> ImageRecord:
    from lisrt.store.imports import import_image

    return import_image(Path(base.source), job.catalog, progress=_telling(job))


def _pulled(job: Job, base: Taken) -> ImageRecord:
    from lisrt.store.pull import pull

    try:
        return pull(base.source, job.catalog, progress=_telling(job))
    except ImageError as error:
        raise ImageError(f"the store has no image {base.source!r}, and a registry was asked: {error}") from None


def _telling(job: Job) -> Progress:
    return lambda what, done, of: job.report.doing(f"{what}: {done >> 20}{f' of {of >> 20}' if of else ''} MiB")
