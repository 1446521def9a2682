"""From a plan to the arguments of bubblewrap. Pure: nothing in here touches the system.

Binds go by descriptor (csrc/bwrap.c opens their sources, through no link) to places that are there already, or, in a root
that is an overlay, that no untrusted program has had a hand in: CVE-2026-87766 needs a root with a link in the way.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

from lisrt.errors import HostError
from lisrt.kernel import steps
from lisrt.kernel.bubblewrap import Program

FIRST_BIND = 8
"""The number of the first bind's descriptor; csrc/bwrap.c has it, too."""
FIX = "Bubblewrap 0.12 or later does it safely: name one with $LISRT_BWRAP; so does launcher=\"native\""

_BY_INIT = (steps.Rlimit, steps.Memory, steps.Pids, steps.Cpus, steps.Disk, steps.Filter)
"""What needs no privilege: PID 1 does it itself (lis_setup_rest in csrc/setup.c), or a watchdog does."""


def arguments(plan: tuple[steps.Step, ...], *, root: str, program: Program, trusted: bool = True) -> list[str]:
    """What bwrap gets, before the program. `root` is the directory of this sandbox in the scratch directory.

    `trusted`: no program in a sandbox has had a hand in the image's layers. HostError where it would not be safe.
    """
    # in a root that is a copy bubblewrap makes nothing: all its mount points are there, made through no link
    if not trusted and program.overlay and not program.resists_links:
        raise HostError(
            f"bubblewrap {program.version} follows links in a root out of it (CVE-2026-87766), and this image was written to"
            " by programs in a sandbox",
            check="bwrap",
            fix=FIX,
        )
    _check_mounts(plan, program)
    made = ["--unshare-user", "--unshare-pid", "--cap-drop", "ALL"]  # root's bubblewrap would keep all capabilities
    binds: list[steps.Bind] = []
    for step in plan:
        made += _of(step, root, program, binds)
        if isinstance(step, steps.Bind):
            binds.append(step)
    return [*made, "--remount-ro", "/dev", "--chdir", "/", "--as-pid-1", "--new-session"]


def check_automounts(plan: tuple[steps.Step, ...], mountinfo: str) -> None:
    """HostError for a read-only mount in which the host is going to mount something: autofs lies in wait there.

    Bubblewrap's mounts go on receiving what the host mounts below them, and that comes as writable as it is.
    `mountinfo` is the text of /proc/self/mountinfo.
    """
    lines = (line.partition(" - ") for line in mountinfo.splitlines())
    points = [os.fsdecode(_unescaped(left.split()[4])) for left, _, right in lines if right.startswith("autofs ")]
    for step in plan:
        if isinstance(step, steps.Bind) and step.mode == steps.Bind.READ_ONLY:
            inside = f"{step.source.rstrip('/')}/"
            below = [point for point in points if f"{point}/".startswith(inside)]
            if below:
                raise HostError(
                    f"what this host mounts on demand on {below[0]} would be writable inside the read-only mount /{step.target}:"
                    " bubblewrap can't prevent it",
                    check="bwrap",
                    fix="Mount the directory that you need, which lies deeper, or use launcher=\"native\"",
                )


def _unescaped(field: str) -> bytes:
    """A path of mountinfo, in which space, tab, newline and backslash are octal."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), os.fsencode(field))


def describe(made: list[str]) -> str:
    """One line an option, for people."""
    lines: list[str] = []
    for word in made:
        if word.startswith("--") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return "\n".join(f"    {line}" for line in lines)


def _of(step: steps.Step, root: str, program: Program, binds: list[steps.Bind]) -> list[str]:
    match step:
        case steps.Namespaces():
            names = {steps.NEWIPC: "ipc", steps.NEWUTS: "uts", steps.NEWCGROUP: "cgroup", steps.NEWNET: "net"}
            return [f"--unshare-{name}" for flag, name in names.items() if step.flags & flag]
        case steps.Overlay() if program.overlay:
            sources = [word for layer in reversed(step.lowers) for word in ("--overlay-src", layer)]
            return [*sources, "--overlay", f"{root}/u", f"{root}/w", "/"]
        case steps.Overlay():
            return ["--bind", f"{root}/r", "/"]
        case steps.Bind():
            option = "--bind-fd" if step.mode == steps.Bind.WRITABLE else "--ro-bind-fd"
            return [option, str(FIRST_BIND + len(binds)), f"/{step.target}"]
        case steps.Proc():
            return list(_proc(f"/{step.target}", program))
        case steps.Dev():
            return ["--dev", f"/{step.target}"]  # root's are made read-only first: csrc/host.c
        case steps.Devpts():
            return []  # --dev has made it
        case steps.Tmpfs():
            return ["--perms", f"{step.mode:04o}", "--size", str(step.size), "--tmpfs", f"/{step.target}"]
        case steps.Directory():
            return list(_directory(step, program, binds))
        case steps.ReadOnly():  # it remounts one mount at a time, and a writable bind is the caller's
            return ["--remount-ro", "/dev/shm", "--remount-ro", "/"]
        case steps.Hostname():
            return ["--hostname", step.name]
        case steps.Loopback():
            return []  # it is up with --unshare-net
        case steps.User():
            return ["--uid", str(step.uid), "--gid", str(step.gid)]
        case steps.NoNesting():
            return ["--disable-userns"]
        case _ if isinstance(step, _BY_INIT):
            return []
    raise TypeError(f"nobody has said what bubblewrap has to do with {step}")


def _proc(target: str, program: Program) -> Iterator[str]:
    """As csrc/setup.c has it: read-only, and what it tells about the host is covered."""
    yield from ("--proc", target)
    for name in program.hidden_files:
        yield from ("--ro-bind", "/dev/null", f"{target}/{name}")
    for name in program.hidden_directories:
        yield from ("--perms", "0555", "--size", "4096", "--tmpfs", f"{target}/{name}", "--remount-ro", f"{target}/{name}")
    yield from ("--remount-ro", target)


def _directory(step: steps.Directory, program: Program, binds: list[steps.Bind]) -> Iterator[str]:
    """In a copied root, and in a mount, csrc/bwrap.c makes it."""
    if program.overlay and not any(_covers(bind, step.target) for bind in binds):
        yield from ("--perms", f"{step.mode:04o}", "--dir", f"/{step.target}")
        if step.exact:
            yield from ("--chmod", f"{step.mode:04o}", f"/{step.target}")


def _check_mounts(plan: tuple[steps.Step, ...], program: Program) -> None:
    """A mount inside another one's directory: a program that may write there could swap a link into its way."""
    above: list[steps.Bind] = []
    for step in plan:
        if not isinstance(step, steps.Bind) or step.mode == steps.Bind.OF_IMAGE:
            continue
        if not program.resists_links and any(_covers(bind, step.target) for bind in above):
            raise HostError(
                f"bubblewrap {program.version} can't put a mount (/{step.target}) inside another one's directory safely"
                " (CVE-2026-87766)",
                check="bwrap",
                fix=FIX,
            )
        above.append(step)


def _covers(bind: steps.Bind, target: str) -> bool:
    return target == bind.target or target.startswith(f"{bind.target}/")
