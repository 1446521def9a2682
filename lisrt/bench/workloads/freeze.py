"""Programs that nobody needs for the moment: what it takes to stop them, and what that is worth to the others."""

from __future__ import annotations

from lisrt.bench.workloads.base import Run, Subject
from lisrt.sandbox import Sandbox

NAME = "freeze"
BUSY = "while :; do :; done & head -c 4194304 /dev/zero > data; sync data; cat data > /dev/null"
"""A program that never rests, and 4 MiB of files that have been read."""
MOST = 32
"""Sandboxes with such a program. More of them would have a machine of two CPUs do nothing else for minutes."""


class Freeze:
    """Commands of one sandbox beside the programs of others: while those run, and while they are frozen."""

    only_lisrt = True

    def run(self, run: Run) -> None:
        for subject in run.subjects:
            _freeze(run, subject)


def _freeze(run: Run, subject: Subject) -> None:
    n, timed, label = min(MOST, run.config.concurrency), subject.recorder.timed, run.label(subject, NAME)
    made: list[Sandbox] = []
    run.count(asked=n + 1)
    step = run.steps(label, n + 2)
    try:
        for _ in range(n + 1):
            with timed(NAME, "create") as timing:
                made.append(subject.sandbox())
            if not timing.ok:
                return
        beside, busy = made[0], made[1:]
        _commands(run, subject, beside, "true, beside none")
        for box in busy:
            with timed(NAME, "start a busy program"):
                box.sh(BUSY).check()
        _commands(run, subject, beside, "true, beside busy ones")
        step()
        _stop(subject, busy)
        _commands(run, subject, beside, "true, beside frozen ones")
        step()
        for box in busy:
            with timed(NAME, "thaw and answer"):
                box.run(["/bin/true"]).check()
            with timed(NAME, "freeze"):  # again: else those that are thawed take the CPUs from the next
                box.freeze()
            step()
    finally:
        for box in made:
            with timed(NAME, "destroy") as timing:
                box.close()
            run.count(served=int(timing.ok))


def _stop(subject: Subject, busy: list[Sandbox]) -> None:
    reclaimed: list[int] = []
    for box in busy:
        with subject.recorder.timed(NAME, "freeze, beside busy ones"):
            found = box.freeze()
            if found.reclaimed is not None:
                reclaimed.append(found.reclaimed)
    if reclaimed:
        each = sum(reclaimed) / len(reclaimed) / 1024
        subject.recorder.value(NAME, "taken back by the kernel, each", "KiB", len(reclaimed), each)


def _commands(run: Run, subject: Subject, box: Sandbox, metric: str) -> None:
    for _ in range(max(20, run.config.serial)):
        with subject.recorder.timed(NAME, metric):
            box.run(["/bin/true"]).check()
