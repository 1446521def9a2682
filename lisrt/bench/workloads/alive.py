"""Many sandboxes alive at once: created, weighed, used, destroyed."""

from __future__ import annotations

import os
from collections.abc import Callable

from lisrt.bench import sharing
from lisrt.bench.backend import BackendError, Instance
from lisrt.bench.machine import Memory, memory, settled
from lisrt.bench.measure import Recorder
from lisrt.bench.workloads.base import FAULTS, Run, Subject, by_its_clock
from lisrt.sandbox import Sandbox
from lisrt.waiting import drive

TOGETHER = "all alive"
PAYLOAD = os.urandom(8192).replace(b"\r", b"")[:4096]
"""Without carriage returns: one of the rivals reads files as text only, and is measured all the same."""


class AllAlive:
    """`n` sandboxes of one backend at once, driven by `jobs` threads."""

    def __init__(self, run: Run, subject: Subject, workload: str, n: int, jobs: int) -> None:
        self._run, self._subject, self._workload = run, subject, workload
        self._n, self._jobs = n, jobs
        self._instances: list[Instance | None] = [None] * n

    def go(self) -> None:
        """All phases."""
        if self._workload == TOGETHER:
            self._subject.recorder.concurrency(TOGETHER, self._n)
        self._run.count(asked=self._n)
        before = settled() if self._workload == TOGETHER else memory()
        self._phase("create", self._create, ["create"])
        if self._workload == TOGETHER:  # of a few it would be noise
            self._weigh(before)
        self._phase("commands", self._commands, ["exec"])
        self._phase("write", self._write, ["write"])
        self._phase("read", self._read, ["read"])
        self._read_image()
        self._phase("destroy", self._destroy, ["destroy"])

    def _create(self, number: int) -> None:
        with self._subject.recorder.timed(self._workload, "create") as timing:
            instance = self._instances[number] = self._subject.backend.create()
            by_its_clock(timing, instance)

    def _commands(self, number: int) -> None:
        instance, count = self._instances[number], self._run.config.commands
        if instance is not None and not commands(self._subject.recorder, instance, self._workload, count):
            self._give_up(number, instance)

    def _write(self, number: int) -> None:
        instance = self._instances[number]
        if instance is not None and not write(self._subject.recorder, instance, self._workload, number):
            self._give_up(number, instance)

    def _read(self, number: int) -> None:
        instance = self._instances[number]
        if instance is not None and not read(self._subject.recorder, instance, self._workload, number):
            self._give_up(number, instance)

    def _give_up(self, number: int, instance: Instance) -> None:
        """It has failed at something. What its end takes belongs to no phase."""
        self._instances[number] = None
        try:
            instance.destroy()
        except FAULTS as error:
            self._subject.recorder.failed(self._workload, "destroy", f"destroy: {type(error).__name__}: {error}")

    def _destroy(self, number: int) -> None:
        instance = self._instances[number]
        if instance is not None:
            with self._subject.recorder.timed(self._workload, "destroy") as timing:
                instance.destroy()
                by_its_clock(timing, instance)
            self._run.count(served=int(timing.ok))

    def _phase(self, name: str, operation: Callable[[int], None], metrics: list[str]) -> None:
        label = name if self._workload == TOGETHER else f"{name}, {self._jobs} at once"
        wall = self._run.together(self._run.label(self._subject, label), operation, self._n, self._jobs)
        for metric in metrics:
            self._subject.recorder.took(self._workload, metric, wall)

    def _weigh(self, before: Memory) -> None:
        """Idle memory: what the whole machine has less, and what PID 1 of each takes."""
        living = [instance for instance in self._instances if instance is not None]
        if not living:
            return
        weigh(self._subject.recorder, self._workload, before, len(living))
        boxes = [box for box in (sandbox_of(instance) for instance in living) if box is not None]
        if boxes:
            shares = [drive(box._box.memory()) / 1024 for box in boxes]
            self._subject.recorder.value(self._workload, "PID 1 of each (PSS)", "KiB", len(shares), sum(shares) / len(shares))

    def _read_image(self) -> None:
        """Each sandbox reads the same file of the image: of the one copy on disk, which nobody else reads, all of it is then in
        the page cache, and was not before. A sandbox with a copy of its own would read that."""
        living = [instance for instance in self._instances if instance is not None]
        shared = sharing.look(self._subject.layers)
        if shared is None or not living:
            return
        try:
            if living[0].run(["test", "-r", shared.file]).exit_code:
                return  # a layer above hides it
        except FAULTS:
            return
        done = [1] * len(living)

        def read(number: int) -> None:
            with self._subject.recorder.timed(self._workload, "read the image"):
                done[number] = living[number].run(["sh", "-c", f"cat '{shared.file}' > /dev/null"]).exit_code

        sharing.forget(shared)
        before = sharing.cached(shared)
        self._run.together(self._run.label(self._subject, "read the image"), read, len(living), self._jobs)
        value, failed, n, mib = self._subject.recorder.value, self._subject.recorder.failed, len(living), 1 << 20
        value(self._workload, "the image on disk, one copy for all", "MiB", n, shared.disk / mib)
        if any(done):
            failed(self._workload, "read the image", f"cat {shared.file} exited with {max(done, key=abs)}")
            return
        value(self._workload, "a file of the image, read in each", "MiB", n, shared.size / mib)
        value(self._workload, "page cache that this took", "MiB", n, (sharing.cached(shared) - before) / mib)


def commands(recorder: Recorder, instance: Instance, workload: str, count: int) -> bool:
    """So many in a row; whether all did what they should."""
    for _ in range(count):
        with recorder.timed(workload, "exec") as timing:
            status = instance.run(["/bin/true"]).exit_code
            by_its_clock(timing, instance)
            if status != 0:
                raise BackendError(f"/bin/true exited with {status}")
        if not timing.ok:
            return False
    return True


def write(recorder: Recorder, instance: Instance, workload: str, number: int = 0) -> bool:
    """A file; whether that went well."""
    with recorder.timed(workload, "write") as timing:
        instance.write(_path(number), PAYLOAD)
        by_its_clock(timing, instance)
    return timing.ok


def read(recorder: Recorder, instance: Instance, workload: str, number: int = 0) -> bool:
    """The same file; whether it is as it was written."""
    with recorder.timed(workload, "read") as timing:
        data = instance.read(_path(number))
        by_its_clock(timing, instance)
        if data != PAYLOAD:
            raise BackendError("not what was written")
    return timing.ok


def _path(number: int) -> str:
    return f"/testbed/bench/{number}.bin"


def weigh(recorder: Recorder, workload: str, before: Memory, n: int) -> None:
    """Two accounts of what `n` idle sandboxes take."""
    after = settled()
    in_use, available = after.in_use - before.in_use, before.available - after.available
    recorder.value(workload, "memory per idle sandbox, by MemAvailable", "KiB", n, available / n / 1024)
    recorder.value(workload, "memory per idle sandbox, kernel included", "KiB", n, in_use / n / 1024)


def sandbox_of(instance: Instance) -> Sandbox | None:
    """The Sandbox that an instance of lisrt's own is a face of."""
    found = getattr(instance, "sandbox", None)
    return found if isinstance(found, Sandbox) else None
