"""The host's view: which processes, mounts and descriptors exist. Reads /proc, trusts nothing that lisrt says."""

import contextlib
import itertools
import os
from pathlib import Path

from support.waiting import eventually

_numbers = itertools.count()


def new_marker() -> str:
    """A number that `sleep` takes and that no other process of this host has among its arguments."""
    return f"31337.{os.getpid():07d}{next(_numbers):05d}"


def pids() -> list[int]:
    """Every process of the host."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty when the process is gone or not ours to look at."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def marked(marker: str) -> set[int]:
    """The living processes whose command line contains the marker."""
    wanted = marker.encode()
    return {pid for pid in pids() if wanted in _read(pid, "cmdline")}


def sleeping(marker: str) -> set[int]:
    """The living processes that are exactly `sleep MARKER`."""
    wanted = f"sleep\0{marker}\0".encode()
    return {pid for pid in pids() if _read(pid, "cmdline") == wanted}


def assert_gone(marker: str, *, within: float = 2.0) -> None:
    """No process with this marker is left."""
    eventually(lambda: not marked(marker), within=within, what=f"the end of every process marked {marker}")


def assert_lives(marker: str) -> int:
    """Exactly one `sleep MARKER` runs on this host; its pid."""
    found = eventually(lambda: sleeping(marker), what=f"the start of sleep {marker}")
    assert len(found) == 1, f"sleep {marker} runs as {sorted(found)}"
    return found.pop()


def parent(pid: int) -> int:
    """The parent's pid; 0 when the process is gone."""
    stat = _read(pid, "stat")
    return int(stat.rpartition(b")")[2].split()[1]) if stat else 0


def name_of(pid: int) -> str:
    """What a process calls itself (its comm); empty when it is gone."""
    return _read(pid, "comm").decode(errors="replace").strip()


def children(pid: int) -> set[int]:
    """The direct children, zombies included."""
    return {other for other in pids() if parent(other) == pid}


def descendants(pid: int) -> set[int]:
    """Children, their children and so on."""
    parents = {other: parent(other) for other in pids()}
    found: set[int] = set()
    while True:
        more = {child for child, above in parents.items() if above == pid or above in found} - found
        if not more:
            return found
        found |= more


def inner_pid(pid: int) -> int:
    """The pid that a process has in its own pid namespace; 0 when it is gone."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return 0


def init_of(pid: int) -> int:
    """The host's pid of PID 1 in the pid namespace that a process lives in: the first above it that is PID 1 to itself."""
    while pid and inner_pid(pid) != 1:
        pid = parent(pid)
    assert pid, "found no PID 1 above the process"
    return pid


def mounts_naming(text: str) -> dict[int, list[str]]:
    """The mounts of any process of this host that name the text, by pid."""
    found = {}
    for pid in pids():
        lines = [line for line in os.fsdecode(_read(pid, "mountinfo")).splitlines() if text in line]
        if lines:
            found[pid] = lines
    return found


def tree(root: Path) -> list[str]:
    """Every name under a directory, relative and sorted; what can't be entered is named but not entered."""
    return sorted(os.path.relpath(os.path.join(at, name), root) for at, dirs, files in os.walk(root) for name in dirs + files)


def helpers(scratch: Path) -> set[int]:
    """The processes that serve the sandboxes of a scratch base, and all that live below them: found by their mounts, and
    where bubblewrap makes the sandboxes by the directories that they hold open."""
    roots = set(mounts_naming(str(scratch))) - {os.getpid()}
    roots |= {pid for pid in pids() if name_of(pid) in ("lisrt-spawner", "lisrt-trash") and _holds(pid, scratch)}
    return roots.union(*(descendants(pid) for pid in roots))


def _holds(pid: int, directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(fd).startswith(f"{directory}/") for fd in Path(f"/proc/{pid}/fd").iterdir())
    return False


def leftovers(scratch: Path) -> list[str]:
    """The directories of programs and sandboxes under a scratch base. What stays is one per user, and the images' in it."""
    inner = (name for name in tree(scratch) if os.sep in name and (scratch / name).is_dir())
    return [name for name in inner if not name.split(os.sep)[1].startswith((".host-", ".layers"))]
