"""Runs that were never run: samples of distributions with fixed seeds, so that every figure of a report can be worked out."""

import random

from lisrt.bench import Recorder
from lisrt.bench.documents import Document, document

MACHINE = {
    "kernel": "6.12.0",
    "arch": "x86_64",
    "cpu": "Some Processor",
    "cpus": 2,
    "memory_bytes": 16 << 30,
    "python": "3.11.2",
    "lisrt": "0.1.0",
    "load_before": 0.25,
    "vulnerable_to": ["spec_store_bypass"],
    "mitigated": [],
    "guarantees": {"network": "loopback only"},
}
#: Milliseconds at the median: create, exec, destroy; KiB; the best rate is what two processors make of them.
SPEEDS = {
    "native": (1.5, 0.9, 0.25, 230.0),
    "floor": (1.05, 0.55, 0.3, 190.0),
    "bwrap": (6.4, 0.8, 1.4, 460.0),
    "docker": (164.0, 37.0, 82.0, 5800.0),
    "podman": (310.0, 120.0, 95.0, 4300.0),
}
METRICS = ("create", "exec", "destroy")


def recorder(name: str, *, serial: int = 40, at: tuple[int, ...] = (16, 64, 256), failures: int = 0) -> Recorder:
    """One backend's run: log-normal times with a tail, serial and at several concurrencies, two operations in flight."""
    draw = random.Random(f"{name}/{serial}")
    made = Recorder(name)
    *medians, weight = SPEEDS[name]
    for metric, median in zip(METRICS, medians, strict=True):
        clock = 0.0
        for _ in range(serial):
            seconds = median * draw.lognormvariate(0, 0.18) * (3 if draw.random() < 0.02 else 1) / 1000
            clock += seconds
            made.sample("one at a time", metric, seconds, clock)
    for n in at:
        workload = f"all alive, {n}"
        made.concurrency(workload, n)
        for metric, median in zip(METRICS, medians, strict=True):
            clock = 0.0
            for _ in range(n):
                seconds = 2 * median * (1 + n / 2000) * draw.lognormvariate(0, 0.3) / 1000
                clock += seconds / 2
                made.sample(workload, metric, seconds, clock)
            made.took(workload, metric, clock)
        made.value(workload, "memory per idle sandbox, kernel included", "KiB", n, weight * (1 + 4 / n))
    for _ in range(failures):
        made.failed(f"all alive, {at[-1]}", "create", "create: BackendError: no more of them")
    return made


def real(*names: str) -> Document:
    """As `lisrt bench` names things: lisrt at one concurrency, others at several and at their best; a host, notes, a soak."""
    recorders = []
    for name in names:
        one = recorder(name, at=() if name in ("native", "floor") else (4, 8, 16))
        n = 256 if name in ("native", "floor") else 64
        made = recorder(name, serial=0, at=(n,))
        for samples in made.samples():
            for value, ended in zip(samples.values, samples.ended, strict=True):
                one.sample("all alive", samples.metric, value / 1000, None if name == "floor" else ended)
            one.took("all alive", samples.metric, samples.wall or 0)
        one.concurrency("all alive", n)
        one.value("all alive", "memory per idle sandbox, kernel included", "KiB", n, SPEEDS[name][3])
        recorders.append(one)
    host, draw = Recorder("host"), random.Random("host")
    for number in range(24):
        host.sample("one at a time", "exec", 0.0006 * draw.lognormvariate(0, 0.1), number)
    report = document([*recorders, host], MACHINE, {}, 7, {name: {"version": "1"} for name in names})
    gauges = [{"seconds": 10.0 * at, "slab": 300 + draw.random(), "this process": 60 + 0.01 * at} for at in range(360)]
    report["notes"] = ["native: slab is flat"]
    report["left_out"] = {"install": "no mirror answers"}
    trends = {"slab": {"gauge": {"name": "slab", "unit": "MiB"}}}
    report["series"] = {"soak": {"native": {"samples": gauges, "trends": trends}}, "density": {"native": {"steps": []}}}
    return report


def run(*names: str, seed: int = 7, failing: str = "") -> Document:
    """A whole report of such backends, and of one that is not to be had."""
    recorders = [recorder(name, failures=3 if name == failing else 0) for name in names]
    known = {name: {"version": "1.2.3", "memory limit": "200 MiB"} for name in names} | {"runsc": "no runsc in PATH"}
    command = f"lisrt bench --backend {','.join(names)} --seed {seed}"
    return document(recorders, MACHINE, {"concurrency": 256}, seed, known, order="at random, by the seed", command=command)
