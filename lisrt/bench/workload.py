"""What the bench does: a few sandboxes one at a time, then all of them alive at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from lisrt.bench import sharing
from lisrt.bench.machine import Memory, memory
from lisrt.bench.measure import Recorder
from lisrt.errors import HostError
from lisrt.image import HOST
from lisrt.limits import Limits
from lisrt.sandbox import Sandbox
from lisrt.waiting import drive

SERIAL, TOGETHER = "one at a time", "all alive"
PAYLOAD = os.urandom(4096)
LIMITS = Limits(
    "200MiB", cpus=1, pids=512, disk="1GiB", files=100_000, open_files=256, output="1GiB", wall_time=60, enforce="watchdog"
)
"""All there are, held by lisrt itself: what they cost beside a sandbox that has none."""
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Config:
    """What to do."""

    concurrency: int
    """Sandboxes alive at once."""
    commands: int = 4
    """Commands that each of them runs."""
    image: str | None = None
    jobs: int = field(default_factory=lambda: 2 * len(os.sched_getaffinity(0)))
    """Threads that drive them, so operations in flight at once."""
    serial: int = 50
    """Sandboxes made and used one after the other, before."""

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


class Bench:
    """One run. `progress(phase, done)` is called after each operation, from several threads."""

    def __init__(self, config: Config, recorder: Recorder, progress: Progress = lambda phase, done: None) -> None:
        self._config = config
        self._recorder = recorder
        self._progress = progress
        self._count = threading.Lock()
        self.guarantees: dict[str, str] = {}
        """What was enforced in the sandboxes, and how."""
        self._shared: sharing.Shared | None = None
        self._forks = False
        self.served = 0
        """Sandboxes that did all that was asked of them and were destroyed."""

    def phases(self) -> dict[str, int]:
        """The phases by name, and how many operations each has."""
        n = self._config.concurrency
        return {"one at a time": self._config.serial, "create": n, "commands and files": n, "destroy": n}

    def run(self) -> None:
        """Everything. A sandbox that fails is counted and left out of the rest; nothing is tried again."""
        started = time.perf_counter()
        with Sandbox(self._config.image) as box:  # starts the spawner: once per program, so a row of its own
            self._recorder.sample(SERIAL, "first", time.perf_counter() - started)
            box.run(["/bin/true"]).check()
            self.guarantees = {name: words.partition(" in /")[0] for name, words in box.guarantees.items()}
            with contextlib.suppress(HostError):  # some bubblewraps can't have any
                box.snapshot()
                self._forks = True
            if box.image != HOST:
                found = sharing.look(box._box.root.layers)
                # else a layer above hides it
                self._shared = found if found and box.run(["cat", found.file], max_output=0).ok else None
        self._one_at_a_time()
        executor = ThreadPoolExecutor(self._config.jobs)
        try:
            self._all_alive(executor)
        finally:
            executor.shutdown(cancel_futures=True)

    def _one_at_a_time(self) -> None:
        timed = self._recorder.timed
        for number in range(self._config.serial):
            with timed(SERIAL, "host exec"):  # the same command without a sandbox, for comparison
                subprocess.run(["/bin/true"], stdin=subprocess.DEVNULL, capture_output=True)
            box = None
            with timed(SERIAL, "create"):
                box = Sandbox(self._config.image)
            if box is not None:
                self._use(box, SERIAL, number)
                if self._forks:
                    self._branch(box)
                with timed(SERIAL, "destroy"):
                    box.close()
            self._limited()
            self._progress("one at a time", number + 1)

    def _branch(self, box: Sandbox) -> None:
        """A snapshot and a fork of one that has written a file."""
        with self._recorder.timed(SERIAL, "snapshot"):
            box.snapshot()
        twin = None
        with self._recorder.timed(SERIAL, "fork"):
            twin = box.fork()
        if twin is not None:
            twin.close()
        box.run(["/bin/true"])  # waits until it has started again, which the time of its end must not have in it

    def _limited(self) -> None:
        """The same with every limit, in turn with those that have none."""
        timed = self._recorder.timed
        box = None
        with timed(SERIAL, "create, limited"):
            box = Sandbox(self._config.image, limits=LIMITS)
        if box is not None:
            for _ in range(self._config.commands):
                with timed(SERIAL, "exec, limited"):
                    box.run(["/bin/true"]).check()
            box.close()

    def _all_alive(self, executor: ThreadPoolExecutor) -> None:
        n = self._config.concurrency
        boxes: list[Sandbox | None] = [None] * n
        before = memory()

        def create(number: int) -> None:
            with self._recorder.timed(TOGETHER, "create"):
                boxes[number] = Sandbox(self._config.image)

        def use(number: int) -> None:
            box = boxes[number]
            if box is not None and not self._use(box, TOGETHER, number):
                boxes[number] = None
                box.close()

        def destroy(number: int) -> None:
            box = boxes[number]
            if box is not None:
                with self._recorder.timed(TOGETHER, "destroy") as timing:
                    box.close()
                with self._count:
                    self.served += timing.ok

        self._phase(executor, "create", create, ["create"])
        self._weigh([box for box in boxes if box is not None], before)
        self._phase(executor, "commands and files", use, ["exec", "write", "read"])
        self._read_image(executor, [box for box in boxes if box is not None])
        self._phase(executor, "destroy", destroy, ["destroy"])

    def _phase(
        self, executor: ThreadPoolExecutor, name: str, operation: Callable[[int], None], metrics: list[str]
    ) -> None:
        done = 0
        started = time.perf_counter()

        def one(number: int) -> None:
            nonlocal done
            operation(number)
            with self._count:
                done += 1
                self._progress(name, done)

        futures: list[Future[None]] = [executor.submit(one, number) for number in range(self._config.concurrency)]
        for future in futures:
            future.result()
        wall = time.perf_counter() - started
        for metric in metrics:
            self._recorder.took(TOGETHER, metric, wall)

    def _use(self, box: Sandbox, workload: str, number: int) -> bool:
        """Commands and a file in one sandbox, and a look whether they did what they should."""
        timed, failed = self._recorder.timed, self._recorder.failed
        path = f"/testbed/bench/{number}.bin"
        for _ in range(self._config.commands):
            with timed(workload, "exec") as timing:
                status = box.run(["/bin/true"]).exit_code
            if timing.ok and status != 0:
                failed(workload, "exec", f"exec: /bin/true exited with {status}")
            if not timing.ok or status != 0:
                return False
        with timed(workload, "write") as timing:
            box.write(path, PAYLOAD)
        if not timing.ok:
            return False
        with timed(workload, "read") as timing:
            data = box.read(path)
        if not timing.ok:
            return False
        if data != PAYLOAD:
            failed(workload, "read", "read: not what was written")
        return data == PAYLOAD

    def _read_image(self, executor: ThreadPoolExecutor, boxes: list[Sandbox]) -> None:
        """Each sandbox reads the same file of the image: of the one copy on disk, which nobody else reads, all of it is then in
        the page cache, and was not before. A sandbox with a copy of its own would read that."""
        shared = self._shared
        if shared is None or not boxes:
            return
        sharing.forget(shared)
        before = sharing.cached(shared)
        done = list(executor.map(lambda box: box.run(["cat", shared.file], max_output=0).exit_code, boxes))
        n, mib = len(boxes), 1 << 20
        self._recorder.value(TOGETHER, "the image on disk, one copy for all", "MiB", n, shared.disk / mib)
        if any(done):
            self._recorder.failed(TOGETHER, "read", f"cat {shared.file} exited with {max(done, key=abs)}")
            return
        self._recorder.value(TOGETHER, "a file of the image, read in each", "MiB", n, shared.size / mib)
        self._recorder.value(TOGETHER, "page cache that this took", "MiB", n, (sharing.cached(shared) - before) / mib)

    def _weigh(self, boxes: list[Sandbox], before: Memory) -> None:
        """Idle memory: what the whole machine has less, and what PID 1 of each takes."""
        if not boxes:
            return
        after, n = memory(), len(boxes)
        in_use, available = after.in_use - before.in_use, before.available - after.available
        self._recorder.value(TOGETHER, "memory per idle sandbox, kernel included", "KiB", n, in_use / n / 1024)
        self._recorder.value(TOGETHER, "drop of MemAvailable per idle sandbox", "KiB", n, available / n / 1024)
        shares = sorted(drive(box._box.memory()) / 1024 for box in boxes)
        self._recorder.value(TOGETHER, "PID 1 of each (PSS)", "KiB", len(shares), sum(shares) / len(shares))
