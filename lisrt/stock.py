"""What is behind both pools: who waits for a sandbox, which ones are warm, and which are out. Not for users.

A taker gets a warm sandbox; or leave to make one itself, in its own thread or task, so that as many are made at a time as are
asked for, and what goes wrong is told to the one who asked. Those who wait are served in their order. What is made ahead is
made by `refill`, the one flow of a pool that runs in the background.

Nothing here blocks but in a flow. `ask` is answered by a call of the claim's `notify`, from whichever thread it comes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from lisrt import spawner
from lisrt.admission import Admission, Party
from lisrt.box import Box
from lisrt.claims import Bell, Claim, within
from lisrt.demand import Demand
from lisrt.errors import PoolClosed, PoolTimeout
from lisrt.poolstats import PoolStats, Tally
from lisrt.waiting import Flow

LOOK_AGAIN = 0.05
"""Seconds until memory, or what other programs hold, is looked at again. Nothing tells when it has changed."""
LOOK_IDLE = 1.0
"""Seconds between looks at warm sandboxes: whether they live, and whether another program waits for their slots."""
PAUSES = 0.1, 10.0
"""Seconds before the next try after one that failed in the background: from the first, twice as long each time, to the second."""


class Stock:
    """The sandboxes of one pool. Safe to use from many threads and event loops."""

    def __init__(self, new: Callable[[], Box], size: int, demand: Demand, admission: Admission | None) -> None:
        self._new = new
        self._size = size
        self._demand = demand
        self._admission = admission
        self._party = Party(None, self._ring)
        self._bell: Bell | None = None
        self._lock = threading.Lock()
        self._generation = spawner.generation()
        self._closed = False
        self._queue: deque[Claim] = deque()
        self._gone = 0
        """Of those, the ones that have been given up: they go when their turn comes, or when they are most of it."""
        self._warm: deque[Box] = deque()
        """The oldest first; the youngest is handed out, so the oldest are what is too many."""
        self._out: set[Box] = set()
        self._doomed: deque[Box] = deque()
        """Those that `refill` is to close."""
        self._ending: set[Box] = set()
        """Those that it closes now."""
        self._making = 0
        self._retry_at, self._pause = 0.0, PAUSES[0]
        self._held_back = ""
        self._tally = Tally()

    def begin(self) -> None:
        """Before `refill`."""
        self._generation = spawner.generation()
        self._bell = Bell()
        self._party = Party(self._admission, self._ring)

    # For takers

    def ask(self, notify: Callable[[], bool]) -> Claim:
        """Joins the queue. PoolClosed."""
        self._check_ours()
        claim = Claim(notify)
        with self._lock:
            self._check_open()
            if not self._queue and self._grant(claim):
                if claim.box is None:
                    self._demand.missed()
                self._ring()
            else:
                self._queue.append(claim)
                if len(self._queue) == 1:
                    self._ring()
        return claim

    def collect(self, claim: Claim, deadline: float | None) -> Flow[Box]:
        """The sandbox of a claim that was settled, or whose time is over. PoolTimeout, PoolClosed, and what making one raises."""
        with self._lock:
            self._check_open()
            if not claim.is_settled:
                self._tally.timeouts += 1
                raise self._late(deadline, claim.asked)
            claim.is_over = True
            self._tally.took(time.monotonic() - claim.asked, is_hit=claim.box is not None)
        if claim.box is not None:
            return claim.box
        return (yield from self._make(deadline, claim.asked))

    def withdraw(self, claim: Claim) -> None:
        """A taker has given up, before it had its sandbox. Again is allowed."""
        if self.is_foreign:
            return
        with self._lock:
            if claim.is_over:
                return
            self._gone += not claim.is_settled
            self._take_back(claim)
            if self._gone > len(self._queue) // 2:
                self._queue = deque(one for one in self._queue if not one.is_over)
                self._gone = 0
            self._serve()

    def give_back(self, box: Box) -> Flow[None]:
        """Ends one that was out."""
        try:
            yield from box.close()
        finally:
            self._forget(box)

    def close(self) -> Flow[None]:
        """Ends all there are, those that are out, too; takers that wait get PoolClosed. Again is allowed."""
        if self.is_foreign:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            boxes = [*self._warm, *self._doomed, *self._ending, *self._out]
            for claim in self._queue:
                claim.notify()
            self._queue.clear()
            self._gone = 0
            self._party.rest()
        self._ring()
        failed: BaseException | None = None
        for box in boxes:
            try:
                yield from box.close()
            except GeneratorExit:
                raise
            except BaseException as error:  # the others have to be closed all the same
                failed = failed or error
            finally:
                self._forget(box)
        if failed is not None:
            raise failed

    def stats(self) -> PoolStats:
        """All figures, of one moment."""
        with contextlib.nullcontext() if self.is_foreign else self._lock:
            p50, p95 = self._tally.waits()
        tally, rules = self._tally, self._admission
        return PoolStats(
            size=self._size,
            live=self._live,
            warm=len(self._warm),
            out=len(self._out),
            waiting=self._waiting,
            target=self._demand.target,
            taken=tally.taken,
            hits=tally.hits,
            created=tally.created,
            closed=tally.closed,
            replaced_dead=tally.dead,
            failures=tally.failures,
            last_failure=tally.last_failure,
            timeouts=tally.timeouts,
            wait_p50=p50,
            wait_p95=p95,
            held_back=self._held_back,
            admission=rules.guarantees if rules is not None else {"admission": "none"},
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._out)} out, {len(self._warm)} warm, {self._waiting} waiting"
        return f"{state}, {self._size} at most"

    # The background

    def refill(self) -> Flow[None]:
        """Makes sandboxes ahead, ends those that nobody needs, and looks again where nothing tells; until the pool is closed."""
        assert self._bell is not None, "it has begun"
        try:
            while True:
                verb, box, deadline = self._next()
                if verb == "end":
                    return
                if verb == "close":
                    assert box is not None, "it is this one"
                    yield from self._end(box)
                elif verb == "make":
                    yield from self._make_spare()
                else:
                    yield from self._bell.heard(deadline)
        finally:
            self._bell.end()

    def _end(self, box: Box) -> Flow[None]:
        try:
            yield from self.give_back(box)
        except Exception as error:  # the next one is to be closed all the same
            self._tally.failed(error)

    def _make_spare(self) -> Flow[None]:
        try:
            box = yield from self._make(None, 0.0)
        except PoolClosed:
            return
        except Exception:  # it has been counted; takers meet it themselves
            with self._lock:
                self._retry_at = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, PAUSES[1])
            return
        with self._lock:
            self._shelve(box)
            self._serve()

    def _next(self) -> tuple[str, Box | None, float | None]:
        """What is to be done now: end, close a sandbox, make one, or wait until some time."""
        now = time.monotonic()
        with self._lock:
            if self._closed:
                return "end", None, None
            self._serve()
            self._sift()
            self._demand.look(now, len(self._warm))
            yields = self._party.others_wait()
            target = 0 if yields else self._demand.target
            if self._doomed or len(self._warm) > target:
                box = self._doomed.popleft() if self._doomed else self._warm.popleft()
                self._ending.add(box)
                return "close", box, None
            deadline = now + LOOK_IDLE if self._warm or yields else None
            if self._queue:
                deadline = now + LOOK_AGAIN if self._live < self._size else deadline
            elif len(self._warm) < target and self._live < self._size:
                if now >= self._retry_at and self._enter(is_spare=True):
                    self._making += 1
                    return "make", None, None
                deadline = self._retry_at if now < self._retry_at else now + LOOK_AGAIN
            return "wait", None, deadline

    # With the lock held

    @property
    def _live(self) -> int:
        return len(self._warm) + len(self._out) + len(self._doomed) + len(self._ending) + self._making

    @property
    def _waiting(self) -> int:
        return len(self._queue) - self._gone

    def _serve(self) -> None:
        """Gives those who wait what can be given, in their order."""
        while self._queue and not self._closed:
            claim = self._queue[0]
            if claim.is_over:
                self._gone -= 1
            elif not self._grant(claim):
                return
            elif not claim.notify():  # its event loop has ended
                self._take_back(claim)
            self._queue.popleft()
        self._party.rest()

    def _grant(self, claim: Claim) -> bool:
        while self._warm:
            box = self._warm.pop()
            if box.alive:
                self._demand.left(len(self._warm))
                self._out.add(box)
                claim.box, claim.is_settled = box, True
                return True
            self._doom(box)
        if self._live >= self._size:
            self._party.rest()  # it waits for its own
            return False
        if not self._enter(is_spare=False):
            return False
        self._party.rest()
        self._making += 1
        claim.is_settled = True
        return True

    def _take_back(self, claim: Claim) -> None:
        """What a claim had, that will not be collected."""
        claim.is_over = True
        if not claim.is_settled:
            return
        if claim.box is None:
            self._making -= 1
            self._party.leave()
        elif claim.box in self._out and not self._closed:
            self._shelve(claim.box)

    def _shelve(self, box: Box) -> None:
        """One that is out, and clean, is a warm one."""
        if not self._closed:  # else it is closed there
            self._out.discard(box)
            self._warm.append(box)

    def _sift(self) -> None:
        for box in [box for box in self._warm if not box.alive]:
            self._warm.remove(box)
            self._doom(box)

    def _doom(self, box: Box) -> None:
        self._tally.dead += 1
        self._doomed.append(box)
        self._ring()

    def _enter(self, *, is_spare: bool) -> bool:
        refusal = self._party.enter(is_spare=is_spare)
        if not is_spare or refusal:
            self._held_back = refusal
        return not refusal

    def _check_open(self) -> None:
        if self._closed:
            raise PoolClosed("the pool is closed")
        if self._bell is None:
            raise PoolClosed("the pool was not entered: use `async with`")

    # Without it

    @property
    def is_foreign(self) -> bool:
        """Whether this is a forked child: then the lock may be held by a thread that is not here."""
        return self._bell is not None and self._generation != spawner.generation()

    def _check_ours(self) -> None:
        if self.is_foreign:
            raise PoolClosed("the pool belongs to the process that this one was forked from; make a new one here")

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    def _late(self, deadline: float | None, asked: float) -> PoolTimeout:
        seconds = time.monotonic() - asked if deadline is None else deadline - asked
        figures = f"{self._live} of {self._size} are live, {len(self._out)} of them out, and {self._waiting} wait"
        return PoolTimeout(f"no sandbox within {seconds:.3g} s: {figures}{self._held_back and '; ' + self._held_back}")

    def _make(self, deadline: float | None, asked: float) -> Flow[Box]:
        """Makes one, with leave to. It is out then."""
        box: Box | None = None
        try:
            box = self._new()
            yield from within(box.open(), deadline, lambda: self._late(deadline, asked))
        except BaseException as error:
            with self._lock:
                self._making -= 1
                if isinstance(error, PoolTimeout):
                    self._tally.timeouts += 1
                elif isinstance(error, Exception):
                    self._tally.failed(error)
                self._party.leave()
                self._serve()
            raise
        with self._lock:
            self._making -= 1
            self._out.add(box)
            self._tally.created += 1
            self._retry_at, self._pause = 0.0, PAUSES[0]
            closed = self._closed
        if closed:
            yield from self.give_back(box)
            raise PoolClosed("the pool was closed while the sandbox was being made")
        return box

    def _forget(self, box: Box) -> None:
        if self.is_foreign:
            return
        with self._lock:
            place = next((place for place in (self._out, self._ending, self._warm, self._doomed) if box in place), None)
            if place is not None:
                place.remove(box)
                self._tally.closed += 1
                self._party.leave()
                self._serve()
        self._ring()
