"""The story of a build: base, steps, lock, proof, name."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lisrt.build import base, cache, lock, recipe, steps
from lisrt.build.cache import Made
from lisrt.build.job import Job, Options, State
from lisrt.build.lock import Versions
from lisrt.build.recipe import CHECK, Apt, Extends, Pip, SetEnv, SetWorkdir, Step, Suites
from lisrt.build.report import Report
from lisrt.build.workshop import Workshop, image_of
from lisrt.errors import ImageError
from lisrt.image import DEFAULT_ENV
from lisrt.sandbox import Sandbox
from lisrt.store.catalog import Catalog, checked_name
from lisrt.store.record import ImageRecord


@dataclass(frozen=True, slots=True)
class Built:
    """What a build has made."""

    record: ImageRecord
    state: State


def build(folder: Path, options: Options, report: Report, catalog: Catalog | None = None) -> Built:
    """Builds the recipe of a folder and enters the image. ImageError, which names the recipe, the step and the cause.

    HostError where there can be no sandboxes, OSError for a full disk, ValueError for a bad name. On failure names stay what
    they were; what was made so far is in the cache.
    """
    catalog = catalog or Catalog()
    with catalog.home.adding():  # no sweep until the image, which needs the layers, is entered
        return _build(folder, options, report, catalog, ())


def _build(folder: Path, options: Options, report: Report, catalog: Catalog, above: tuple[Path, ...]) -> Built:
    job = Job(recipe.read(folder), options, report, catalog)
    names = options.names or (job.name,)
    for name in names:
        checked_name(name)
    job.log.unlink(missing_ok=True)
    begin = _base(job, (*above, folder.resolve()))
    state = begin
    with Workshop(job.name, catalog, job.prepare(begin.sources, begin.distribution)) as workshop:
        for number, step in enumerate(job.recipe.steps, 1):
            state = _step(job, number, step, state, workshop)
    # what another recipe has brought is in that one's lock
    own = state.versions if isinstance(job.recipe.base, Suites) else state.versions.without(begin.versions)
    _compare(job, own)
    record = _record(job, state)
    if not all(_is_there(catalog, name, record) for name in names):
        _prove(job, record)
    catalog.put(record, *names)
    _write_lock(job, own)
    return Built(record, state)


def _base(job: Job, above: tuple[Path, ...]) -> State:
    match job.recipe.base:
        case Suites() as suites:
            return base.bootstrapped(job, suites)
        case Extends(folder):
            if folder.resolve() in above:
                raise ImageError(f"{job.recipe.file}: its base is a recipe that begins with this one")
            return _build(folder, replace(job.options, names=()), job.report, job.catalog, above).state
        case other:
            return base.taken(job, other)


def _step(job: Job, number: int, step: Step, state: State, workshop: Workshop) -> State:
    job.report.begin(f"{job.name} {number}/{len(job.recipe.steps)}: {steps.title(step)}")
    match step:
        case SetEnv(values):
            job.report.end("", 0.0)
            env = {**dict(state.config.env), **dict(values)}
            return replace(state, config=replace(state.config, env=tuple(env.items())))
        case SetWorkdir(path):
            job.report.end("", 0.0)
            return replace(state, config=replace(state.config, workdir=path))
    where = f"recipe {job.name}, step {number}"
    begun = time.monotonic()
    # variables and the working directory of a step are part of what it does
    key = cache.key(state.key, [cache.describe(step), state.config.env, state.config.workdir])
    made, note = _find(job, key, step, state), "from the cache"
    if made is None:
        with base.telling(where):
            made, note = _do(job, step, state, workshop, where), ""
            cache.keep(job.catalog, key, made)
    else:
        workshop.leave()
    job.report.end(note, time.monotonic() - begun)
    return replace(state, layers=state.layers + made.layers, key=key, versions=made.versions)


def _find(job: Job, key: str, step: Step, state: State) -> Made | None:
    renewed = job.lock is None and isinstance(step, Apt | Pip)  # who asks for the newest wants them looked for
    if not job.options.cache or renewed:
        return None
    made = cache.find(job.catalog, key, job.lock)
    if made is None and job.lock is not None:  # once the mirrors have dropped a version, an older layer without it is as good
        made = cache.find(job.catalog, key, job.pins(state.sources, state.distribution))
    return made


def _do(job: Job, step: Step, state: State, workshop: Workshop, where: str) -> Made:
    box = workshop.box(lambda: _record(job, state))
    env = {**dict(DEFAULT_ENV), **job.surroundings.variables(), **dict(state.config.env)}
    if state.config.workdir:
        box.run(["mkdir", "-p", state.config.workdir])
    steps.do(step, steps.Place(box, env, state.config.workdir or "/", job.log), where)
    versions = steps.versions(box)
    job.report.doing("packing")
    return Made((workshop.freeze(),), versions)


def _record(job: Job, state: State) -> ImageRecord:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    source = {"kind": "build", "source": str(job.recipe.folder.resolve()), "at": now, "description": job.recipe.description}
    if job.recipe.check is not None:
        source["proof"] = f"sha256:{hashlib.sha256(job.recipe.check.read_bytes()).hexdigest()}"
    return ImageRecord(state.layers, state.config, state.base, job.architecture, source)


def _is_there(catalog: Catalog, name: str, record: ImageRecord) -> bool:
    """And was proved by the same check.sh."""
    try:
        found = catalog.get(name)
        return found.id == record.id and found.provenance.get("proof") == record.provenance.get("proof")
    except ImageError:
        return False


def _prove(job: Job, record: ImageRecord) -> None:
    """Runs check.sh in a sandbox of the image, as later programs will be run: without a network."""
    check = job.recipe.check
    if check is None:
        return
    job.report.begin(f"{job.name} {CHECK}")
    begun = time.monotonic()
    with Sandbox(image_of(job.name, record)) as box:
        path = f"/tmp/{CHECK}"
        box.write(path, check.read_bytes(), mode=0o755)
        try:
            result = box.run([path], merge_stderr=True, max_output=steps.MAX_OUTPUT)
        except OSError as error:
            raise ImageError(
                f"recipe {job.name}, {check}: {error.strerror}: the image can't run what its first line names"
            ) from None
    with open(job.log, "a") as log:
        log.write(f"$ {CHECK}\n{result.stdout}\n")
    if not result.ok:
        raise ImageError(steps.failure(f"recipe {job.name}, {check}", CHECK, result, job.log))
    job.report.end("passed", time.monotonic() - begun)


def _compare(job: Job, own: Versions) -> None:
    """`locked` means locked: also for what no pin reaches, such as what a `run` step installs."""
    if job.options.locked and job.lock is not None:
        others = own.differing(job.lock)
        others += [f"{name} (not in the lock)" for name in own.names() - job.lock.names()]
        others += [f"{name} (in the lock only)" for name in job.lock.names() - own.names()]
        if others:
            raise ImageError(
                f"recipe {job.name}: not what {job.lock_file} says: {', '.join(sorted(others))}; a build without `--locked` renews it"
            )


def _write_lock(job: Job, own: Versions) -> None:
    """A new one where there is none, or for `update`. Else packages come in and go as the recipe's do, versions stay."""
    if job.options.locked or own == job.lock or (job.lock is not None and own.differing(job.lock)):
        return
    if not lock.write(job.lock_file, own, job.architecture):
        job.report.warn(f"{job.lock_file} can't be written: this image's versions are locked nowhere")
