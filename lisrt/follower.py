"""A sandbox that goes on with the files of another one, and is made, as far as that goes, while the other still ends."""

from __future__ import annotations

import time
from types import TracebackType

from lisrt.channel import CLOSE_TIMEOUT, Channel, Heir, Order, Started, again, create, start
from lisrt.errors import LisrtError, SetupError
from lisrt.kernel import wire
from lisrt.waiting import Flow, Ready


class Forgiving:
    """Of what failed while the other one lived, nothing is said: there may have been no room for two. But where a program has
    made the sandbox's files such that none can begin with them, the next try would fail, too: SetupError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, OSError):
            return error.errno is not None  # else it is none of the kernel's: TimeoutError by a signal handler, say
        return isinstance(error, LisrtError) and not isinstance(error, SetupError)


class Follower:
    """`begin`, then `go` when all is dead in the other one, then `arrive`. Close it in any case.

    What goes wrong before `arrive` is no failure: it is made anew there, as any other sandbox.
    """

    def __init__(self, old: Channel) -> None:
        self._old = old
        self._begun: tuple[Order, Started] | None = None
        self._heir: Heir | None = None

    def begin(self, order: Order, *, inherits: bool = False, is_over: bool = False) -> Flow[None]:
        """Has the spawner begin. `inherits`: the other's network comes with `go`. `is_over`: the other has ended, or is about to:
        only then can bubblewrap begin."""
        is_native = order.home.bubblewrap is None
        if is_native or is_over:
            with Forgiving():
                begun = yield from start(order, None, follows=self._old.name if is_native else "", inherits=inherits)
                self._begun = order, begun

    def go(self, order: Order, heir: Heir | None = None) -> Flow[None]:
        """Has it go on, unless it was begun with another order."""
        self._heir = heir
        if self._begun is None:
            return
        begun, one = self._begun
        if order.line is not None and heir is not None and heir.fd < 0:
            heir.wire = None  # it has not come with its other end
        if begun != order or (one.namespace is None and order.line is not None and (heir is None or heir.wire is None)):
            self.close()
            return
        try:
            if order.home.bubblewrap is None:
                wire.send(one.sock, wire.encode_plain(wire.GO), () if heir is None or heir.fd < 0 else (heir.fd,))
            yield from one.admit(order, heir)
        except OSError:
            self.close()

    def arrive(self, order: Order) -> Flow[Channel]:
        """Waits for its PID 1. HostError, SetupError, SandboxGone."""
        if self._begun is not None:
            _, one = self._begun
            arrived: Channel | None = None
            with Forgiving():
                deadline = time.monotonic() + CLOSE_TIMEOUT
                if order.home.bubblewrap is None and not (yield Ready((one.sock.fileno(),), (), deadline)):
                    self._old.kill()  # it waits for the other's PID 1, which said that it ends: somebody has taken that over
                self._begun = None
                arrived = yield from one.arrive(order.home)
            if arrived is not None:
                return arrived
            self.close()
        yield from self._old.ended()
        return (yield from create(order, self._heir))

    def later(self, order: Order) -> Channel:
        """Not waited for: see Channel. SandboxGone when it could not be begun."""
        if self._begun is None:
            raise self._old.gone()
        _, one = self._begun
        self._begun = None
        return one.later(order.home)

    def close(self) -> None:
        """Ends what was begun and has not arrived. Again is allowed."""
        if self._begun is not None:
            self._begun[1].close()
            self._begun = None

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def restart(order: Order, old: Channel, heir: Heir, *, is_patient: bool) -> Flow[Channel]:
    """Another one, on its files, after `old` has been closed and something has gone wrong. Who was interrupted is not patient."""
    with Follower(old) as one:
        if not is_patient:
            yield from one.begin(order, inherits=True, is_over=True)
        yield from one.go(order, heir)
        return (yield from one.arrive(order)) if is_patient else one.later(order)


def twins(order: Order, count: int, first: Follower, old: Channel, heir: Heir) -> Flow[tuple[list[Channel], Channel]]:
    """So many at once, or none: the first has gone on. And one more, last, which is not waited for (see Channel) and is the
    heir's."""
    others = [Follower(old) for _ in range(count - 1)]
    arrived: list[Channel] = []
    try:
        for one in others:
            yield from one.begin(order, is_over=True)
            yield from one.go(order)
        for one in (first, *others):
            arrived.append((yield from one.arrive(order)))
        # only now: it would take a CPU from those that are waited for
        return arrived, (yield from again(order, heir))
    except BaseException:
        for one in others:
            one.close()  # its PID 1 ends, or never comes to be
        for made in arrived:
            made.abandon()
        raise
