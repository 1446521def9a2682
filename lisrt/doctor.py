"""What this host can do for lisrt, found out by doing it; and the one thing to do where it can't."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from lisrt import spawner
from lisrt.errors import HostError, LisrtError
from lisrt.kernel import helper
from lisrt.sandbox import Sandbox


class Status(StrEnum):
    """Verdict on one check."""

    PASS = "pass"
    NOTE = "note"
    """Works; something to know."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Not tried, because an earlier check failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was tried, how it went, and, unless it passed, what to do."""

    name: str
    status: Status
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """For --json."""
        return {key: str(value) for key, value in asdict(self).items()}


# What starting the spawner and one sandbox proves, in the order in which it comes to pass.
_STAGES = ("descriptors", "helper", "user-namespaces", "proc", "scratch", "processes", "network-namespace", "sandbox")


def examine() -> list[Check]:
    """Runs all checks. Leaves nothing behind but the spawner that any sandbox would have started."""
    return [*_probe(), _bubblewrap(), _python()]


def _probe() -> Iterator[Check]:
    error: LisrtError | None = None
    failed = len(_STAGES)
    try:
        spawner.current("native")
        with Sandbox("host", launcher="native") as box:
            works = box.run(["/bin/sh", "-c", "echo works >/tmp/file && cat /tmp/file"]).stdout == "works\n"
        if not works:
            error, failed = LisrtError("a shell in a sandbox could not write and read a file"), _STAGES.index("sandbox")
    except LisrtError as caught:
        error = caught
        row = caught.check if isinstance(caught, HostError) else "sandbox"
        failed = _STAGES.index(row) if row in _STAGES else _STAGES.index("sandbox")
    for number, name in enumerate(_STAGES):
        if number < failed:
            yield _descriptors() if name == "descriptors" else Check(name, Status.PASS, _found(name))
        elif number == failed:
            fix = error.fix if isinstance(error, HostError) else "Report this with the output of `lisrt doctor --json`"
            yield Check(name, Status.FAIL, str(error), fix)
        else:
            yield Check(name, Status.SKIPPED, "not tried: see above")


def _found(name: str) -> str:
    running = spawner.running("native")
    words = {
        "helper": str(helper.PATH),
        "user-namespaces": "created, with pid, mount, ipc, uts and cgroup namespaces inside",
        "proc": "a fresh /proc can be mounted",
        "scratch": f"overlays work in {running.scratch}" if running else "",
        "processes": "started",
        "network-namespace": "created, loopback up",
        "sandbox": "made, used and destroyed",
    }
    return words[name]


def _bubblewrap() -> Check:
    """The other launcher: no failure where it is missing, because it is needed only where the native one does not work."""
    try:
        program = spawner.current("bwrap").bubblewrap
        with Sandbox("host", launcher="bwrap") as box:
            box.run(["/bin/true"]).check()
    except LisrtError as error:
        fix = error.fix if isinstance(error, HostError) else ""
        return Check("bwrap", Status.NOTE, f"launcher bwrap can't be used: {error}", fix)
    assert program is not None
    root = "mounts overlays" if program.overlay else "copies the image for each sandbox"
    found = f"{program.path}, bubblewrap {program.version}, works, and {root}"
    if program.resists_links:
        return Check("bwrap", Status.PASS, found)
    fix = "Nothing, unless you want mounts inside mounts with it, or images that sandboxes have written: bubblewrap 0.12"
    return Check("bwrap", Status.NOTE, f"{found}; it follows links in a root (CVE-2026-87766), so lisrt shows it none", fix)


def _python() -> Check:
    """Image `host` is /usr and little else: a Python from a home directory or a module is not in it."""
    inside = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    home = os.path.realpath(sys.base_prefix)
    seen = f"sandboxes of image host see {inside}" if inside else "sandboxes of image host see no python3"
    if home == "/usr" or home.startswith("/usr/"):
        return Check("python", Status.PASS if inside else Status.NOTE, seen)
    return Check(
        "python",
        Status.NOTE,
        f"{seen}; the Python that runs lisrt ({home}) is outside /usr and not among what they see",
        f"To use it inside: Sandbox(mounts=[Mount({home!r}, {home!r})]), or lisrt exec --mount {home}:{home}",
    )


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sandboxes = max(0, (soft - 64) // 2)
    found = f"{soft} open files (hard limit {hard}): room for about {sandboxes} sandboxes in one process"
    if sandboxes >= 512:
        return Check("descriptors", Status.PASS, found)
    return Check("descriptors", Status.NOTE, found, f"ulimit -n {hard}, or resource.setrlimit in your program")
