"""Many tasks, some at once: each ends exactly once, however often the process is started for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import resource
import threading
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lisrt.agent.episode import UNFINISHED, Episode, ExitReason
from lisrt.agent.folder import Place, RunFolder, begun, clear
from lisrt.agent.reply import TokenUsage
from lisrt.agent.resume import has_ended
from lisrt.agent.task import BadTask, Task
from lisrt.agent.transport import require
from lisrt.errors import HostError

if TYPE_CHECKING:
    from lisrt.agent.loop import Agent

__all__ = ["Batch", "TaskResult"]

DESCRIPTORS = 12
"""Open files that an episode may need at a time."""
_OTHERS = 128

_FEWEST_ERRORS = 10
"""Model errors in a row before a batch gives up, however few tasks run at once."""

_OF_ONE_REQUEST = (400, 413, 422)
"""Refusals that say nothing of other tasks, where the server has served any: a filter's, for example."""

_RETRIED = (ExitReason.SANDBOX_ERROR, ExitReason.SANDBOX_DIED)


@dataclass(frozen=True)
class TaskResult:
    """What came of one task."""

    task: Task | BadTask
    episode: Episode
    """Of the last attempt."""
    attempts: int = 1
    """1, and one more for each fault of a sandbox."""
    faults: tuple[str, ...] = ()
    """What the attempts before the last ended with."""

    def line(self, folder: Path) -> dict[str, Any]:
        """As it stands in `results.jsonl`: paths begin at that directory, which may be moved."""
        values = asdict(self.episode)
        for name in ("output", "trajectory"):
            if values[name] is not None:
                values[name] = os.path.relpath(values[name], folder)
        data = dict(self.task.data) if isinstance(self.task, Task) else {}
        return {"task": self.task.id, **values, "attempts": self.attempts, "faults": list(self.faults), "data": data}


class Batch:
    """Tasks for one agent, so many at once; iterate to run them, and to have each result when it comes.

        async for result in Batch(agent, tasks, concurrency=64, folder="runs/1"):
            print(result.task.id, result.episode.exit_reason)

    tasks: taken one by one, when there is room. folder: for `results.jsonl`, trajectories and files; None keeps nothing. resume:
    the folder is there: tasks that have ended are passed over, but for those whose end was not the model's doing
    (`UNFINISHED`); they, and those that were in the middle, go on from their checkpoint, or begin again. checkpoint: whether the
    files of a sandbox are kept after its turns, see `Agent.checkpoint`. fault_retries: how often a task is begun again on a fresh
    sandbox after a fault of one. stop: once set, no task is begun any more and those that run are stopped; they are no results,
    and go on with `resume`. max_model_errors: when so many tasks in a row have ended with `model_error`, no other is begun, and
    `gave_up` says so; by default twice the concurrency, but at least 10. Refusals of one request (400, 413, 422) don't count once
    the server has served a task. watch: called with a task's id and each record of its trajectory.

    Iterating raises HostError where this process may have too few open files, ModuleNotFoundError and ValueError for what
    `transport.require` asks for, FileExistsError and FileNotFoundError, see `RunFolder`, and OSError when a result can't be
    written.
    """

    def __init__(
        self,
        agent: Agent,
        tasks: Iterable[str | Task | BadTask],
        *,
        concurrency: int = 8,
        folder: str | os.PathLike[str] | None = None,
        resume: bool = False,
        checkpoint: bool = False,
        fault_retries: int = 2,
        stop: asyncio.Event | None = None,
        max_model_errors: int | None = None,
        watch: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        if concurrency < 1 or fault_retries < 0:
            raise ValueError("concurrency is 1 or more, fault_retries 0 or more")
        if max_model_errors is not None and max_model_errors < 1:
            raise ValueError("max_model_errors is 1 or more")
        if folder is None and (resume or checkpoint):
            raise ValueError("resume and checkpoint need a folder")
        if checkpoint:
            replace(agent, checkpoint=Path("anywhere"))  # raises where that does not fit
        self._agent, self._tasks, self._concurrency = agent, tasks, concurrency
        self._folder = None if folder is None else RunFolder(folder, resume=resume)
        self._checkpoint, self._retries, self._watch = checkpoint, fault_retries, watch
        self._given_stop, self._stop = stop, stop or asyncio.Event()
        self._most_errors = max_model_errors or max(_FEWEST_ERRORS, 2 * concurrency)
        self._errors, self._served = 0, False
        self.before: Counter[str] = Counter()
        """Tasks that had ended before, by their exit reason."""
        self.gave_up: str | None = None
        """Why no more tasks were begun, where it is the model's server that is to blame."""

    async def __aiter__(self) -> AsyncIterator[TaskResult]:
        _check_descriptors(descriptors_for(self._concurrency))
        require(self._agent.model.base_url)
        self._errors, self._served, self.gave_up = 0, False, None
        if self._given_stop is None:
            self._stop = asyncio.Event()  # an event belongs to one loop, and each iteration may have another
        done: asyncio.Queue[TaskResult | BaseException | None] = asyncio.Queue(maxsize=self._concurrency)
        with self._folder or contextlib.nullcontext():
            coming = self._coming()
            workers = [asyncio.create_task(self._work(coming, done)) for _ in range(self._concurrency)]
            try:
                running = len(workers)
                while running:
                    result = await done.get()
                    if isinstance(result, TaskResult):
                        yield result
                    elif result is not None:
                        raise result
                    else:
                        running -= 1
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def results(self) -> Iterator[TaskResult]:
        """The same for code without an event loop: the tasks run on in a thread while the caller looks at a result."""
        found: queue.Queue[TaskResult | BaseException | None] = queue.Queue(maxsize=self._concurrency)
        running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None] | None]] = []

        async def run() -> None:
            running.append((asyncio.get_running_loop(), asyncio.current_task()))
            try:
                async with contextlib.aclosing(aiter(self)) as results:  # type: ignore[type-var] # an async generator
                    async for result in results:
                        while True:
                            try:
                                found.put_nowait(result)
                                break
                            except queue.Full:
                                await asyncio.sleep(0.02)
                found.put(None)
            except asyncio.CancelledError:  # nobody wants them any more
                pass
            except BaseException as error:
                found.put(error)

        thread = threading.Thread(target=lambda: asyncio.run(run()), name="lisrt-batch")
        thread.start()
        try:
            while (result := found.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            for loop, task in running:
                if task is not None:
                    with contextlib.suppress(RuntimeError):  # it has ended
                        loop.call_soon_threadsafe(task.cancel)
            while thread.is_alive():
                with contextlib.suppress(queue.Empty):
                    found.get(timeout=0.05)
            thread.join()

    def _coming(self) -> Iterator[Task | BadTask]:
        """What is still to be done. One without an id is named by its number."""
        seen: set[str] = set()
        for number, task in enumerate(self._tasks, 1):
            one = Task(task) if isinstance(task, str) else task
            if not one.id:
                one = replace(one, id=f"task-{number}")
            if one.id in seen:
                one = BadTask(f"task-{number}-{one.id}", f"the id {one.id!r} is that of an earlier task")
            seen.add(one.id)
            if self._folder is not None and one.id in self._folder.ended:
                self.before[self._folder.ended[one.id]] += 1
            else:
                yield one

    async def _work(self, coming: Iterator[Task | BadTask], done: asyncio.Queue[TaskResult | BaseException | None]) -> None:
        try:
            while not self._stop.is_set() and self.gave_up is None and (task := next(coming, None)) is not None:
                if isinstance(task, BadTask):
                    result = TaskResult(task, _no_episode(ExitReason.BAD_TASK, task.error))
                else:
                    result = await self._solve(task)
                    self._look_at(result.episode)
                if self._folder is not None and result.episode.exit_reason is not ExitReason.STOPPED:
                    await asyncio.to_thread(self._folder.add, result.line(self._folder.path))  # which waits for the disk
                await done.put(result)
            await done.put(None)
        except Exception as error:  # the tasks or the results can't be read or written: whoever iterates is told
            await done.put(error)

    def _look_at(self, episode: Episode) -> None:
        """A server that is gone for good would otherwise use up all tasks, each after its retries."""
        if episode.exit_reason is not ExitReason.MODEL_ERROR:
            if episode.turns:  # else it says nothing of the server
                self._errors, self._served = 0, True
        elif not self._served or episode.http_status not in _OF_ONE_REQUEST:
            self._errors += 1
        if self._errors >= self._most_errors:
            self.gave_up = f"{self._errors} tasks in a row ended with model_error, the last so: {episode.error}"

    async def _solve(self, task: Task) -> TaskResult:
        place = None if self._folder is None else self._folder.place(task.id)
        try:
            return await self._attempts(task, place)
        except Exception as error:  # one task must not end the others: what it was is the task's result
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}, line {where.lineno})"
            return TaskResult(task, _no_episode(ExitReason.INTERNAL_ERROR, words))

    async def _attempts(self, task: Task, place: Place | None) -> TaskResult:
        attempt, records = (0, []) if place is None else await asyncio.to_thread(begun, place)
        faults: list[str] = []
        if place is not None and records and has_ended(records):
            episode = _told(records[-1], place.trajectory(attempt))
        elif place is not None and records:
            episode = await self._go_on(task, place, attempt)
        else:
            attempt, episode = 1, await self._begin(task, place, 1)
        while episode.exit_reason in _RETRIED and len(faults) < self._retries and not self._stop.is_set():
            faults.append(episode.exit_reason)
            if place is not None and self._checkpoint and len(faults) == 1 and place.checkpoint.is_dir():
                episode = await self._go_on(task, place, attempt)  # what was done is there, and the fault may have passed
                continue
            attempt += 1
            episode = await self._begin(task, place, attempt)
        if place is not None and episode.exit_reason not in UNFINISHED:
            await asyncio.to_thread(clear, place.checkpoint)
        return TaskResult(task, episode, len(faults) + 1, tuple(faults))

    async def _begin(self, task: Task, place: Place | None, attempt: int) -> Episode:
        if place is None:
            return await self._agent.run(task, stop=self._stop, watch=self._watching(task))
        await asyncio.to_thread(clear, place.files)
        await asyncio.to_thread(clear, place.checkpoint)
        return await self._agent_at(place).run(
            task,
            output_dir=place.files,
            trajectory=place.trajectory(attempt),
            stop=self._stop,
            watch=self._watching(task),
        )

    async def _go_on(self, task: Task, place: Place, attempt: int) -> Episode:
        await asyncio.to_thread(clear, place.files)
        return await self._agent_at(place).resume(
            place.trajectory(attempt),
            task=task,
            output_dir=place.files,
            stop=self._stop,
            watch=self._watching(task),
        )

    def _agent_at(self, place: Place) -> Agent:
        return replace(self._agent, checkpoint=place.checkpoint) if self._checkpoint else self._agent

    def _watching(self, task: Task) -> Callable[[dict[str, Any]], None] | None:
        watch = self._watch
        return None if watch is None else lambda record: watch(task.id, record)


def descriptors_for(concurrency: int) -> int:
    """Open files that this process needs for so many episodes at once."""
    return concurrency * DESCRIPTORS + _OTHERS


def _check_descriptors(needed: int) -> None:
    """HostError before anything is begun: later it would be faults here and there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise HostError(
            f"so many episodes at once need {needed} open files, and this process may have {soft}",
            check="descriptors",
            fix="Use a smaller concurrency"
            if hard != resource.RLIM_INFINITY and hard < needed
            else f"Raise the soft limit: resource.setrlimit(resource.RLIMIT_NOFILE, ({needed}, {hard}))",
        )


def _no_episode(reason: ExitReason, error: str) -> Episode:
    return Episode(None, reason, 0, TokenUsage(), None, None, error)


def _told(end: dict[str, Any], trajectory: Path) -> Episode:
    """An episode by its last record: its process ended before it could say so elsewhere."""
    return Episode(
        answer=end["answer"],
        exit_reason=ExitReason(end["exit_reason"]),
        turns=end["turns"],
        usage=TokenUsage(**end["usage"]),
        output=None if end["output"] is None else trajectory.parent / "files",
        trajectory=trajectory,
        error=end["error"],
        answer_from=end["answer_from"],
        cost=end["cost"],
        duration=end["duration"],
        tool_time=end["tool_time"],
        not_enforced=tuple(end.get("not_enforced", ())),
        http_status=end.get("http_status"),
    )
