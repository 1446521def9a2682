"""Requests that arrive: all at the same moment, or one after another. What counts is the time to the first answer (TTI)."""

from __future__ import annotations

import asyncio
import threading
import time

from lisrt.bench.workloads.base import Run, Subject, abandon, threads

FIRST = "first answer"
MOST_STAGGERED = 100


class Burst:
    """As many requests as there are to be sandboxes, at one moment."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        for subject in run.subjects:
            n = run.most(subject)
            arrive(run, subject, "burst", [0.0] * n)
            if subject.launcher:
                try:
                    asyncio.run(_awaited(run, subject, n))
                except BaseException:
                    abandon()
                    raise


class Staggered:
    """One request every fifth of a second, or what `interval` says."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        for subject in run.subjects:
            n = min(run.most(subject), MOST_STAGGERED)
            arrive(run, subject, "staggered", [number * run.config.interval for number in range(n)])


def arrive(run: Run, subject: Subject, workload: str, moments: list[float]) -> None:
    """A thread for each request, which is there before its moment (seconds from the start of it all) has come."""
    n = len(moments)
    step = run.steps(run.label(subject, workload), n)
    begin, cancelled = threading.Event(), threading.Event()
    starts: list[float] = []

    def request(moment: float) -> None:
        begin.wait()
        if cancelled.is_set() or (moment and cancelled.wait(max(0.0, starts[0] + moment - time.perf_counter()))):
            return
        _request(run, subject, workload, starts[0] + moment)
        step()

    run.count(asked=n)
    with threads(n) as pool:
        try:
            waiting = [pool.submit(request, moment) for moment in moments]
            starts.append(time.perf_counter())
            begin.set()
            for future in waiting:
                future.result()
        except BaseException:
            cancelled.set()
            begin.set()
            raise
        subject.recorder.took(workload, FIRST, time.perf_counter() - starts[0])
    _share(run, subject, workload, FIRST, n)


def _request(run: Run, subject: Subject, workload: str, arrived: float) -> None:
    recorder = subject.recorder
    with recorder.timed(workload, "create") as timing:
        instance = subject.backend.create()
    if not timing.ok:
        return
    with recorder.timed(workload, "exec") as timing:
        done = instance.run(["/bin/true"])
    if timing.ok and done.exit_code == 0:
        recorder.sample(workload, FIRST, time.perf_counter() - arrived)
    elif timing.ok:
        recorder.failed(workload, FIRST, f"{FIRST}: /bin/true exited with {done.exit_code}")
    answered = timing.ok and done.exit_code == 0
    with recorder.timed(workload, "destroy") as timing:
        instance.destroy()
    run.count(served=int(answered and timing.ok))


async def _awaited(run: Run, subject: Subject, n: int) -> None:
    """All at one moment, from one event loop."""
    metric = f"{FIRST}, async"
    step = run.steps(run.label(subject, "burst, async"), n)

    async def request() -> None:
        with subject.recorder.timed("burst", "request, async") as timing:
            async with subject.awaited() as box:
                (await box.run(["/bin/true"])).check()
                subject.recorder.sample("burst", metric, time.perf_counter() - started)
        run.count(served=int(timing.ok))
        step()

    run.count(asked=n)
    started = time.perf_counter()
    await asyncio.gather(*(request() for _ in range(n)))
    subject.recorder.took("burst", metric, time.perf_counter() - started)
    _share(run, subject, "burst", metric, n)


def _share(run: Run, subject: Subject, workload: str, metric: str, n: int) -> None:
    answered = sum(row.n for row in subject.recorder.rows() if (row.workload, row.metric) == (workload, metric))
    subject.recorder.value(workload, f"{workload}, {metric}: requests answered", "%", n, 100 * answered / n)
