"""A sandbox that goes on with the files of another one, and is made, as far as that goes, while the other still ends."""

from __future__ import annotations

import socket
import time
from types import TracebackType

from lisrt.channel import CLOSE_TIMEOUT, Channel, Network, again, arrive, create, start
from lisrt.errors import LisrtError, SetupError
from lisrt.kernel import wire
from lisrt.plan import Plan
from lisrt.spawned import Spawner
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

    def __init__(self, home: Spawner, old: Channel, *, trusted: bool) -> None:
        self._home, self._old, self._trusted = home, old, trusted
        self._is_native = home.bubblewrap is None
        self._begun: tuple[Plan, str, socket.socket] | None = None
        self._network: Network | None = None

    def begin(self, plan: Plan, *, inherits: bool = False, is_over: bool = False) -> Flow[None]:
        """Has the spawner begin. `inherits`: the other's network comes with `go`. `is_over`: the other has ended, or is about to:
        only then can bubblewrap begin."""
        if self._is_native or is_over:
            follows = self._old.name if self._is_native else ""
            with Forgiving():
                begun = yield from start(self._home, plan, self._trusted, None, follows=follows, inherits=inherits)
                self._begun = plan, *begun

    def go(self, plan: Plan, network: Network | None = None) -> None:
        """Has it go on, unless it was begun with another plan."""
        self._network = network
        if self._begun is None:
            return
        begun, _, sock = self._begun
        try:
            if begun != plan:
                self.close()
            elif self._is_native:
                wire.send(sock, wire.encode_plain(wire.GO), () if network is None or network.fd < 0 else (network.fd,))
        except OSError:
            self.close()

    def arrive(self, plan: Plan) -> Flow[Channel]:
        """Waits for its PID 1. HostError, SetupError, SandboxGone."""
        if self._begun is not None:
            _, name, sock = self._begun
            arrived: Channel | None = None
            with Forgiving():
                if self._is_native and not (yield Ready((sock.fileno(),), (), time.monotonic() + CLOSE_TIMEOUT)):
                    self._old.kill()  # it waits for the other's PID 1, which said that it ends: somebody has taken that over
                self._begun = None
                arrived = yield from arrive(self._home, name, sock)
            if arrived is not None:
                return arrived
            self.close()
        yield from self._old.ended()
        return (yield from create(self._home, plan, trusted=self._trusted, network=self._network))

    def later(self) -> Channel:
        """Not waited for: see Channel. SandboxGone when it could not be begun."""
        if self._begun is None:
            raise self._old.gone()
        _, name, sock = self._begun
        self._begun = None
        return Channel(name, self._home, sock, is_ready=False)

    def close(self) -> None:
        """Ends what was begun and has not arrived. Again is allowed."""
        if self._begun is not None:
            self._begun[2].close()
            self._begun = None

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def restart(home: Spawner, plan: Plan, old: Channel, network: Network, *, trusted: bool, is_patient: bool) -> Flow[Channel]:
    """Another one, on its files, after `old` has been closed and something has gone wrong. Who was interrupted is not patient."""
    with Follower(home, old, trusted=trusted) as one:
        if not is_patient:
            yield from one.begin(plan, inherits=True, is_over=True)
        one.go(plan, network)
        return (yield from one.arrive(plan)) if is_patient else one.later()


def twins(
    home: Spawner, plan: Plan, count: int, first: Follower, old: Channel, network: Network
) -> Flow[tuple[list[Channel], Channel]]:
    """So many at once of a root that is not trusted, or none: the first has gone on. And one more, last, which is not waited for
    (see Channel) and gets `network`."""
    others = [Follower(home, old, trusted=False) for _ in range(count - 1)]
    arrived: list[Channel] = []
    try:
        for one in others:
            yield from one.begin(plan, is_over=True)
            one.go(plan)
        for one in (first, *others):
            arrived.append((yield from one.arrive(plan)))
        # only now: it would take a CPU from those that are waited for
        return arrived, (yield from again(home, plan, trusted=False, network=network))
    except BaseException:
        for one in others:
            one.close()  # its PID 1 ends, or never comes to be
        for made in arrived:
            made.abandon()
        raise
