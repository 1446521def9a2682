"""What is behind both pools: who waits for a sandbox, which ones are warm, and which are out. Not for users.

A taker gets a warm sandbox; or leave to make one itself, in its own thread or task, so that as many are made at a time as are
asked for, and what goes wrong is told to the one who asked. Those who wait are served in their order. What is made ahead is
made by `refill`, the one flow of a pool that runs in the background, and that ends what is to be ended.

An exception from a signal handler may arrive between any two steps of a taker in the main thread: `signal.alarm` is how many
programs limit their time. So a claim says all that its taker has, and `release`, which comes in any case, undoes that from
whatever state; a sandbox or claim enters a collection before it leaves another; a slot is taken after its sandbox was counted
as live, and whoever comes next gives back those that are too many. What was due at that moment `refill` makes up for.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from lisrt import spawner
from lisrt.admission import Admission, Party
from lisrt.box import Box
from lisrt.claims import Bell, Claim, turn, within
from lisrt.demand import CLOSE_PATIENCE, FORGOTTEN, LOOK_AGAIN, LOOK_IDLE, Demand, Patience
from lisrt.errors import PoolClosed, PoolTimeout
from lisrt.poolstats import PoolStats, Tally
from lisrt.waiting import Flow


class Stock:
    """The sandboxes of one pool. Safe to use from many threads and event loops."""

    def __init__(self, new: Callable[[], Box], size: int, demand: Demand, admission: Admission | None) -> None:
        self._new = new
        self._size = size
        self._demand = demand
        self._admission = admission
        self._party = Party(None, self._ring)
        self._bell: Bell | None = None
        self._lock = turn.lock
        self._generation = spawner.generation()
        self._closed = self._abandoned = False
        self._queue: OrderedDict[Claim, None] = OrderedDict()
        self._makers: set[Claim] = set()
        """Those that have leave to make one."""
        self._out: dict[Box, Claim] = {}
        self._warm: deque[Box] = deque()
        """The oldest first; the youngest is handed out, so the oldest are what is too many."""
        self._doomed: deque[Box] = deque()
        """Those that `refill` is to end."""
        self._spare: Claim | None = None
        """That of the one which `refill` makes."""
        self._patience = Patience()
        self._sift_at = 0.0
        self._held_back = ""
        self._tally = Tally()

    def begin(self) -> None:
        """Before `refill`."""
        self._generation = spawner.generation()
        self._lock = turn.lock  # which is another one in a forked child
        self._bell = Bell()
        self._party = Party(self._admission, self._ring)

    # For takers

    def ask(self, claim: Claim) -> None:
        """Joins the queue; `claim.notify` is called, from any thread, when its turn has come. PoolClosed."""
        if self.is_foreign:
            raise PoolClosed("the pool belongs to the process that this one was forked from; make a new one here")
        if turn.is_mine:
            raise RuntimeError("a signal's handler can't take a sandbox: it came in the middle of a pool's own work")
        with self._lock:
            self._check_open()
            if not self._queue and self._grant(claim):
                if claim.box is None:
                    self._demand.missed()
            else:
                self._queue[claim] = None
            self._stir()

    def collect(self, claim: Claim, deadline: float | None) -> Flow[Box]:
        """The sandbox of a claim that was settled, or whose time is over. PoolTimeout, PoolClosed, and what making one raises."""
        with self._lock:
            self._check_open()
            if not claim.is_settled:
                self._tally.timeouts += 1
                raise self._late(deadline, claim.asked)
            waited = time.monotonic() - claim.asked
            if claim.box is None and deadline is not None and time.monotonic() >= deadline:
                self._tally.timeouts += 1
                raise self._late(deadline, claim.asked)
            claim.is_used = True
        is_hit = claim.box is not None
        box = claim.box or (yield from self._make(claim, deadline))
        with self._lock:
            self._tally.took(waited, is_hit=is_hit)
        return box

    def release(self, claim: Claim) -> Flow[None]:
        """Ends the sandbox of a claim, or gives back what it had not used, or leaves the queue. Always comes last."""
        claim.over_at = time.monotonic()
        if self.is_foreign or turn.is_mine:  # in the latter case `refill` sees to the rest
            return
        with self._lock:
            self._queue.pop(claim, None)
            box = claim.box if claim.is_used else None
            self._undo(claim)
            self._serve()
        if box is not None:
            yield from self._end(box)

    def close(self) -> None:
        """No more from now on; takers that wait get PoolClosed, and `refill` ends all that there are, those that are out, too."""
        if not self.is_foreign:
            self._closed = True
            self._ring()

    def abandon(self) -> None:
        """At the end of the program: `refill` leaves at once, and what there is goes with the spawner."""
        self._abandoned = True
        self.close()

    def rest(self) -> Flow[None]:
        """What is left, when `refill` has not ended all of it: its event loop has ended, or its time was over."""
        while not self.is_foreign and not turn.is_mine:  # in a signal's handler: `refill` goes on
            with self._lock:
                box = self._next_of_all()
            if box is None:
                return
            yield from self._end(box)

    def stats(self) -> PoolStats:
        """All figures, of one moment."""
        rules = self._admission.guarantees if self._admission is not None else {"admission": "none"}  # it reads files
        with contextlib.nullcontext() if self.is_foreign else self._lock:
            return self._tally.stats(
                size=self._size,
                live=self._live,
                warm=len(self._warm),
                out=len(self._out),
                waiting=len(self._queue),
                target=self._demand.target,
                held_back=self._held_back,
                admission=rules,
            )

    @property
    def is_foreign(self) -> bool:
        """Whether this is a forked child: then the lock may be held by a thread that is not here."""
        return self._bell is not None and self._generation != spawner.generation()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._out)} out, {len(self._warm)} warm, {len(self._queue)} waiting"
        return f"{state}, {self._size} at most"

    # The background

    def refill(self) -> Flow[None]:
        """Makes sandboxes ahead, ends those that nobody needs, and looks again where nothing tells; until the pool is closed, and
        nothing of it left."""
        assert self._bell is not None, "it has begun"
        try:
            while True:
                verb, box, deadline = self._next()
                if verb == "leave":
                    return
                if box is not None:
                    yield from self._end_any(box)
                elif verb == "make":
                    yield from self._make_spare()
                else:
                    yield from self._bell.heard(deadline)
        finally:
            self._end_of_work()
            self._bell.end()

    def _end_of_work(self) -> None:
        """Somebody may have cancelled its task: who waits must be told."""
        if not self._lock.acquire(timeout=CLOSE_PATIENCE):
            return
        try:
            self._closed = True
            self._dismiss()
        finally:
            self._lock.release()

    def _end_any(self, box: Box) -> Flow[None]:
        try:
            yield from self._end(box)
        except Exception as error:  # the next one is to be ended all the same
            self._tally.last_failure = f"{type(error).__name__}: {error}"

    def _make_spare(self) -> Flow[None]:
        claim, self._spare = self._spare, None
        assert claim is not None, "it has leave to"
        try:
            box = yield from self._make(claim, None)
        except PoolClosed:
            return
        except Exception:  # it has been counted; takers meet it themselves
            with self._lock:
                self._patience.failed(time.monotonic())
            return
        finally:
            with self._lock:
                self._makers.discard(claim)
                self._balance()
        with self._lock:
            self._shelve(box)
            self._serve()

    def _next(self) -> tuple[str, Box | None, float | None]:
        """What is to be done now: end a sandbox, make one, wait until some time, or leave."""
        now = time.monotonic()
        with self._lock:
            if self._closed:
                box = None if self._abandoned else self._next_of_all()
                return ("end" if box else "leave"), box, None
            self._balance()
            self._serve()
            if now >= self._sift_at:
                self._sift_at = now + LOOK_IDLE
                self._sift(now)
            self._demand.look(now, len(self._warm))
            target = 0 if self._party.others_wait() else self._demand.target
            if not self._doomed and len(self._warm) > target:
                self._doomed.append(self._warm[0])
                self._warm.popleft()
            if self._doomed:
                return "end", self._doomed[0], None
            deadline = now + LOOK_IDLE
            if self._queue:
                deadline = now + LOOK_AGAIN if self._live < self._size else deadline
            elif len(self._warm) < target and self._live < self._size:
                if now >= self._patience.until and self._may_make_spare():
                    return "make", None, None
                deadline = max(self._patience.until, now + LOOK_AGAIN)
            return "wait", None, deadline

    # With the lock held

    @property
    def _live(self) -> int:
        return len(self._warm) + len(self._out) + len(self._doomed) + len(self._makers)

    def _next_of_all(self) -> Box | None:
        """Of a closed pool the next sandbox to end. Wakes all who wait."""
        self._dismiss()
        return next((box for place in (self._out, self._warm, self._doomed) for box in place), None)

    def _dismiss(self) -> None:
        for claim in self._queue:
            claim.notify()
        self._queue.clear()
        self._party.rest()

    def _may_make_spare(self) -> bool:
        claim = Claim(lambda: True)
        self._makers.add(claim)
        if not self._enter(is_spare=True):
            self._makers.discard(claim)
            return False
        self._spare = claim
        return True

    def _serve(self) -> None:
        """Gives those who wait what can be given, in their order."""
        while self._queue and not self._closed:
            claim = next(iter(self._queue))
            if claim.over_at is None and not claim.is_settled and not self._grant(claim):
                return
            if not claim.notify():  # its event loop has ended
                claim.over_at = time.monotonic()
                self._undo(claim)
            self._queue.pop(claim, None)
        self._party.rest()

    def _undo(self, claim: Claim) -> None:
        """Takes back what a claim was granted and has not used."""
        self._makers.discard(claim)
        if claim.box is not None and not claim.is_used and self._out.get(claim.box) is claim:
            self._shelve(claim.box)
        self._balance()

    def _grant(self, claim: Claim) -> bool:
        claim.box = None
        while self._warm:
            box = self._warm[-1]
            if not box.alive:
                self._doom(box)
                continue
            claim.box = box
            self._out[box] = claim
            self._warm.pop()
            claim.is_settled = True
            self._demand.left(len(self._warm))
            return True
        if self._live >= self._size:
            self._party.rest()  # it waits for its own
            return False
        self._makers.add(claim)
        if not self._enter(is_spare=False):
            self._makers.discard(claim)
            return False
        self._party.rest()
        claim.is_settled = True
        return True

    def _shelve(self, box: Box) -> None:
        """One that is out, and clean, is a warm one; when the pool is closed, it waits for its end where it is."""
        if not self._closed:
            if box not in self._warm:
                self._warm.append(box)
            self._out.pop(box, None)

    def _sift(self, now: float) -> None:
        """Sets aside what is dead, and what somebody was to end and has not."""
        for box in [box for box in self._warm if not box.alive]:
            self._doom(box)
        self._makers -= {claim for claim in self._makers if claim.over_at is not None}
        for box, claim in list(self._out.items()):
            if claim.over_at is not None and now - claim.over_at > FORGOTTEN:
                self._doomed.append(box)
                self._out.pop(box)

    def _doom(self, box: Box) -> None:
        self._tally.dead += 1
        self._doomed.append(box)
        self._warm.remove(box)
        self._ring()

    def _stir(self) -> None:
        """Wakes `refill`, where there is something for it to do: it takes a CPU, and the interpreter, from takers."""
        is_short = len(self._warm) < self._demand.target and self._live < self._size
        if self._closed or self._doomed or is_short or len(self._queue) == 1:
            self._ring()

    def _enter(self, *, is_spare: bool) -> bool:
        refusal = self._party.enter(is_spare=is_spare)
        if not is_spare or refusal:
            self._held_back = refusal
        return not refusal

    def _balance(self) -> None:
        self._party.balance(self._live)  # gives back the slots of what does not live any more

    def _check_open(self) -> None:
        if self._closed:
            raise PoolClosed("the pool is closed")
        if self._bell is None:
            raise PoolClosed("the pool was not entered: use `async with`")

    # Without it

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    def _late(self, deadline: float | None, asked: float) -> PoolTimeout:
        seconds = time.monotonic() - asked if deadline is None else deadline - asked
        figures = f"{self._live} of {self._size} are there or being made, {len(self._out)} are out, and {len(self._queue)} wait"
        when = f"within {seconds:.3g} s" if seconds > 0 else "ready at once"
        return PoolTimeout(f"no sandbox {when}: {figures}{self._held_back and '; ' + self._held_back}")

    def _make(self, claim: Claim, deadline: float | None) -> Flow[Box]:
        """Makes one, with leave to. It is out then."""
        try:
            claim.box = box = self._new()
            yield from within(box.open(), deadline, lambda: self._late(deadline, claim.asked))
        except Exception as error:
            with self._lock:
                if isinstance(error, PoolTimeout):
                    self._tally.timeouts += 1
                else:
                    self._tally.failed(error)
            raise
        with self._lock:
            self._out[box] = claim
            self._makers.discard(claim)
            self._tally.created += 1
            self._patience.worked()
            if self._closed:
                raise PoolClosed("the pool was closed while the sandbox was being made")
        return box

    def _end(self, box: Box) -> Flow[None]:
        try:
            yield from box.close()
        finally:
            if not self.is_foreign:
                with self._lock:
                    there = [place for place in (self._warm, self._doomed) if box in place]
                    self._tally.closed += bool(there) or box in self._out
                    self._out.pop(box, None)
                    for place in there:
                        place.remove(box)
                    self._balance()
                    self._serve()
                    self._stir()
