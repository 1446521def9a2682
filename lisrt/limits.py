"""How much a sandbox may use: a value, checked when it is made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lisrt.spec import seconds

DEFAULT_PIDS = 1024
ENFORCERS = ("auto", "cgroup2", "cgroup1", "scope", "watchdog")

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_MOST = 2**62


def size(value: int | str, *, what: str = "a size") -> int:
    """Bytes from a number, or from text such as "200MiB", "1.5G" or "500 MB". TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f'{what} is a number of bytes or text such as "200MiB", not {type(value).__name__}')
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ValueError(f'{what} is a number of bytes or text such as "200MiB": {value!r}')
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def writable_layer(text: object) -> int:
    """Bytes of memory for "tmpfs:SIZE", 0 for "disk" and "none". ValueError, TypeError."""
    if not isinstance(text, str):
        raise TypeError(f'writable is "disk", "tmpfs:SIZE" or "none", not {type(text).__name__}')
    kind, colon, amount = text.partition(":")
    if text in ("disk", "none"):
        return 0
    if kind != "tmpfs" or not colon:
        raise ValueError(f'writable is "disk", "none" or "tmpfs:SIZE", such as "tmpfs:512MiB": {text!r}')
    found = size(int(amount) if amount.isdecimal() else amount, what="the size of a writable layer")
    if not 1 << 20 <= found < 1 << 50:
        raise ValueError(f"a writable layer in memory has 1 MiB or more, and a size that makes sense: {amount!r}")
    return found


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one sandbox may use. None is no limit. Sizes are bytes, or text: "200MiB", "1.5G" (K, M, G, T are binary,
    as KiB; KB, MB, GB, TB are decimal).

    Args:
        memory: of all programs together: private and shared memory, memory files, /dev/shm (which holds half of it at most,
            and 64 MiB). Beyond it everything in the sandbox is killed; commands that ran end as `out_of_memory`.
        swap: beyond `memory`, with a control group; the watchdog counts swap as memory. 0 by default.
        cpus: CPUs' worth of time. Without a control group whole numbers only, and the programs share that many CPUs.
        pids: processes and threads; 1024 by default. A fork beyond it fails. A command says so (`exhausted`) when its sandbox is
            still full at its end; what then is left, and nothing else running, is killed.
        disk: bytes in files, but for mounts; added up while programs run. Beyond it everything in the sandbox is killed, and
            commands that ran say so; what is there stays, and a command may clear up as long as it does not add to it. A single
            file that would grow beyond it is the program's own error (EFBIG, SIGXFSZ), in /dev/shm too. `box.write` and
            `upload` are yours, and not limited; but they count.
        files: files and directories that programs have made; the same happens, and `exhausted` says "disk".
        open_files: descriptors of one process (RLIMIT_NOFILE). None: as many as this program may have.
        output: bytes that one command may write to stdout and stderr; then its tree is killed. None: what is beyond
            `max_output` is dropped, and the command goes on.
        wall_time: seconds for any one command: `timeout` may ask for less, not for more. Children that it has left behind on a
            normal end live on.
        enforce: who holds memory, cpus and pids: "auto" (the best that works here), "cgroup2", "cgroup1" (groups that are this
            user's, or those of `$LISRT_CGROUP`), "scope" (one of the user's own systemd), "watchdog" (lisrt's own, and resource
            limits). All but "auto" insist.

    The sandbox and its files stay usable at every limit. `Sandbox.guarantees` says who enforces what on this host. What
    nothing here can enforce raises HostError when the sandbox is made.

    Raises ValueError, TypeError.
    """

    memory: int | None
    swap: int
    cpus: float | None
    pids: int | None
    disk: int | None
    files: int | None
    open_files: int | None
    output: int | None
    wall_time: float | None
    enforce: str

    def __init__(
        self,
        memory: int | str | None = None,
        *,
        swap: int | str = 0,
        cpus: float | None = None,
        pids: int | None = DEFAULT_PIDS,
        disk: int | str | None = None,
        files: int | None = None,
        open_files: int | None = None,
        output: int | str | None = None,
        wall_time: float | None = None,
        enforce: str = "auto",
    ) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("memory", _at_least(memory, 1 << 20, "memory"))
        put("swap", _at_least(swap, 0, "swap"))
        put("cpus", _cpus(cpus))
        put("pids", _count(pids, 1, "pids"))
        put("disk", _at_least(disk, 1 << 16, "disk"))
        put("files", _count(files, 16, "files"))
        put("open_files", _count(open_files, 16, "open_files"))
        put("output", _at_least(output, 1, "output"))
        put("wall_time", seconds(wall_time, what="wall_time"))
        if enforce not in ENFORCERS:
            raise ValueError(f"enforce must be one of {', '.join(ENFORCERS)}: {enforce!r}")
        put("enforce", enforce)


def _at_least(value: int | str | None, least: int, what: str) -> int | None:
    if value is None:
        return None
    number = size(value, what=what)
    if not least <= number <= _MOST:
        bound = f"at least {_readable(least)}" if number < least else f"less than {_MOST >> 60} EiB"
        raise ValueError(f"{what} must be {bound}: {value!r}")
    return number


def _readable(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB" if count >= 1 << 10 else f"{count} bytes"


def _count(value: int | None, least: int, what: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number or None, not {type(value).__name__}")
    if not least <= value < 2**31:
        bound = f"at least {least}" if value < least else "below 2**31"
        raise ValueError(f"{what} must be {bound}, or None for no limit: {value!r}")
    return value


def _cpus(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"cpus is a number or None, not {type(value).__name__}")
    if not math.isfinite(value) or not 0.01 <= value <= 65536:
        raise ValueError(f"cpus must be between 0.01 and 65536: {value!r}")
    return float(value)


def shorter(timeout: float | None, wall_time: float | None) -> float | None:
    """Of two time limits, where None is none."""
    times = [time for time in (timeout, wall_time) if time is not None]
    return min(times, default=None)
