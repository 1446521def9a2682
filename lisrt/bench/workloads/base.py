"""What workloads have in common: whom they measure, threads that drive them, and who is told how far it is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from lisrt import spawner
from lisrt.aio import AsyncSandbox
from lisrt.bench.backend import Backend, BackendError, Instance
from lisrt.bench.config import Config
from lisrt.bench.floor import Floor
from lisrt.bench.measure import Recorder, Timing
from lisrt.errors import LisrtError
from lisrt.limits import Limits
from lisrt.sandbox import Sandbox

Progress = Callable[[str, int, int], None]
"""Called with a phase, how many of its operations are done, and how many there are; from several threads."""

LAUNCHERS = {"native": "native", "bwrap": "bwrap"}
"""Backends that are lisrt's own, and the launcher that each of them is."""


@dataclass(slots=True)
class Subject:
    """A backend that has been started, and what is measured of it."""

    backend: Backend
    recorder: Recorder
    image: str | None
    memory: int | None = None
    first: float = 0.0
    """Seconds from nothing to the first sandbox; of lisrt's own only."""
    layers: tuple[str, ...] = ()
    """Directories of the image; empty for `host`, and for other runtimes."""
    forks: bool = False
    """Whether it can have snapshots and forks."""

    @property
    def name(self) -> str:
        """As on the command line."""
        return self.backend.name

    @property
    def launcher(self) -> str | None:
        """None when it is another runtime."""
        return LAUNCHERS.get(self.name)

    def sandbox(self, **options: Any) -> Sandbox:
        """One of lisrt's own, for what other runtimes don't have."""
        return Sandbox(self.image, **{**self._options(), **options})

    def awaited(self) -> AsyncSandbox:
        """The same, for an event loop; to be entered."""
        return AsyncSandbox(self.image, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"launcher": self.launcher or "auto", "limits": Limits(self.memory)}


@dataclass(slots=True)
class Run:
    """One workload, over all backends that can do it."""

    config: Config
    subjects: list[Subject]
    floor: Floor | None
    of_floor: Recorder
    of_host: Recorder
    """Of the same commands without any sandbox."""
    progress: Progress = lambda phase, done, total: None
    notes: list[str] = field(default_factory=list)
    """Findings in words."""
    series: dict[str, Any] = field(default_factory=dict)
    """What the report for machines has besides rows."""
    asked: int = 0
    served: int = 0
    """Sandboxes that did all that was asked of them and were destroyed."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def random(self, what: str) -> Random:
        """Another one for each purpose, the same in each run of that seed."""
        return Random(f"{self.config.seed} {what}")

    def most(self, subject: Subject) -> int:
        """How many of them are to be alive at once."""
        return self.config.concurrency if subject.launcher else min(self.config.concurrency, self.config.rivals)

    def label(self, subject: Subject, phase: str) -> str:
        """A phase's name for people: who it is only where there are several."""
        return phase if len(self.subjects) == 1 else f"{subject.name}: {phase}"

    def steps(self, phase: str, total: int) -> Callable[[], None]:
        """To be called after each operation of the phase, from any thread."""
        done = 0
        self.progress(phase, 0, total)

        def step() -> None:
            nonlocal done
            with self.lock:
                done += 1
                self.progress(phase, done, total)

        return step

    def count(self, *, asked: int = 0, served: int = 0) -> None:
        """Sandboxes, for the verdict. From any thread."""
        with self.lock:
            self.asked += asked
            self.served += served

    def together(self, phase: str, operation: Callable[[int], object], n: int, jobs: int | None = None) -> float:
        """Calls it with 0 to n - 1, so many at once; the wall-clock seconds that took."""
        step = self.steps(phase, n)

        def one(number: int) -> None:
            operation(number)
            step()

        started = time.perf_counter()
        with threads(jobs or self.config.jobs) as pool:
            futures: list[Future[None]] = [pool.submit(one, number) for number in range(n)]
            for future in futures:
                future.result()
            return time.perf_counter() - started


@contextmanager
def threads(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that is left at once when something goes wrong: what has not begun never does, and what waits for a sandbox learns
    that there is none any more."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        if was_interrupted(error):
            abandon()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def was_interrupted(error: BaseException | None, by: type[KeyboardInterrupt] = KeyboardInterrupt) -> bool:
    """Whether it is Ctrl-C, or what Ctrl-C has made of a lock or a loop that it came upon (`release unlocked lock`)."""
    while error is not None:
        if isinstance(error, by):
            return True
        error = error.__context__
    return False


def abandon() -> None:
    """Has all sandboxes of this process end: threads that wait for an answer get an end of file. Nothing is closed here: one of
    them may be about to do that, and what was closed twice was somebody else's by then."""
    for home in spawner.running_all():
        with contextlib.suppress(OSError):
            home.control.shutdown(socket.SHUT_WR)


class Workload(Protocol):
    """Something to measure. One object is used once."""

    only_lisrt: bool
    """Whether other runtimes can't do it."""

    def run(self, run: Run) -> None:
        """All of it. A sandbox that fails is counted and left out of the rest; nothing is tried again. Unavailable where this
        host can't have it."""


FAULTS = (LisrtError, BackendError, OSError)
"""What a recorder counts as a failure."""


@contextmanager
def one_of_each(run: Run, workload: str) -> Iterator[list[tuple[Subject, Instance]]]:
    """A sandbox of each backend that can make one; all are destroyed. For what is done in one, again and again."""
    made: list[tuple[Subject, Instance]] = []
    run.count(asked=len(run.subjects))
    try:
        for subject in run.subjects:
            with subject.recorder.timed(workload, "create"):
                made.append((subject, subject.backend.create()))
        yield made
    finally:
        for subject, instance in made:
            with subject.recorder.timed(workload, "destroy") as timing:
                instance.destroy()
            run.count(served=int(timing.ok))


def by_its_clock(timing: Timing, instance: Instance) -> None:
    """What it has just done took as long as it says, if it says so."""
    timing.seconds = getattr(instance, "seconds", None)


def lacks(instance: Instance, programs: Iterable[str]) -> set[str]:
    """Programs that its image does not have. One that does not answer lacks none: its failures are counted where they count."""
    try:
        return {name for name in programs if instance.run(["sh", "-c", f"command -v {name}"]).exit_code}
    except FAULTS:
        return set()


def floored(run: Run, workload: str, metric: str, measure: Callable[[], float]) -> bool:
    """Takes one sample of the floor; False when it has failed, which is counted."""
    try:
        run.of_floor.sample(workload, metric, measure())
    except (OSError, BackendError) as error:
        run.of_floor.failed(workload, metric, f"floor, {metric}: {error}")
        return False
    return True


def floored_many(run: Run, workload: str, n: int, names: dict[str, str]) -> None:
    """The floor's own `n` alive at once; `names`: its metrics, and what to call them."""
    if run.floor is None:
        return
    try:
        found = run.floor.many(n, run.config.jobs, run.config.commands)
    except (OSError, BackendError) as error:
        run.of_floor.failed(workload, "create", f"floor, {n} alive: {error}")
        return
    run.of_floor.concurrency(workload, n)
    for theirs, ours in names.items():
        times = found[theirs]
        for seconds, ended in zip(times.each, times.ended, strict=True):
            run.of_floor.sample(workload, ours, seconds, ended)
        run.of_floor.took(workload, ours, times.wall)
