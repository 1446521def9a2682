"""Sandboxes come and go for as long as asked for; what grows meanwhile is a leak."""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from random import Random

from lisrt import spawner
from lisrt.bench.backend import Instance
from lisrt.bench.measure import Recorder, Timing
from lisrt.bench.workloads.base import FAULTS, Run, Subject, threads
from lisrt.bench.workloads.series import look, trends

NAME = "soak"
LIVE = 64
"""Sandboxes alive at a time, at most."""
LOOKS = 360
"""Samples of the gauges, over the whole run; not more often than twice a second."""
KEPT = 10_000
"""Durations kept of each metric, set aside before it begins: else this process would grow by its own notes."""
DATA = bytes(range(256)) * 64


class Soak:
    """Churn. The verdict on each gauge is a note, the raw series is in the report for machines."""

    only_lisrt = False

    def run(self, run: Run) -> None:
        for subject in run.subjects:
            _Churn(run, subject).go()


class Kept:
    """A fair sample of durations, however many there were, in memory that does not grow (Vitter's algorithm R)."""

    def __init__(self, random: Random) -> None:
        self.count = 0
        self._random = random
        self._kept = array("d", bytes(8 * KEPT))

    def add(self, seconds: float) -> None:
        """One more."""
        at = self.count if self.count < KEPT else self._random.randrange(self.count + 1)
        if at < KEPT:
            self._kept[at] = seconds
        self.count += 1

    def samples(self) -> list[float]:
        """Those kept."""
        return list(self._kept[: min(self.count, KEPT)])


class Sieve:
    """What a recorder is to others, but of durations it keeps a fair sample, and of each kind of failure one message."""

    def __init__(self, target: Recorder, random: Random) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._words: dict[tuple[str, type[BaseException]], str] = {}
        self.kept = {name: Kept(random) for name in ("create", "exec", "write", "read", "destroy")}

    @contextmanager
    def timed(self, metric: str) -> Iterator[Timing]:
        """As Recorder.timed."""
        timing, started = Timing(), time.perf_counter()
        try:
            yield timing
        except FAULTS as error:
            words = f"{metric}: {type(error).__name__}: {error}"
            self._target.failed(NAME, metric, self._words.setdefault((metric, type(error)), words))
            return
        timing.ok = True
        with self._lock:
            self.kept[metric].add(time.perf_counter() - started)


class _Churn:
    """One backend's soak: threads that each make a sandbox, use it, and destroy the oldest there is."""

    def __init__(self, run: Run, subject: Subject) -> None:
        self.run, self.subject = run, subject
        self.living = deque[Instance]()
        self.samples: list[tuple[float, dict[str, float]]] = []
        self._sieve = Sieve(subject.recorder, run.random(NAME))
        self._timed = self._sieve.timed
        self._lock, self._over = threading.Lock(), threading.Event()

    def go(self) -> None:
        """The churn, with a look at the gauges again and again."""
        run, seconds = self.run, 60 * self.run.config.minutes
        live, jobs = min(LIVE, run.most(self.subject)), run.config.jobs
        pids = [home.pid for home in spawner.running_all()] if self.subject.launcher else []
        pause, label = max(0.5, seconds / LOOKS), run.label(self.subject, NAME)
        started = time.perf_counter()
        with threads(jobs) as pool:
            workers = [pool.submit(self._churn, live) for _ in range(jobs)]
            try:
                while (passed := time.perf_counter() - started) < seconds and not any(worker.done() for worker in workers):
                    self.samples.append((passed, look(pids)))
                    run.progress(label, int(passed), max(1, int(seconds)))
                    self._over.wait(min(pause, max(0.0, seconds - passed)))
            finally:
                self._over.set()
            for worker in workers:
                worker.result()
        took = time.perf_counter() - started
        run.progress(label, max(1, int(seconds)), max(1, int(seconds)))
        self._rest()
        self._report(took)

    def _churn(self, live: int) -> None:
        while not self._over.is_set():
            self.run.count(asked=1)
            instance = self._made()
            if instance is None:
                self._over.wait(0.1)  # a host that can make none is not to be asked as fast as it can say no
                continue
            self._use(instance)
            with self._lock:
                self.living.append(instance)
                oldest = self.living.popleft() if len(self.living) > live else None
            if oldest is not None:
                self._destroy(oldest)

    def _made(self) -> Instance | None:
        made = None
        with self._timed("create"):
            made = self.subject.backend.create()
        return made

    def _use(self, instance: Instance) -> None:
        failed = self.subject.recorder.failed
        with self._timed("exec") as timing:
            status = instance.run(["/bin/true"]).exit_code
        if timing.ok and status != 0:
            failed(NAME, "exec", f"exec: /bin/true exited with {status}")
        with self._timed("write"):
            instance.write("/testbed/data", DATA)
        with self._timed("read") as timing:
            data = instance.read("/testbed/data")
        if timing.ok and data != DATA:
            failed(NAME, "read", "read: not what was written")

    def _destroy(self, instance: Instance) -> None:
        with self._timed("destroy") as timing:
            instance.destroy()
        self.run.count(served=int(timing.ok))

    def _rest(self) -> None:
        while self.living:
            self._destroy(self.living.popleft())

    def _report(self, took: float) -> None:
        run, recorder = self.run, self.subject.recorder
        for metric, kept in self._sieve.kept.items():
            for seconds in kept.samples():
                recorder.sample(NAME, metric, seconds)
        count = self._sieve.kept["create"].count
        recorder.value(NAME, "created in all", "sandboxes", count, count)
        recorder.value(NAME, "created", "per s", count, count / took)
        found = trends(self.samples, run.random("trends"))
        for trend in found:
            recorder.value(NAME, f"{trend.gauge.name}, per hour", trend.gauge.unit, len(self.samples), trend.per_hour)
            run.notes.append(f"{self.subject.name}: {trend}")
        run.series.setdefault(NAME, {})[self.subject.name] = {
            "samples": [{"seconds": at, **values} for at, values in self.samples],
            "trends": {trend.gauge.name: {**asdict(trend), "grows": trend.grows} for trend in found},
        }
