"""Recorded episodes, played again tool call by tool call: alone, and as many at once as asked for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from lisrt.aio import AsyncSandbox
from lisrt.bench.backend import Instance, Unpacks
from lisrt.bench.config import Think as ThinkTime
from lisrt.bench.workloads.alive import sandbox_of
from lisrt.bench.workloads.base import Run, Subject, abandon
from lisrt.bench.workloads.episodes import (
    Command,
    Episode,
    Read,
    Step,
    Tally,
    Think,
    Unpack,
    Write,
    load,
    replay,
)

SERIAL, TOGETHER = "rollout, one at a time", "rollout, all at once"
LEVELS = (8, 16, 32)
"""Threads that drive another runtime where models don't think: each has a number at which it is quickest."""


MOST_SAID = 3
"""Calls of an episode that ended otherwise, of which the message tells."""
ARCHIVE = "/tmp/task.tar"
UNPACK = ("tar", "-xf", ARCHIVE, "-C", "/")
"""How a task's files come in where a runtime has no way of its own for trees. The agent has not asked for it: it is overhead."""


@dataclass(slots=True)
class Sums:
    """Over the episodes that came to their end."""

    episodes: int = 0
    wall: float = 0.0
    thought: float = 0.0
    own: float = 0.0
    of_all: bool = True
    """Whether of all of them it is known how long their commands ran."""

    def add(self, tally: Tally, wall: float) -> None:
        """One more."""
        self.episodes, self.wall, self.thought = self.episodes + 1, self.wall + wall, self.thought + tally.thought
        self.own += tally.own or 0.0
        self.of_all = self.of_all and tally.own is not None

    @property
    def overhead(self) -> float | None:
        """The share of the time that was neither thinking nor a command at work."""
        return (self.wall - self.thought - self.own) / self.wall if self.wall and self.of_all else None


class Rollout:
    """Episodes a minute, how long one takes, and how much of that is the runtime's doing."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        episodes = load(run.config.episodes)
        self._one_at_a_time(run, episodes)
        for subject in run.subjects:
            n = run.most(subject)
            if subject.launcher:
                self._in_a_loop(run, subject, episodes, n)
                continue
            if not run.config.think.median:
                for jobs in (level for level in LEVELS if level < n):
                    self._in_threads(run, subject, f"{TOGETHER}, {jobs}", episodes, 2 * jobs, jobs)
            self._in_threads(run, subject, TOGETHER, episodes, n, n)

    def _one_at_a_time(self, run: Run, episodes: list[Episode]) -> None:
        rounds = -(-run.config.serial // 10)
        turns = [(subject, episode) for subject in run.subjects for episode in episodes]
        random, step = run.random("rollout"), run.steps(SERIAL, rounds * len(turns))
        for _ in range(rounds):
            random.shuffle(turns)
            for subject, episode in turns:
                _sync(run, subject, SERIAL, episode.name, episode, ThinkTime(), 0, Tally())
                step()

    def _in_threads(self, run: Run, subject: Subject, workload: str, episodes: list[Episode], n: int, jobs: int) -> None:
        sums = Sums()

        def one(number: int) -> None:
            episode, tally = episodes[number % len(episodes)], Tally()
            if jobs == n:  # else they begin one after the other anyway
                time.sleep(run.config.ramp * number / n)
            wall = _sync(run, subject, workload, "episode", episode, run.config.think, number, tally)
            if wall is not None:
                with run.lock:
                    sums.add(tally, wall)

        run.count(asked=n)
        subject.recorder.concurrency(workload, jobs)
        took = run.together(run.label(subject, workload), one, n, jobs)
        run.count(served=sums.episodes)
        _report(run, subject, workload, sums, took)

    def _in_a_loop(self, run: Run, subject: Subject, episodes: list[Episode], n: int) -> None:
        sums, step = Sums(), run.steps(run.label(subject, TOGETHER), n)

        async def one(number: int) -> None:
            episode, tally = episodes[number % len(episodes)], Tally()
            await asyncio.sleep(run.config.ramp * number / n)
            started = time.perf_counter()
            with subject.recorder.timed(TOGETHER, "episode") as timing:
                async with subject.awaited() as box:
                    await _async(box, episode, _thinks(run, run.config.think, number), tally)
                timing.is_void = bool(tally.wrong)
            _judge(subject, TOGETHER, "episode", tally)
            if timing.ok:
                sums.add(tally, time.perf_counter() - started)
            step()

        async def all_of_them() -> float:
            started = time.perf_counter()
            await asyncio.gather(*(one(number) for number in range(n)))
            return time.perf_counter() - started

        run.count(asked=n)
        subject.recorder.concurrency(TOGETHER, n)
        try:
            took = asyncio.run(all_of_them())
        except BaseException:
            abandon()
            raise
        run.count(served=sums.episodes)
        _report(run, subject, TOGETHER, sums, took)


def _report(run: Run, subject: Subject, workload: str, sums: Sums, took: float) -> None:
    value, n = subject.recorder.value, sums.episodes
    if not run.config.think.median:  # else it says how many think at once, and a ratio of that would be nobody's merit
        subject.recorder.took(workload, "episode", took)
    value(workload, "episodes per minute", "per min", n, 60 * n / took)
    words = f"{subject.name}: {workload}: {60 * n / took:,.0f} episodes a minute"
    if sums.overhead is not None:
        value(workload, "share of the episode that is neither thinking nor commands", "%", n, 100 * sums.overhead)
        words += f"; {100 * sums.overhead:.2f} % of their time neither thinking (of models) nor commands"
    run.notes.append(words)


def _thinks(run: Run, think: ThinkTime, number: int) -> Any:
    """Of each episode its own, the same for every backend."""
    return think.draws(run.random(f"think {number}"))


def _judge(subject: Subject, workload: str, metric: str, tally: Tally) -> None:
    for seconds in tally.calls:
        subject.recorder.sample(workload, "tool call", seconds)
    if tally.wrong:
        more = f"; and {len(tally.wrong) - MOST_SAID} calls more" if len(tally.wrong) > MOST_SAID else ""
        subject.recorder.failed(workload, metric, "; ".join(tally.wrong[:MOST_SAID]) + more)


def _sync(
    run: Run, subject: Subject, workload: str, metric: str, episode: Episode, think: ThinkTime, number: int, tally: Tally
) -> float | None:
    """One episode from creation to destruction; seconds, or None where something went wrong."""
    started = time.perf_counter()
    with subject.recorder.timed(workload, metric) as timing:
        instance = subject.backend.create()
        try:
            flow = replay(episode, _thinks(run, think, number), tally)
            answer: Any = None
            while True:
                try:
                    step = flow.send(answer)
                except StopIteration:
                    break
                before = time.perf_counter()
                answer = _do(instance, step, tally)
                _clock(step, tally, time.perf_counter() - before)
        finally:
            instance.destroy()
        timing.is_void = bool(tally.wrong)
    took = time.perf_counter() - started
    _judge(subject, workload, metric, tally)
    return took if timing.ok else None


def _do(instance: Instance, step: Step, tally: Tally) -> Any:
    match step:
        case Unpack(data) if isinstance(instance, Unpacks):
            instance.unpack(data)
        case Unpack(data):
            instance.write(ARCHIVE, data)
            if (status := instance.run(UNPACK).exit_code) != 0:
                tally.wrong.append(f"the task's files: tar exited with {status}")
        case Think(seconds):
            if seconds:
                time.sleep(seconds)
        case Command(argv):
            box = sandbox_of(instance)
            if box is None:
                tally.own = None
                return instance.run(argv).exit_code
            result = box.run(argv)
            tally.own = (tally.own or 0.0) + result.duration
            return result.returncode
        case Read(path):
            return instance.read(path)
        case Write(path, data):
            instance.write(path, data)
    return None


async def _async(box: AsyncSandbox, episode: Episode, thinks: Any, tally: Tally) -> None:
    flow, answer = replay(episode, thinks, tally), None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration:
            return
        before = time.perf_counter()
        answer = await _ado(box, step, tally)
        _clock(step, tally, time.perf_counter() - before)


async def _ado(box: AsyncSandbox, step: Step, tally: Tally) -> Any:
    match step:
        case Unpack(data):
            await box.write(ARCHIVE, data)
            if (status := (await box.run(UNPACK)).returncode) != 0:
                tally.wrong.append(f"the task's files: tar exited with {status}")
        case Think(seconds):
            if seconds:
                await asyncio.sleep(seconds)
        case Command(argv):
            result = await box.run(argv)
            tally.own = (tally.own or 0.0) + result.duration
            return result.returncode
        case Read(path):
            return await box.read(path)
        case Write(path, data):
            await box.write(path, data)
    return None


def _clock(step: Step, tally: Tally, took: float) -> None:
    if isinstance(step, Think):
        tally.thought += step.seconds  # not what it took: to wake up late is the runtime's doing
    else:
        tally.calls.append(took)
