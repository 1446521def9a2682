"""One run of `lisrt bench`: backends started, workloads measured, everything stopped."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lisrt import spawner
from lisrt.bench.backend import Backend, Unavailable
from lisrt.bench.config import Config
from lisrt.bench.machine import filesystem
from lisrt.bench.measure import Recorder, Row
from lisrt.bench.workloads import workload
from lisrt.bench.workloads.base import Floor, Progress, Run, Subject
from lisrt.errors import HostError, LisrtError
from lisrt.image import HOST

DEFAULT = ("native", "bwrap")
"""Where no backend is named: the first that runs here."""


class Bench:
    """What was asked for, and what was found. `run` once."""

    def __init__(
        self,
        config: Config,
        backends: Sequence[str] = (),
        workloads: Sequence[str] = ("lifecycle",),
        progress: Progress = lambda phase, done, total: None,
    ) -> None:
        self._config = config
        self._names, self._workloads = tuple(backends), tuple(workloads)
        self._progress = progress
        self._recorders: dict[str, Recorder] = {}
        self.guarantees: dict[str, str] = {}
        """What was enforced in lisrt's sandboxes, and how."""
        self.scratch_filesystem = ""
        self.settings: dict[str, dict[str, str]] = {}
        """Of each backend that ran."""
        self.left_out: dict[str, str] = {}
        """Backends and workloads that could not be had, and why."""
        self.notes: list[str] = []
        self.series: dict[str, Any] = {}
        self.asked = 0
        self.served = 0
        self.measured = 0
        """Workloads that were carried out."""

    def run(self) -> None:
        """Everything. Unavailable when none of the backends runs here, or none of the workloads."""
        with contextlib.ExitStack() as stack:
            subjects = self._subjects(stack)
            floor = self._floor(stack)
            for name in self._workloads:
                self._measure(name, subjects, floor)
        if not self.measured:
            raise Unavailable("; ".join(f"{name}: {why}" for name, why in self.left_out.items()))

    def rows(self) -> list[Row]:
        """Of all backends, the floor and the bare host, as they were first met."""
        return [row for recorder in self._recorders.values() for row in recorder.rows()]

    @property
    def failures(self) -> int:
        """Of all."""
        return sum(recorder.failures for recorder in self._recorders.values())

    @property
    def errors(self) -> dict[str, int]:
        """Each kind's first message, and how often that kind came."""
        several = len(self.settings) > 1
        return {
            f"{name}: {message}" if several or name not in self.settings else message: count
            for name, recorder in self._recorders.items()
            for message, count in recorder.errors.items()
        }

    def _recorder(self, name: str) -> Recorder:
        return self._recorders.setdefault(name, Recorder(name))

    def _measure(self, name: str, subjects: list[Subject], floor: Floor | None) -> None:
        made = workload(name)
        able = [subject for subject in subjects if subject.launcher or not made.only_lisrt]
        if not able:
            self.left_out[name] = "only lisrt's own backends can do it"
            return
        run = Run(self._config, able, floor, self._recorder("floor"), self._recorder("host"), self._progress)
        try:
            made.run(run)
        except Unavailable as error:
            self.left_out[name] = str(error)
            return
        finally:
            self.notes += run.notes
            self.series |= run.series
            self.asked += run.asked
            self.served += run.served
        self.measured += 1

    def _subjects(self, stack: contextlib.ExitStack) -> list[Subject]:
        known = backends()
        found: list[Subject] = []
        fault: BaseException | None = None
        for name in self._names or DEFAULT:
            if found and not self._names:
                break
            backend = known[name]()
            stack.callback(backend.stop)
            try:
                found.append(self._started(backend))
            except Unavailable as error:
                self.left_out[name] = str(error)
                fault = fault or error.__cause__
        if not found and isinstance(fault, LisrtError):
            raise fault
        if not found:
            raise Unavailable("; ".join(f"{name}: {why}" for name, why in self.left_out.items()))
        return found

    def _started(self, backend: Backend) -> Subject:
        subject = Subject(backend, self._recorder(backend.name), self._config.image)
        started = time.perf_counter()
        backend.start(self._config.image)
        if subject.launcher:
            try:
                self._look(subject, started)
            except HostError as error:
                raise Unavailable(str(error)) from error
        self.settings[backend.name] = dict(backend.settings())
        return subject

    def _look(self, subject: Subject, started: float) -> None:
        """The first sandbox starts the spawner, once per program; and tells what the others will be like."""
        with subject.sandbox() as box:
            subject.first = time.perf_counter() - started
            box.run(["/bin/true"]).check()
            if not self.guarantees:
                self.guarantees = {name: words.partition(" in /")[0] for name, words in box.guarantees.items()}
                self.scratch_filesystem = filesystem(spawner.current(subject.launcher).scratch)
            if box.image != HOST:
                subject.layers = box._box.root.layers
            with contextlib.suppress(HostError):  # some bubblewraps can't have any
                box.snapshot()
                subject.forks = True

    def _floor(self, stack: contextlib.ExitStack) -> Floor | None:
        try:
            made: Floor = importlib.import_module("lisrt.bench.floor").Floor()
            return stack.enter_context(made)
        except (ImportError, OSError, LisrtError, Unavailable) as error:
            self.left_out["floor"] = str(error)
            return None


def backends() -> Mapping[str, Callable[[], Backend]]:
    """All there are, by name."""
    found: Mapping[str, Callable[[], Backend]] = importlib.import_module("lisrt.bench.backends").BACKENDS
    return found


def names_of(text: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    """A list with commas. ValueError for a name that is not known."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    choices = sorted(known)
    for name in found:
        if name not in choices:
            raise ValueError(f"there is no {what} {name!r}; there are {', '.join(choices)}")
    if not found:
        raise ValueError(f"name a {what}: {', '.join(choices)}")
    return found
