"""One run of `lisrt bench`: backends started, workloads measured, everything stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lisrt import spawner
from lisrt.bench.backend import Backend, Unavailable
from lisrt.bench.backends import named
from lisrt.bench.config import Config
from lisrt.bench.documents import Document, document
from lisrt.bench.floor import Floor
from lisrt.bench.machine import anonymous, filesystem
from lisrt.bench.measure import Recorder
from lisrt.bench.workloads import workload
from lisrt.bench.workloads.base import Progress, Run, Subject
from lisrt.errors import HostError, LisrtError
from lisrt.image import HOST

ORDER = "What is done one at a time is done by all in turn, in an order drawn anew each time; the rest by one after the other."
DEFAULT = ("native", "bwrap")
"""Where neither a backend nor a launcher was chosen: the first that runs here."""


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
            raise Unavailable(_listed({name: self.left_out[name] for name in self._workloads if name in self.left_out}))

    @property
    def recorders(self) -> list[Recorder]:
        """Of all backends, the floor and the bare host, as they were first met."""
        return list(self._recorders.values())

    def document(self, machine: Mapping[str, Any], command: str) -> Document:
        """The report. What is no row has a place of its own: findings in words, series, and workloads that were left out."""
        told = {**self._config.as_json(), "workloads": list(self._workloads)}
        found = {**machine, "scratch_filesystem": self.scratch_filesystem, "guarantees": self.guarantees}
        known: dict[str, dict[str, str] | str] = {**self.settings}
        known |= {name: why for name, why in self.left_out.items() if name not in self._workloads}
        made = document(self.recorders, found, told, self._config.seed, known, order=ORDER, command=command)
        gone = {name: why for name, why in self.left_out.items() if name in self._workloads}
        notes = [anonymous(note) for note in self.notes]
        return made | {"notes": notes, "series": self.series, "left_out": {name: anonymous(why) for name, why in gone.items()}}

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
        found: list[Subject] = []
        fault: BaseException | None = None
        for name in self._names or _default():
            if found and not self._names:
                break
            try:
                backend = named(name, self._config.memory)
                stack.callback(backend.stop)
                found.append(self._started(backend))
            except Unavailable as error:
                self.left_out[name] = str(error)
                fault = fault or error.__cause__
        if not found and isinstance(fault, LisrtError):
            raise fault
        if not found:
            raise Unavailable(_listed(self.left_out))
        return found

    def _started(self, backend: Backend) -> Subject:
        subject = Subject(backend, self._recorder(backend.name), self._config.image, self._config.memory)
        if subject.launcher:
            try:
                self._look(subject)
            except HostError as error:
                raise Unavailable(str(error)) from error
        backend.start(self._config.image)
        self.settings[backend.name] = dict(backend.settings())
        return subject

    def _look(self, subject: Subject) -> None:
        """The first sandbox starts the spawner, once per program; and tells what the others will be like."""
        started = time.perf_counter()
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
            return stack.enter_context(Floor(self._config.image))
        except (OSError, LisrtError, Unavailable) as error:
            self.left_out["floor"] = str(error)
            return None


def _default() -> tuple[str, ...]:
    """What sandboxes would be made by."""
    launcher = spawner.resolve("auto")
    return DEFAULT if launcher == "auto" else (launcher,)


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in reasons.items())


def names_of(text: str, known: Iterable[str], what: str, *, others: bool = False) -> tuple[str, ...]:
    """A list with commas. ValueError for a name that is not known; `others`: module:factory is one, too."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    choices = ", ".join(known)
    for name in found:
        if name not in known and not (others and ":" in name):
            raise ValueError(f"there is no {what} {name!r}; there are {choices}")
    if not found:
        raise ValueError(f"name a {what}: {choices}")
    return found
