"""What judges look at: files of the kernel, the helper's probes, and how a real sandbox fared."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from lisrt.doctor.rows import Found
from lisrt.errors import LisrtError
from lisrt.kernel import helper

PATIENCE = 10.0
"""Seconds that the helper gives one probe."""


class Answer(IntEnum):
    """A probe's status, as csrc/probe.h numbers them."""

    WORKS = 0
    WEAKER = 1
    FAILS = 2
    UNTRIED = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe answered. `number` is the errno, 0 where there is none; `words` say what was done, or what failed."""

    answer: Answer
    number: int
    words: str

    @property
    def works(self) -> bool:
        """Wholly."""
        return self.answer is Answer.WORKS

    @property
    def reason(self) -> str:
        """What did not work, and why, in words."""
        because = os.strerror(self.number) if self.number else ""
        return ": ".join(part for part in (self.words, because) if part)


def run_probes(names: Iterable[str]) -> dict[str, Probe]:
    """Each probe's answer by its name (`overlay=/tmp` is one). Those that could not be run are untried, with the reason."""
    names = list(names)
    try:
        lines = helper.output(["probe", *names], PATIENCE * len(names)).splitlines()
    except OSError as error:
        untried = Probe(Answer.UNTRIED, error.errno or 0, "the helper could not be run")
        return dict.fromkeys(names, untried)
    answers: dict[str, Probe] = {}
    for name, line in zip(names, lines, strict=False):
        _, answer, number, words = line.split("\t", 3)
        answers[name] = Probe(Answer(int(answer)), int(number), words)
    lost = Probe(Answer.UNTRIED, 0, "the helper ended before it answered")
    return {name: answers.get(name, lost) for name in names}


@dataclass(frozen=True)
class Mounted:
    """One line of /proc/self/mountinfo."""

    device: int
    root: str
    place: str
    type: str
    options: str
    """Of the file system: a v1 hierarchy's controllers are among them."""


@dataclass
class Host:
    """One host, looked at once. `root` is another directory than / in tests of files that can't be had otherwise."""

    concurrency: int = 512
    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    """Candidates for the scratch directory, in the order in which they are tried."""
    home: str = ""
    """The one that a real sandbox used; "" when none could be made."""
    fault: LisrtError | None = None
    """Why no sandbox could be made."""
    launcher: str = ""
    """What made the real sandbox."""

    @property
    def by_bubblewrap(self) -> bool:
        """Whether the real sandbox was bubblewrap's work."""
        return self.launcher.startswith("bwrap")

    def probe(self, name: str) -> Probe:
        """A probe's answer; untried when it was not asked for."""
        return self.probes.get(name, Probe(Answer.UNTRIED, 0, "not tried"))

    def read(self, path: str) -> str | None:
        """A file's text, stripped; None when there is none that we may read."""
        try:
            return Path(self.root, path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """A file's number; None for none, and for "max"."""
        text = (self.read(path) or "").split()
        return int(text[0]) if text and text[0].lstrip("-").isdigit() else None

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.exists(Path(self.root, path.lstrip("/")))

    def status(self, key: str) -> str:
        """A line of /proc/self/status; "" where this kernel has none such."""
        for line in (self.read("/proc/self/status") or "").splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return value.strip()
        return ""

    @cached_property
    def mounts(self) -> tuple[Mounted, ...]:
        """What is mounted where we can see it."""
        found = []
        for line in (self.read("/proc/self/mountinfo") or "").splitlines():
            before, _, after = line.partition(" - ")
            left, right = before.split(), after.split()
            major, _, minor = left[2].partition(":")
            device = os.makedev(int(major), int(minor))
            found.append(Mounted(device, _unescaped(left[3]), _unescaped(left[4]), right[0], right[-1]))
        return tuple(found)

    @property
    def chrooted(self) -> bool:
        """Whether our root is no mount of its own: the kernel then refuses user namespaces (EPERM)."""
        return bool(self.mounts) and not any(mount.place == "/" for mount in self.mounts)

    @property
    def filtered(self) -> bool:
        """Whether a filter for system calls is in force already, as in containers."""
        return self.status("Seccomp") == "2"

    @property
    def container(self) -> str:
        """What kind of container this seems to be; "" for none."""
        if self.environ.get("KUBERNETES_SERVICE_HOST"):
            return "Kubernetes"
        if self.exists("/.dockerenv"):
            return "Docker"
        if self.exists("/run/.containerenv"):
            return "Podman"
        if self.environ.get("APPTAINER_CONTAINER") or self.environ.get("SINGULARITY_CONTAINER"):
            return "Apptainer"
        return self.environ.get("container", "")

    def type_of(self, path: str) -> str:
        """The type of the file system that a path lies on."""
        try:
            device = os.stat(path).st_dev
        except OSError:
            return "missing"
        return next((mount.type for mount in reversed(self.mounts) if mount.device == device), "unknown file system")


def _unescaped(text: str) -> str:
    """The kernel writes blanks, tabs, newlines and backslashes of a path as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


Judge = Callable[[Host], Found]
"""Looks at a host for one row."""
