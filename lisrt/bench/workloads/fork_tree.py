"""Forks of forks, until there are as many as asked for, all alive."""

from __future__ import annotations

import time

from lisrt.bench.machine import memory
from lisrt.bench.workloads.alive import weigh
from lisrt.bench.workloads.base import Run, Subject
from lisrt.sandbox import Sandbox

NAME = "fork-tree"


class ForkTree:
    """A binary tree: each node is forked from its parent once that one has written its own line."""

    only_lisrt = True

    def run(self, run: Run) -> None:
        for subject in run.subjects:
            if subject.forks:
                _tree(run, subject)
            else:
                run.notes.append(f"{subject.name}: no forks here, so no tree of them")


def ancestors(number: int) -> list[int]:
    """The nodes on the way from the root to one, both included; the root is 0."""
    way = [number]
    while way[-1]:
        way.append((way[-1] - 1) // 2)
    return way[::-1]


def _tree(run: Run, subject: Subject) -> None:
    n, timed = run.config.concurrency, subject.recorder.timed
    nodes: list[Sandbox | None] = [None] * n
    before = memory()
    run.count(asked=n)
    with timed(NAME, "create"):
        nodes[0] = subject.sandbox()
    if nodes[0] is not None:
        _write(subject, nodes[0], 0)

    def fork(number: int) -> None:
        parent = nodes[(number - 1) // 2]
        if parent is not None:
            with timed(NAME, "fork"):
                nodes[number] = parent.fork()
            twin = nodes[number]
            if twin is not None:
                _write(subject, twin, number)

    def pair(at: int) -> None:  # two at once would only wait for the same sandbox
        for number in (2 * (first + at) + 1, 2 * (first + at) + 2):
            if number < n:
                fork(number)

    started, first = time.perf_counter(), 0
    while 2 * first + 1 < n:  # a level at a time: those below need the files of those above
        depth, parents = first.bit_length(), first + 1
        run.together(run.label(subject, f"fork, level {depth + 1}"), pair, parents)
        first = 2 * first + 1
    subject.recorder.took(NAME, "fork", time.perf_counter() - started)
    living = [node for node in nodes if node is not None]
    if living:
        weigh(subject.recorder, NAME, before, len(living))
    _finish(run, subject, nodes)


def _write(subject: Subject, box: Sandbox, number: int) -> None:
    with subject.recorder.timed(NAME, "exec, write"):
        box.run(["sh", "-c", f"echo {number} >> way"]).check()


def _finish(run: Run, subject: Subject, nodes: list[Sandbox | None]) -> None:
    """Each tells the way that led to it, and is destroyed."""
    timed, failed = subject.recorder.timed, subject.recorder.failed

    def finish(number: int) -> None:
        box = nodes[number]
        if box is None:
            return
        with timed(NAME, "exec") as timing:
            way = box.run(["cat", "way"]).stdout.split()
        is_right = timing.ok and way == [str(node) for node in ancestors(number)]
        if timing.ok and not is_right:
            failed(NAME, "exec", "exec: a fork has not what was written before it was made")
        with timed(NAME, "destroy") as timing:
            box.close()
        run.count(served=int(is_right and timing.ok))

    run.together(run.label(subject, "read and destroy"), finish, len(nodes))
