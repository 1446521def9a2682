"""Commands in live sandboxes: what one takes, and how many a second one process can have of many sandboxes."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from lisrt.aio import AsyncSandbox
from lisrt.bench.backend import Instance
from lisrt.bench.measure import Recorder
from lisrt.bench.workloads.base import Run, Subject, abandon, floored, floored_many, lacks, one_of_each

SERIAL, TOGETHER = "exec, one at a time", "exec, all alive"
SIZE = 1_000_000
DATA = os.urandom(1 << 16)[:62_500] * 16
IN_FLIGHT = 32
"""Commands that one event loop waits for at a time: more would only wait in another queue."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A command, and what is to come out of it."""

    name: str
    argv: tuple[str, ...]
    stdin: bytes = b""
    size: int = 0

    def complaint(self, status: int | None, output: bytes) -> str:
        """What is wrong with how it ended; empty when nothing is."""
        if status != 0:
            return f"{self.name}: exited with {status}"
        if len(output) != self.size or (self.stdin and output != self.stdin):
            return f"{self.name}: wrote {len(output)} bytes, not the {self.size} that it should"
        return ""


KINDS = (
    Kind("exec true", ("/bin/true",)),
    Kind("exec sh -c", ("sh", "-c", ":")),
    Kind("exec python3 -c", ("python3", "-c", "pass")),
    Kind("exec 1 MB out", ("head", "-c", str(SIZE), "/dev/zero"), size=SIZE),
    Kind("exec 1 MB in and out", ("cat",), stdin=DATA, size=SIZE),
)


class Commands:
    """Each kind of command in one sandbox after the other, then in all of them at once."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        kinds = self._one_at_a_time(run)
        for subject in run.subjects:
            with alive(run, subject, run.most(subject)) as instances:
                for kind in kinds[subject.name]:
                    _threads(run, subject, instances, kind)
        for subject in run.subjects:
            if subject.launcher:
                try:
                    asyncio.run(_loop(run, subject, kinds[subject.name]))
                except BaseException:
                    abandon()
                    raise
        floored_many(run, TOGETHER, run.config.concurrency, {"exec": "exec true"})

    def _one_at_a_time(self, run: Run) -> dict[str, list[Kind]]:
        """In random order, beside the bare host and the floor. Returns by backend the kinds that its image has a program for."""
        kinds: dict[str, list[Kind]] = {subject.name: list(KINDS) for subject in run.subjects}
        awaited = f"{KINDS[0].name}, async"
        with one_of_each(run, SERIAL) as made, asyncio.Runner() as runner, ExitStack() as stack:
            here = [kind for kind in KINDS if shutil.which(kind.argv[0])]
            turns: list[Callable[[], object]] = [partial(_host, run.of_host, kind) for kind in here]
            for subject, one in made:
                missing = lacks(one, {kind.argv[0] for kind in KINDS})
                run.notes += [f"{subject.name}: exec: no {name} in the image" for name in sorted(missing)]
                kinds[subject.name] = [kind for kind in KINDS if kind.argv[0] not in missing]
                turns += [partial(_one, subject.recorder, one, SERIAL, kind) for kind in kinds[subject.name]]
                if subject.launcher:
                    box = stack.enter_context(_entered(runner, subject))
                    turns.append(partial(_in_loop, runner, subject.recorder, box, awaited))
            if run.floor is not None and floored(run, SERIAL, "create", run.floor.create):
                turns += [partial(floored, run, SERIAL, name, run.floor.exec) for name in (KINDS[0].name, awaited)]
            random, step = run.random("exec"), run.steps(SERIAL, run.config.serial)
            for number in range(run.config.serial):
                if number:  # as in lifecycle
                    random.shuffle(turns)
                for turn in turns:
                    turn()
                step()
            if run.floor is not None:
                floored(run, SERIAL, "destroy", run.floor.destroy)
        return kinds


@contextmanager
def _entered(runner: asyncio.Runner, subject: Subject) -> Iterator[AsyncSandbox]:
    box = subject.awaited()
    runner.run(box.__aenter__())
    try:
        yield box
    finally:
        runner.run(box.close())


def _in_loop(runner: asyncio.Runner, recorder: Recorder, box: AsyncSandbox, metric: str) -> None:
    runner.run(_awaited(recorder, box, metric))


async def _awaited(recorder: Recorder, box: AsyncSandbox, metric: str) -> None:
    """One command, by the clock of a loop that runs already."""
    with recorder.timed(SERIAL, metric):
        status = (await box.run(KINDS[0].argv)).returncode
    if status:
        recorder.failed(SERIAL, metric, f"{metric}: exited with {status}")


def _host(recorder: Recorder, kind: Kind) -> None:
    with recorder.timed(SERIAL, kind.name):
        subprocess.run(kind.argv, input=kind.stdin, capture_output=True)


def _one(recorder: Recorder, instance: Instance, workload: str, kind: Kind) -> bool:
    with recorder.timed(workload, kind.name) as timing:
        done = instance.run(kind.argv, stdin=kind.stdin)
    if not timing.ok:
        return False
    complaint = kind.complaint(done.exit_code, done.stdout)
    if complaint:
        recorder.failed(workload, kind.name, complaint)
    return not complaint


@contextmanager
def alive(run: Run, subject: Subject, n: int) -> Iterator[list[Instance]]:
    """So many of them, or as many as could be had; all are destroyed."""
    made: list[Instance] = []

    def create(_number: int) -> None:
        with subject.recorder.timed(TOGETHER, "create"):
            made.append(subject.backend.create())

    def destroy(number: int) -> None:
        with subject.recorder.timed(TOGETHER, "destroy"):
            made[number].destroy()

    run.count(asked=n)
    subject.recorder.concurrency(TOGETHER, n)
    run.together(run.label(subject, "create"), create, n)
    yield made
    run.together(run.label(subject, "destroy"), destroy, len(made))
    run.count(served=len(made))


def _threads(run: Run, subject: Subject, instances: list[Instance], kind: Kind) -> None:
    """A thread has one of the sandboxes at a time."""
    if not instances:
        return
    each = run.config.commands if kind is KINDS[0] else 1

    def use(number: int) -> None:
        for _ in range(each):
            if not _one(subject.recorder, instances[number], TOGETHER, kind):
                return

    wall = run.together(run.label(subject, kind.name), use, len(instances))
    subject.recorder.took(TOGETHER, kind.name, wall)


async def _loop(run: Run, subject: Subject, kinds: list[Kind]) -> None:
    """The same from one event loop, without a thread."""
    n, turn = run.most(subject), asyncio.Semaphore(max(IN_FLIGHT, run.config.jobs))
    boxes: list[AsyncSandbox] = []

    async def create() -> None:
        async with turn:
            with subject.recorder.timed(TOGETHER, "create, async"):
                box = subject.awaited()
                await box.__aenter__()
                boxes.append(box)

    async def destroy(box: AsyncSandbox) -> None:
        async with turn:
            with subject.recorder.timed(TOGETHER, "destroy, async") as timing:
                await box.close()
            run.count(served=int(timing.ok))

    async def use(box: AsyncSandbox, kind: Kind, step: Callable[[], None]) -> None:
        name = f"{kind.name}, async"
        async with turn:
            with subject.recorder.timed(TOGETHER, name) as timing:
                done = await box.run(kind.argv, stdin=kind.stdin)
            complaint = kind.complaint(done.returncode, done.stdout_bytes) if timing.ok else ""
            if complaint:
                subject.recorder.failed(TOGETHER, name, complaint)
        step()

    run.count(asked=n)
    await asyncio.gather(*(create() for _ in range(n)))
    for kind in kinds:
        rounds = run.config.commands if kind is KINDS[0] else 1
        step = run.steps(run.label(subject, f"{kind.name}, async"), rounds * len(boxes))
        started = time.perf_counter()
        await asyncio.gather(*(use(box, kind, step) for _ in range(rounds) for box in boxes))
        subject.recorder.took(TOGETHER, f"{kind.name}, async", time.perf_counter() - started)
    await asyncio.gather(*(destroy(box) for box in boxes))
