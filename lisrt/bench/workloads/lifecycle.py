"""Sandboxes one at a time, all backends and the floor in turn; then all of them alive at once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial

from lisrt.bench.measure import Recorder
from lisrt.bench.workloads.alive import PAYLOAD, TOGETHER, AllAlive, commands, read, write
from lisrt.bench.workloads.base import Run, Subject, by_its_clock, floored, floored_many
from lisrt.limits import Limits

SERIAL = "one at a time"
LIMITS = Limits(
    "200MiB", cpus=1, pids=512, disk="1GiB", files=100_000, open_files=256, output="1GiB", wall_time=60, enforce="watchdog"
)
"""All there are, held by lisrt itself: what they cost beside a sandbox that has none."""
REST = 0.02
"""Seconds after each turn, in which what one has left to be deleted or to be reaped is not at the next one's cost."""
LEVELS = (1, 2, 4, 8, 16, 32)
"""Threads that drive another runtime, in turn: each has a number at which it is quickest."""


class Lifecycle:
    """Create, commands, files, destroy."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        self._one_at_a_time(run)
        has_rivals = any(not subject.launcher for subject in run.subjects)
        for subject in run.subjects:
            if subject.launcher and has_rivals:
                self._at_levels(run, subject)
            if subject.launcher:
                AllAlive(run, subject, TOGETHER, run.config.concurrency, run.config.jobs).go()
            else:
                self._at_its_best(run, subject)
        floored_many(run, TOGETHER, run.config.concurrency, {"create": "create", "exec": "exec", "destroy": "destroy"})

    def _one_at_a_time(self, run: Run) -> None:
        """In random order, anew each time: what else the machine does meets all of them alike."""
        random, step = run.random("lifecycle"), run.steps(SERIAL, run.config.serial)
        turns: list[Callable[[], None]] = [partial(_host_exec, run.subjects[0].recorder)]
        if run.floor is not None:
            turns.append(partial(_floor, run))
        for subject in run.subjects:
            if subject.launcher:
                subject.recorder.sample(SERIAL, "first", subject.first)
                turns.append(partial(_limited, run, subject))
            if subject.forks:
                turns.append(partial(_branch, run, subject))
            turns.append(partial(_one, run, subject))
        for number in range(run.config.serial):
            if number:  # the report has its rows in the order in which they were first seen
                random.shuffle(turns)
            for turn in turns:
                turn()
                time.sleep(REST)
            step()

    def _at_its_best(self, run: Run, subject: Subject) -> None:
        """At each number of threads; then at the one that creates quickest as many as there may be."""
        rates = self._at_levels(run, subject)
        best = {metric: max(found, key=lambda jobs: found[jobs]) for metric, found in rates.items()}
        AllAlive(run, subject, TOGETHER, run.most(subject), best.get("create", 1)).go()
        run.notes += [
            f"{subject.name}: {metric} is quickest with {jobs} at once, {rates[metric][jobs]:,.1f} a second"
            for metric, jobs in best.items()
        ]

    def _at_levels(self, run: Run, subject: Subject) -> dict[str, dict[int, float]]:
        """At each number of threads, in a workload of its own. By metric and threads the operations in a second."""
        rates: dict[str, dict[int, float]] = {}
        for jobs in LEVELS:
            n = min(max(2 * jobs, 8), run.most(subject))
            workload = f"{TOGETHER}, {jobs}"
            subject.recorder.concurrency(workload, jobs)
            AllAlive(run, subject, workload, n, jobs).go()
            for row in subject.recorder.rows():
                if row.workload == workload and row.rate:
                    rates.setdefault(row.metric, {})[jobs] = row.rate
            if jobs >= n:
                break
        return rates


def _host_exec(recorder: Recorder) -> None:
    with recorder.timed(SERIAL, "host exec"):  # the same command without a sandbox, for comparison
        subprocess.run(["/bin/true"], stdin=subprocess.DEVNULL, capture_output=True)


def _floor(run: Run) -> None:
    assert run.floor is not None
    if floored(run, SERIAL, "create", run.floor.create):
        for _ in range(run.config.commands):
            floored(run, SERIAL, "exec", run.floor.exec)
        floored(run, SERIAL, "fork", run.floor.fork)
        floored(run, SERIAL, "destroy", run.floor.destroy)


def _one(run: Run, subject: Subject) -> None:
    timed = subject.recorder.timed
    instance = None
    with timed(SERIAL, "create") as timing:
        instance = subject.backend.create()
        by_its_clock(timing, instance)
    if instance is not None:
        if commands(subject.recorder, instance, SERIAL, run.config.commands):
            _ = write(subject.recorder, instance, SERIAL) and read(subject.recorder, instance, SERIAL)
        with timed(SERIAL, "destroy") as timing:
            instance.destroy()
            by_its_clock(timing, instance)


def _branch(run: Run, subject: Subject) -> None:
    """A snapshot and a fork of one that has written a file."""
    timed = subject.recorder.timed
    with subject.sandbox() as box:
        box.write("/testbed/bench/data.bin", PAYLOAD)
        with timed(SERIAL, "snapshot"):
            box.snapshot()
        box.run(["/bin/true"])  # waits until it has started again
        twin = None
        with timed(SERIAL, "fork"):
            twin = box.fork()
        if twin is not None:
            twin.close()
        box.run(["/bin/true"])


def _limited(run: Run, subject: Subject) -> None:
    """The same with every limit, in turn with those that have none."""
    timed = subject.recorder.timed
    box = None
    with timed(SERIAL, "create, limited"):
        box = subject.sandbox(limits=LIMITS)
    if box is not None:
        for _ in range(run.config.commands):
            with timed(SERIAL, "exec, limited"):
                box.run(["/bin/true"]).check()
        box.close()
