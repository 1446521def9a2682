"""How many sandboxes fit on this machine: more and more of them, all alive, until something says no."""

from __future__ import annotations

import os
import resource
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from lisrt.bench.backend import Instance
from lisrt.bench.machine import memory
from lisrt.bench.workloads.base import FAULTS, Run, Subject
from lisrt.doctor import ceilings
from lisrt.doctor.host import Host

LEVELS = (512, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
GIVE_WAY = 8
"""Sandboxes for each command in flight that end at the ceiling, for the others to have room to answer."""
RESERVE = 0.04
"""The share of the machine's memory that is left alone: at its end the kernel kills somebody, and that may be anyone."""


class Density:
    """What each step weighs, and how the last one ended."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        run.notes.append(f"density: {raise_descriptors()}")
        for subject in run.subjects:
            _Climb(run, subject).go()


def levels(ceiling: int | None) -> list[int]:
    """The steps up to a number, and that number itself."""
    found = [level for level in LEVELS if ceiling is None or level < ceiling]
    return [*found, ceiling] if ceiling is not None else found


def raise_descriptors() -> str:
    """The soft limit of this process as high as the hard one lets it be; says what that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    words = "not limited" if hard == resource.RLIM_INFINITY else f"limited to {hard:,}, the hard limit"
    return f"open files are {words}; the soft limit was {soft:,}"


@dataclass(slots=True)
class _Climb:
    """One backend's way up."""

    run: Run
    subject: Subject
    alive: list[Instance] = field(default_factory=list)
    broke: list[str] = field(default_factory=list)
    """What said no; the first counts."""
    steps: list[dict[str, float]] = field(default_factory=list)
    _empty: int = 0
    _ceilings: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def go(self) -> None:
        """All steps, then down again."""
        begun = memory()
        self._empty, least = begun.in_use, int(RESERVE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        try:
            for level in levels(self.run.config.ceiling):
                self._grow(level, least)
                self._answer()
                if self.broke:
                    break
        finally:
            self._down()
        name, reached = self.subject.name, max((int(step["alive"]) for step in self.steps), default=0)
        self.subject.recorder.value("density", "alive at once, each having answered", "sandboxes", reached, reached)
        end = f"then {self.broke[0]}" if self.broke else "and nothing has said no"
        self.run.notes.append(f"{name}: {reached:,} alive at once, {end}")
        self.run.notes += [f"{name}: {words}" for words in self._ceilings]
        self.run.series.setdefault("density", {})[name] = {
            "steps": self.steps, "broke": self.broke[:1], "ceilings": self._ceilings,
        }  # fmt: skip

    def _grow(self, level: int, least: int) -> None:
        recorder, workload = self.subject.recorder, f"density, {level:,}"

        def create(number: int) -> None:
            if self.broke:
                return
            started = time.perf_counter()
            try:
                if number % 16 == 0 and memory().available < least:
                    self._stop(f"memory is short: less than {least >> 20:,} MiB of it available")
                    return
                made = self.subject.backend.create()
            except FAULTS as error:
                self._stop(f"{type(error).__name__}: {error}")
                return
            recorder.sample(workload, "create", time.perf_counter() - started)
            with self._lock:
                self.alive.append(made)

        recorder.concurrency(workload, level)
        missing = level - len(self.alive)
        recorder.took(workload, "create", self.run.together(self._label(f"create, to {level:,}"), create, missing))
        if self.alive:
            each = (memory().in_use - self._empty) / len(self.alive) / 1024
            recorder.value(workload, "memory per idle sandbox, kernel included", "KiB", len(self.alive), each)
            self.steps.append({"asked": level, "alive": len(self.alive), "KiB each": each})
        if self.broke or level == self.run.config.ceiling:
            self._ceilings = rooms(level)

    def _answer(self) -> None:
        """Each runs a command. Where something has run out some give way first: a command takes of it, too."""
        if not self.steps:
            return
        if self.broke:
            self._down(len(self.alive) - min(len(self.alive), GIVE_WAY * self.run.config.jobs))
        level, silent = int(self.steps[-1]["asked"]), 0
        recorder, workload = self.subject.recorder, f"density, {level:,}"

        def ask(number: int) -> None:
            nonlocal silent
            started, words = time.perf_counter(), ""
            try:
                status = self.alive[number].run(["/bin/true"]).exit_code
                words = f"/bin/true exited with {status}" if status else ""
            except FAULTS as error:
                words = f"{type(error).__name__}: {error}"
            if not words:
                recorder.sample(workload, "exec", time.perf_counter() - started)
                return
            with self._lock:
                silent += 1
            self._stop(f"a command in one of {len(self.alive):,} failed: {words}")

        wall = self.run.together(self._label(f"exec, {level:,}"), ask, len(self.alive))
        recorder.took(workload, "exec", wall)
        self.steps[-1]["answered"] = len(self.alive) - silent
        self.steps[-1]["alive"] = len(self.alive) - silent

    def _down(self, left: int = 0) -> None:
        """To so many. They count as served: how far it went is a finding and no failure."""
        recorder, alive = self.subject.recorder, self.alive[left:]
        del self.alive[left:]

        def destroy(number: int) -> None:
            with recorder.timed("density", "destroy") as timing:
                alive[number].destroy()
            self.run.count(served=int(timing.ok))

        self.run.count(asked=len(alive))
        recorder.took("density", "destroy", self.run.together(self._label("destroy"), destroy, len(alive)))

    def _stop(self, why: str) -> None:
        with self._lock:
            self.broke.append(why)

    def _label(self, phase: str) -> str:
        return self.run.label(self.subject, phase)


def rooms(concurrency: int) -> list[str]:
    """What this host's own limits say while all are alive: which of them it was, or which is next."""
    host = Host(concurrency, Path("/"))
    rows = (
        ("descriptors", ceilings.descriptors),
        ("processes", ceilings.processes),
        ("namespaces", ceilings.namespace_counts),
        ("memory", ceilings.memory_room),
    )
    return [f"limits of this host, {name}: {judge(host).found}" for name, judge in rows]
