"""Packages by pip and apt through the cache: the first sandbox fetches them, the others have them from this host."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lisrt.bench.backend import Unavailable
from lisrt.bench.workloads.base import Run, Subject
from lisrt.egress import registries
from lisrt.egress.proxy import Proxy
from lisrt.image import HOST
from lisrt.sandbox import Sandbox

MOST = 32
"""Sandboxes that install at the same moment, at most."""
PATIENCE = 120.0
"""Seconds for one installation."""


@dataclass(frozen=True, slots=True)
class Installer:
    """A way to get packages. `proof` fails unless they are there."""

    name: str
    argv: tuple[str, ...]
    proof: tuple[str, ...]


PIP = Installer(
    "pip",
    ("python3", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--target", "/tmp/found")
    + ("click", "sortedcontainers", "sympy"),
    ("python3", "-c", "import sys; sys.path.insert(0, '/tmp/found'); import click, sortedcontainers, sympy"),
)
APT = Installer(
    "apt",
    ("sh", "-c", "apt-get update -qq && apt-get install -qq -y --no-install-recommends jq tree"),
    ("sh", "-c", "jq --version && tree --version"),
)


class Install:
    """Fetched once, then had from the cache by many at once. In a cache of its own, which is deleted at the end."""

    only_lisrt = True

    def run(self, run: Run) -> None:
        for subject in run.subjects:
            with _fresh_cache():
                for installer in (PIP, APT):
                    _measure(run, subject, installer)


def hosts() -> list[str]:
    """Rules for where this host's pip and apt get packages, with the addresses of mirrors that its settings name."""
    found = registries.look()
    named = {host for host, _ in found.secured} | {host for host, _, _ in found.indexes}
    rules = {*named, "files.pythonhosted.org", "*.debian.org", "*.ubuntu.com"}
    for host in named:
        try:
            rules |= {str(one[4][0]) for one in socket.getaddrinfo(host, 443, socket.AF_INET)}
        except OSError:
            continue  # no such name here: pip will say so
    return sorted(rules)


@contextmanager
def _fresh_cache() -> Iterator[None]:
    """An empty one: else the first would not be a first."""
    before = os.environ.get("LISRT_CACHE")
    place = tempfile.mkdtemp(prefix="lisrt-bench-")
    os.environ["LISRT_CACHE"] = place
    try:
        yield
    finally:
        if before is None:
            del os.environ["LISRT_CACHE"]
        else:
            os.environ["LISRT_CACHE"] = before
        shutil.rmtree(place, ignore_errors=True)


def _measure(run: Run, subject: Subject, installer: Installer) -> None:
    workload, network = f"install, {installer.name}", Proxy(allow=hosts(), cache=True)
    with subject.sandbox(network=network) as first:
        why = _lacks(subject, first, installer)
        if why:
            run.notes.append(f"install: {why}")
            return
        run.count(asked=1)
        started = time.perf_counter()
        result = first.run(installer.argv, timeout=PATIENCE)
        if not result.ok:
            denied = [one for one in first.egress if not one.allowed]
            asked = f" (asked for {denied[0].host}: {denied[0].why})" if denied else ""
            said = result.stderr.strip()[-300:] or result.outcome.value
            raise Unavailable(f"{installer.name} could not install here, with no network perhaps{asked}: {said}")
        subject.recorder.sample(workload, "first, by the network", time.perf_counter() - started)
        first.run(installer.proof).check()
        run.count(served=1)
    _again(run, subject, installer, workload, network)


def _lacks(subject: Subject, box: Sandbox, installer: Installer) -> str:
    if installer is APT and subject.image in (None, HOST) and box.image == HOST:
        return "apt needs an image of its own (--image): host's packages are this machine's"
    if installer is PIP and not box.run(["python3", "-m", "pip", "--version"]).ok:
        return "no pip in the image"
    if installer is APT and not box.run(["sh", "-c", "command -v apt-get"]).ok:
        return "no apt in the image"
    return ""


def _again(run: Run, subject: Subject, installer: Installer, workload: str, network: Proxy) -> None:
    n, metric = min(MOST, run.config.concurrency), "again, from the cache"
    kept = fetched = 0

    def one(_number: int) -> None:
        nonlocal kept, fetched
        timed = subject.recorder.timed
        with timed(workload, "whole sandbox") as timing, subject.sandbox(network=network) as box:
            with timed(workload, metric) as installed:
                box.run(installer.argv, timeout=PATIENCE).check()
            if installed.ok:
                box.run(installer.proof).check()
            with run.lock:
                kept += sum(one.received for one in box.egress if one.cached)
                fetched += sum(one.received for one in box.egress if not one.cached)
        run.count(served=int(timing.ok and installed.ok))

    run.count(asked=n)
    wall = run.together(run.label(subject, workload), one, n)
    subject.recorder.took(workload, metric, wall)
    value, mib = subject.recorder.value, 1 << 20
    value(workload, "from the cache", "MiB", n, kept / mib)
    value(workload, "from the network", "MiB", n, fetched / mib)
    words = f"{n} sandboxes had {kept / mib:.1f} MiB from the cache, {fetched / mib:.1f} not"
    run.notes.append(f"{subject.name}: {installer.name}: {words}")
