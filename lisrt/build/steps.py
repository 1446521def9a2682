"""The steps of a recipe, each in a sandbox of what there is so far, as root is emulated there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lisrt.build.debian import paragraphs
from lisrt.build.lock import Versions
from lisrt.build.recipe import Apt, Copy, Pip, Run, SetEnv, SetWorkdir, Step
from lisrt.build.surroundings import HERE
from lisrt.errors import ImageError
from lisrt.result import ExecResult
from lisrt.sandbox import Sandbox

TAIL = 30
"""Lines of a failed command's output that its error shows."""
MAX_OUTPUT = 8 << 20
_STATUS = "/var/lib/dpkg/status"
_LARGEST_STATUS = 64 << 20
_DIST_INFO = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]*)-([^-/]+)\.dist-info$", re.MULTILINE)

# what apt keeps, and every `apt-get update` brings back
_APT = """set -e
apt-get update -q
apt-get install -y -q {options} {packages}
apt-get clean
find /var/lib/apt/lists /var/log/apt -type f -delete
rm -f /var/cache/apt/*.bin /var/log/dpkg.log /var/log/alternatives.log
"""
_PIP = "python3 -m pip install --no-cache-dir --constraint {here}/constraints.txt {packages}"
_PIP_ENV = {"PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
_FIND_PIP = "ls -d /usr/local/lib/python3*/*-packages/*.dist-info 2>/dev/null; :"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step runs."""

    box: Sandbox
    env: Mapping[str, str]
    """The surroundings' variables, and the recipe's own so far."""
    workdir: str
    log: Path


def title(step: Step) -> str:
    """A step in a few words."""
    match step:
        case Apt(packages) | Pip(packages):
            return f"{type(step).__name__.lower()} {' '.join(packages)}"
        case Run(script):
            return f"run {script.strip().splitlines()[0]}"
        case Copy(source, to):
            return f"copy {source.name} {to}"
        case SetEnv(values):
            return f"env {' '.join(name for name, _ in values)}"
        case SetWorkdir(path):
            return f"workdir {path}"


def do(step: Step, place: Place, where: str) -> None:
    """Does a step that writes files. ImageError begins with `where`, and has the command, its end and its last lines.

    OSError where a file can't be copied.
    """
    match step:
        case Apt(packages, recommends):
            options = "" if recommends else "--no-install-recommends"
            script = _APT.format(options=options, packages=shlex.join(packages))
            run(place, script, where, shown=f"apt-get install {shlex.join(packages)}")
        case Pip(packages):
            script = _PIP.format(here=HERE, packages=shlex.join(packages))
            run(place, script, where, shown=f"pip install {shlex.join(packages)}", env=_PIP_ENV)
        case Run(script):
            run(place, f"set -e; {script}", where, shown=script)
        case Copy(source, to):
            place.box.upload(source, to)


def run(
    place: Place, script: str, where: str, *, shown: str | None = None, env: Mapping[str, str] | None = None
) -> ExecResult:
    """A shell script; what it says goes to the log. ImageError when it ends otherwise than with 0."""
    result = place.box.run(
        ["sh", "-c", script],
        env={**place.env, **(env or {})},
        cwd=place.workdir,
        merge_stderr=True,
        max_output=MAX_OUTPUT,
    )
    with open(place.log, "a") as log:
        log.write(f"$ {shown or script}\n{result.stdout}\n")
    if not result.ok:
        raise ImageError(failure(where, shown or script, result, place.log))
    return result


def failure(where: str, command: str, result: ExecResult, log: Path) -> str:
    """What a failed command is told as."""
    lines = _printable(result.stdout).strip().splitlines()
    tail = "\n".join(f"  | {line}" for line in lines[-TAIL:])
    shown = " ".join(command.split())
    shown = shown if len(shown) <= 200 else shown[:197] + "..."
    return f"{where}: {shown!r} {result.summary()}; the whole log is {log}{chr(10) + tail if tail else ''}"


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor: the output is a stranger's."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\r", "\n"))


def versions(box: Sandbox) -> Versions:
    """The packages that there are, of the distribution and of pip."""
    try:
        status = box.read(_STATUS, max_bytes=_LARGEST_STATUS).decode(errors="replace")
    except OSError:
        status = ""  # an image without dpkg
    apt = {
        one["Package"]: one["Version"]
        for one in paragraphs(status)
        if one.get("Status", "").endswith(" installed") and "Version" in one
    }
    listed = box.run(["sh", "-c", _FIND_PIP]).stdout
    pip = {name.lower().replace("_", "-"): version for name, version in _DIST_INFO.findall(listed)}
    return Versions(apt, pip)
