"""One sandbox at the gateway: its rules, what it has asked for, and how much it may have at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lisrt.egress.dial import Connection, Dialler, Refused, Unreachable, still_allowed
from lisrt.egress.journal import Egress, Journal
from lisrt.egress.registries import Registries
from lisrt.egress.relay import Idle, Relay
from lisrt.egress.rules import Policy, Verdict

if TYPE_CHECKING:
    from lisrt.egress.cached import Shelf

MOST_CONNECTIONS = 256
"""At once, of one sandbox. More wait for their turn."""


class Spent(Exception):
    """The limit on bytes is reached."""


class Guest:
    """Made by whoever makes the sandbox; used on the gateway's event loop, but for `policy`, which anybody may replace."""

    def __init__(
        self,
        policy: Policy,
        dialler: Dialler,
        *,
        most_bytes: int | None = None,
        journal: Journal | None = None,
        registries: Registries | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.registries = registries
        """Those that its programs have been told of; None where nothing is kept. Of its birth, as their variables are."""
        self.shelf = shelf
        self.policy = policy
        self.journal = Journal() if journal is None else journal
        self.turn = asyncio.Semaphore(MOST_CONNECTIONS)
        self._dialler = dialler
        self.most_bytes = most_bytes
        self.clients = 0
        """Connections that are served, or wait for that."""
        self._records: dict[Connection, Egress] = {}

    def is_of(self, dialler: Dialler) -> bool:
        """Whether it is that one that dials for it: another gateway has another."""
        return self._dialler is dialler

    async def dial(self, host: str, port: int, method: str | None, *, tunnel: bool) -> Connection:
        """A connection, and an entry in the journal whatever comes of it. Refused, Unreachable."""
        said = method or ("CONNECT" if tunnel else "")
        with self._told(host, port, said):
            connection = await self._dial(host, port, method, tunnel)
        self._records[connection] = self.journal.open(Egress(host, port, said, True, connection.verdict.rule))
        return connection

    async def _dial(self, host: str, port: int, method: str | None, tunnel: bool) -> Connection:
        while True:
            self._check_spent()
            policy = self.policy
            connection = await self._dialler.dial(policy, host, port, method, tunnel=tunnel)
            if self.policy is policy:
                return connection
            connection.sock.close()  # other rules since: `cut` has not seen this one

    async def check(self, host: str, port: int, method: str, *, tunnel: bool) -> Verdict:
        """Whether it might dial; an entry in the journal if not. Refused, Unreachable."""
        with self._told(host, port, method):
            self._check_spent()
            return await self._dialler.check(self.policy, host, port, method, tunnel=tunnel)

    def answered(self, inside: socket.socket, host: str, port: int, method: str, verdict: Verdict, *, cached: bool) -> Connection:
        """What was asked for comes from this host. The connection is the sandbox's own: to cut that ends the answer."""
        connection = Connection(inside, verdict)
        self._records[connection] = self.journal.open(Egress(host, port, method, True, verdict.rule, cached=cached))
        return connection

    @contextlib.contextmanager
    def _told(self, host: str, port: int, said: str) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            self.journal.open(Egress(host, port, said, False, error.verdict.rule, error.verdict.why, ended=True))
            raise
        except Unreachable as error:
            self.journal.open(Egress(host, port, said, True, "", str(error), ended=True))
            raise

    def count(self, connection: Connection, sent: int, received: int) -> None:
        """Bytes have moved. Spent where there have been too many."""
        self.journal.count(self._records[connection], sent, received)
        if self._is_spent:
            raise Spent(self._spent)

    @property
    def _is_spent(self) -> bool:
        return self.most_bytes is not None and self.journal.sent + self.journal.received > self.most_bytes

    @property
    def _spent(self) -> str:
        return f"more than {self.most_bytes} bytes have gone through this sandbox's network"

    def _check_spent(self) -> None:
        if self._is_spent:
            raise Refused(Verdict(False, "max_bytes", self._spent))

    def failed(self, connection: Connection, why: str) -> None:
        """It was allowed and established, and has broken off."""
        self._records[connection].why = why

    def cut(self) -> None:
        """Ends connections that the rules of now would not allow. On the event loop."""
        for connection, record in self._records.items():
            method = None if record.method in ("CONNECT", "SOCKS") else record.method
            if not still_allowed(self.policy, connection, record.host, record.port, method):
                record.why = "the rules have changed"
                with contextlib.suppress(OSError):  # it has gone by itself
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def ended(self, connection: Connection) -> None:
        """Nothing comes any more."""
        record = self._records.pop(connection, None)
        if record is not None:
            record.ended = True

    async def relay(self, inside: socket.socket, connection: Connection, early: bytes) -> None:
        """Bytes both ways until the end. `early`: those that have come from inside with the request."""
        try:
            if early:
                self.count(connection, len(early), 0)
                await asyncio.get_running_loop().sock_sendall(connection.sock, early)
            relay = Relay(inside, connection.sock, lambda sent, received: self.count(connection, sent, received))
            await relay.run()
        except* (OSError, Idle, Spent) as group:
            self.failed(connection, "; ".join(str(error) or type(error).__name__ for error in group.exceptions))
        finally:
            self.ended(connection)
