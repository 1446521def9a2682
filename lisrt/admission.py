"""Admission: how many sandboxes all programs of a user on this host may have, and when another one is started.

A pool is a `Party`. It asks before it makes a sandbox and says when that has ended. Who holds what is in locks of the kernel
(kernel/slots.py): nobody is asked, and nothing stays when a program is killed.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lisrt.kernel.pressure import Meters, Reading
from lisrt.kernel.slots import MOST, Slots, shared
from lisrt.limits import size

DEFAULT_NAME = "lisrt"
PROCESSES = 4
"""That a sandbox is counted with: its PID 1, and a command with two of its own."""
CEILING = 16384
"""Slots where the number of processes does not say less."""
START = 1 << 20
"""Bytes that a start is counted with until memory is looked at again. An idle sandbox takes half of that."""
GOOD_FOR = 0.1
"""Seconds for which a look at the host is good: it costs a hundred times as much as all the rest of an admission."""


@dataclass(frozen=True, slots=True, init=False)
class Admission:
    """Who may start another sandbox, and when. All programs of one user on one host whose `name` is the same share it.

    Args:
        max_live: so many sandboxes at once, in all those programs. None: a quarter of the processes that this user may have,
            16,384 at most.
        min_memory: bytes ("2GiB") that are to stay available, on the host and in this program's control groups. None: a
            twentieth of what there is, 1 GiB at most. 0: it is not looked at.
        max_memory_pressure: per cent of the last 10 s in which everything waited for memory (PSI, "full"); 20 by default. None:
            it is not looked at.
        max_cpu_pressure: per cent of the last 10 s in which something waited for a CPU (PSI, "some"). None, the default: it is
            not looked at; a host at work has 100.
        min_processes: so many processes and threads this user must be able to start besides; 64 by default.
        name: of those that share it.

    A program that has no sandbox may always start one, if there is a slot: so all get on, and who can't is told why by the start.
    A program that has its share of the slots (all of them, divided by those that want some) starts none while another waits.
    `guarantees` says what of this can be held here. Give all that share a name the same rules: a program whose `max_live` is less
    than another's has as many as are left below it, which may be none.

    Raises ValueError, TypeError.
    """

    max_live: int
    min_memory: int
    max_memory_pressure: float | None
    max_cpu_pressure: float | None
    min_processes: int
    name: str

    def __init__(
        self,
        *,
        max_live: int | None = None,
        min_memory: int | str | None = None,
        max_memory_pressure: float | None = 20.0,
        max_cpu_pressure: float | None = None,
        min_processes: int = 64,
        name: str = DEFAULT_NAME,
    ) -> None:
        meters = Meters() if max_live is None or min_memory is None else None
        values = {
            "max_live": default_most(meters) if max_live is None else whole(max_live, 1, "max_live"),
            "min_memory": default_memory(meters) if min_memory is None else whole(size(min_memory), 0, "min_memory", 2**62),
            "max_memory_pressure": _per_cent(max_memory_pressure, "max_memory_pressure"),
            "max_cpu_pressure": _per_cent(max_cpu_pressure, "max_cpu_pressure"),
            "min_processes": whole(min_processes, 0, "min_processes"),
            "name": name,
        }
        if not name:
            raise ValueError(f"the name of an admission is text that is not empty: {name!r}")
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def guarantees(self) -> Mapping[str, str]:
        """What of it is held on this host, and how; and what is not."""
        return ledger(self.name).describe(self)


def whole(value: object, least: int, what: str, most: int = MOST) -> int:
    """A whole number that is not out of all proportion. TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{what} is between {least} and {most}: {value!r}")
    return value


def default_most(meters: Meters | None) -> int:
    """Slots, by the processes that there may be."""
    most = meters.most_processes() if meters else None
    return CEILING if most is None else max(1, min(CEILING, most // PROCESSES))


def default_memory(meters: Meters | None) -> int:
    """Bytes that stay available, by those that there are."""
    total = meters.total_memory() if meters else None
    return min(1 << 30, (total or 0) // 20)


def _per_cent(value: object, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is per cent, or None, not {type(value).__name__}")
    if not math.isfinite(value) or not 0 < value <= 100:
        raise ValueError(f"{what} is above 0 and at most 100, or None: {value!r}")
    return float(value)


class Party:
    """One that asks: a pool. `wake` is called, from any thread, when it may be worth its while to ask again. Without rules it is
    always let in."""

    def __init__(self, rules: Admission | None, wake: Callable[[], None]) -> None:
        self.rules = rules
        self.wake = wake
        self.held: list[int] = []
        self.mark: int | None = None
        """That it waits, for other processes to see."""
        self._ledger = None if rules is None else ledger(rules.name)

    def enter(self, *, is_spare: bool = False) -> str:
        """Takes a slot. Empty when that is done, else why not; then it counts as one that waits, until `rest`.

        `is_spare`: for a sandbox that nobody waits for; then it does not count, and comes after all who do.
        """
        return "" if self._ledger is None else self._ledger.enter(self, is_spare=is_spare)

    def leave(self) -> None:
        """Gives one back; those of this process that wait are woken."""
        if self._ledger is not None:
            self._ledger.leave(self)

    def balance(self, live: int) -> None:
        """Gives back those that are more than so many."""
        while len(self.held) > live:
            self.leave()

    def rest(self) -> None:
        """Waits no more."""
        if self._ledger is not None:
            self._ledger.rest(self)

    def others_wait(self) -> bool:
        """Whether other parties wait, here or in other processes."""
        return self._ledger is not None and self._ledger.others_wait(self) > 0


class Ledger:
    """What the parties of this process have of one name. Safe to use from many threads; none waits in it."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._parties: set[Party] = set()
        """Those that hold something, or wait."""
        self._waiting: set[Party] = set()
        self._slots: Slots | None = None
        self._why_alone = ""
        """Why other processes don't count, when they don't."""
        try:
            self._slots = Slots(name, shared())
        except OSError as error:
            self._why_alone = error.strerror or str(error)
        self._numbers = iter(range(1 << 62))
        """In the place of slots then."""
        self._meters = Meters()
        self._seen = Reading(None, None, None, None)
        self._seen_at = -GOOD_FOR
        self._begun = 0
        """Starts since."""

    def enter(self, party: Party, *, is_spare: bool) -> str:
        """See Party, as for the others."""
        assert party.rules is not None, "else it has no ledger"
        with self._lock:
            self._parties.add(party)
            refusal, is_of_host = self._refusal(party, party.rules, is_spare=is_spare)
            if not refusal:
                slot = self._take(party.rules.max_live)
                if slot is not None:
                    party.held.append(slot)
                    self._begun += 1
                    return ""
                refusal = f"all {party.rules.max_live:,} slots of {party.rules.name!r} on this host are taken"
            # not for what the host is short of by this one's rules: others, who are content, would end all that they have ready
            if not is_spare and not is_of_host and party not in self._waiting:
                self._waiting.add(party)
                party.mark = self._slots.wait() if self._slots is not None else None
            self._drop_idle(party)
            return refusal

    def leave(self, party: Party) -> None:
        with self._lock:
            slot = party.held.pop()
            if self._slots is not None:
                self._slots.give(slot)
            self._drop_idle(party)
            others = [one for one in self._waiting if one is not party]
        for one in others:
            one.wake()

    def rest(self, party: Party) -> None:
        if party.mark is None and party not in self._waiting:
            return  # without the lock: what others do changes nothing in that
        with self._lock:
            self._waiting.discard(party)
            mark, party.mark = party.mark, None
            if mark is not None and self._slots is not None:
                self._slots.rest(mark)
            self._drop_idle(party)

    def _drop_idle(self, party: Party) -> None:
        if not party.held and party not in self._waiting:
            self._parties.discard(party)

    def others_wait(self, party: Party) -> int:
        with self._lock:
            self._heal()
            return self._others(party)

    def describe(self, rules: Admission) -> Mapping[str, str]:
        """See Admission.guarantees."""
        now = self._meters.read()
        stay = f"{rules.min_memory >> 20:,} MiB of memory stay available"
        rows = {
            "slots": f"{rules.max_live:,}, shared by this user's programs on this host",
            "memory": stay if rules.min_memory else "not asked for",
            "memory_pressure": _asked(rules.max_memory_pressure, now.memory_pressure, "/proc/pressure/memory"),
            "cpu_pressure": _asked(rules.max_cpu_pressure, now.cpu_pressure, "/proc/pressure/cpu"),
            "processes": f"{rules.min_processes:,} can be started besides",
        }
        if self._why_alone:
            rows["slots"] = f"{rules.max_live:,} of this program; NOT SHARED with others: {self._why_alone}"
        if now.memory is None and rules.min_memory:
            rows["memory"] = "NOT ENFORCED: /proc/meminfo does not say what is available"
        if now.processes is None and rules.min_processes:
            rows["processes"] = "NOT ENFORCED: their number can't be read"
        return rows

    @property
    def _held(self) -> int:
        return sum(len(party.held) for party in self._parties)

    def _heal(self) -> None:
        """Gives back what belongs to nobody: an exception from a signal handler has come between a lock and the note of it."""
        if self._slots is not None and len(self._slots.held) > self._held + len(self._waiting):
            marks = {party.mark for party in self._parties if party.mark is not None}
            for slot in self._slots.held.difference(marks, *(party.held for party in self._parties)):
                self._slots.give(slot)

    def _take(self, most: int) -> int | None:
        if self._slots is not None:
            return self._slots.take(most)
        return next(self._numbers) if self._held < most else None

    def _others(self, party: Party) -> int:
        here = len(self._waiting) - (party in self._waiting)
        return here + (self._slots.waiting_elsewhere() if self._slots is not None else 0)

    def _refusal(self, party: Party, rules: Admission, *, is_spare: bool) -> tuple[str, bool]:
        """Why not, or ""; and whether that is for want of something of the host's, and not of slots."""
        others = self._others(party)
        if others and is_spare:
            return "others wait", False
        if others and len(party.held) >= (share := -(-rules.max_live // (1 + others))):
            return f"others wait on this host, and this pool has its share of {share:,} slots", False
        why = self._shortage(rules) if self._held else ""
        return why, bool(why)

    def _shortage(self, rules: Admission) -> str:
        now = self._look()
        if now.memory is not None and now.memory - self._begun * START < rules.min_memory:
            return f"memory is short: {now.memory >> 20:,} MiB are available, and {rules.min_memory >> 20:,} MiB are to stay"
        for what, most, value in (
            ("memory", rules.max_memory_pressure, now.memory_pressure),
            ("a CPU", rules.max_cpu_pressure, now.cpu_pressure),
        ):
            if most is not None and value is not None and value > most:
                return f"programs waited for {what} in {value:g} % of the last 10 s, and {most:g} % is allowed"
        if now.processes is not None and now.processes - self._begun * PROCESSES < rules.min_processes:
            return f"only {now.processes:,} more processes can be started"
        return ""

    def _look(self) -> Reading:
        now = time.monotonic()
        if now - self._seen_at >= GOOD_FOR:
            self._seen, self._seen_at, self._begun = self._meters.read(), now, 0
        return self._seen


def _asked(most: float | None, value: float | None, file: str) -> str:
    if most is None:
        return "not asked for"
    return f"at most {most:g} % of 10 s" if value is not None else f"NOT ENFORCED: {file} can't be read"


_lock = threading.Lock()
_ledgers: dict[str, Ledger] = {}


def ledger(name: str) -> Ledger:
    """That of a name in this process."""
    with _lock:
        if name not in _ledgers:
            _ledgers[name] = Ledger(name)
        return _ledgers[name]


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _ledgers.clear()  # a child holds none of its parent's slots


os.register_at_fork(after_in_child=_after_fork_in_child)
