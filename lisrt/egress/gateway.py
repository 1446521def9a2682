"""The host's half of every `Proxy`, and of published ports: one event loop in a thread of this process, for all sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path

from lisrt.egress import downloads, http, socks
from lisrt.egress.cached import Shelf
from lisrt.egress.dial import Dialler
from lisrt.egress.guest import MOST_CONNECTIONS, Guest
from lisrt.egress.proxy import SOCKS_PORT, Proxy
from lisrt.egress.rules import Policy
from lisrt.kernel import wire

MOST_AT_ONCE = 64
"""Connections that are taken before others get a turn."""


class Gateway:
    """Started with the first sandbox that needs it; it ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._of: dict[socket.socket, set[asyncio.Task[None]]] = {}
        """Those who serve, by the PID 1 that has handed the connection over."""
        self._most_clients = resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 8
        """Of all sandboxes at once: those that are served have two descriptors, and this process needs some for other work."""
        self._most_of_one = min(2 * MOST_CONNECTIONS, self._most_clients * 7 // 8)
        self._clients: set[socket.socket] = set()
        """What sandboxes have handed over."""
        self._ends: dict[int, tuple[socket.socket, Guest]] = {}
        """Sockets to sandboxes' PID 1."""
        self._arrivals = select.epoll()
        """Watches those. Whoever makes a sandbox adds to it, and wakes nobody: the loop would take a CPU from the sandbox, and
        the interpreter from its maker."""
        self._loop.add_reader(self._arrivals.fileno(), self._receive_all)
        self._dialler = Dialler()
        self._shelves: dict[tuple[Path, int], Shelf] = {}
        self._making = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lisrt-gateway", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:  # however it has ended: who waits for an answer is to see that there will be none
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._arrivals.close()
            for one, _ in list(self._ends.values()):
                one.close()
            for client in self._clients:
                client.close()
            self._dialler.close()
            for shelf in self._shelves.values():
                shelf.close()
            self._loop.close()

    @property
    def alive(self) -> bool:
        """Whether anybody is served."""
        return self._thread.is_alive()

    def admit(self, proxy: Proxy, before: Guest | None = None) -> Guest:
        """A sandbox that is about to be made; `before`: the guest that it was until now."""
        if before is not None and before.is_of(self._dialler):
            return before
        journal = None if before is None else before.journal
        keeping = proxy.registries()
        shelf = None if keeping is None else self._shelf_for()
        return Guest(
            proxy.policy(), self._dialler, most_bytes=proxy.most_bytes, journal=journal, registries=keeping, shelf=shelf
        )

    def _shelf_for(self) -> Shelf:
        """By the settings of now. ValueError for broken ones."""
        found = downloads.current()
        with self._making:
            return self._shelves.setdefault((found.place, found.most), Shelf(found, self._dialler))

    def change(self, guest: Guest, policy: Policy) -> Future[None]:
        """From now on these are its rules; when that is done, there are no connections that they would not allow."""
        done: Future[None] = Future()

        def cut() -> None:
            guest.cut()
            done.set_result(None)

        guest.policy = policy
        try:
            self._loop.call_soon_threadsafe(cut)
        except RuntimeError:  # it has ended, and with it every connection
            done.set_result(None)
        return done

    def run(self, work: Coroutine[None, None, None]) -> Future[None]:
        """Runs it on the event loop, beside what goes on there."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # it has ended, and with it all that it has served
            work.close()
            done: Future[None] = Future()
            done.set_result(None)
            return done

    def connect(self, guest: Guest) -> socket.socket:
        """The end that a sandbox's PID 1 hands its connections to. When it is closed there, nobody is served any more."""
        ours, theirs = wire.pair()
        self._ends[ours.fileno()] = ours, guest
        try:
            self._arrivals.register(ours.fileno(), select.EPOLLIN)
        except ValueError:  # it has just ended
            ours.close()
        return theirs

    def _receive_all(self) -> None:
        for fd, _ in self._arrivals.poll(0, MOST_AT_ONCE):
            self._receive(*self._ends[fd])

    def _receive(self, sock: socket.socket, guest: Guest) -> None:
        try:
            message, fd = wire.receive(sock, with_fd=True)
        except BlockingIOError:
            return
        except OSError:
            message, fd = b"", -1
        if not message:
            self._arrivals.unregister(sock.fileno())
            del self._ends[sock.fileno()]
            for task in self._of.pop(sock, ()):
                task.cancel()  # who was connected is dead
            sock.close()
            return
        if fd < 0:
            return
        client = socket.socket(fileno=fd)
        if client.family != socket.AF_INET or client.type != socket.SOCK_STREAM:  # PID 1 hands over nothing else
            client.close()
            return
        client.setblocking(False)
        if guest.clients >= self._most_of_one or len(self._clients) >= self._most_clients:
            with contextlib.suppress(OSError):  # it has gone by itself
                client.send(b"HTTP/1.1 503 lisrt: too many connections at once\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        self._clients.add(client)
        guest.clients += 1
        serve = socks.serve if wire.decode_accepted(message) == SOCKS_PORT else http.serve
        serving = serve(client, guest)
        task = self._loop.create_task(self._serve(serving, guest))
        started = self._of.setdefault(sock, set())
        started.add(task)
        task.add_done_callback(started.discard)
        task.add_done_callback(lambda _: self._served(serving, client, guest))

    async def _serve(self, serving: Coroutine[None, None, None], guest: Guest) -> None:
        async with guest.turn:
            await serving

    def _served(self, serving: Coroutine[None, None, None], client: socket.socket, guest: Guest) -> None:
        serving.close()  # it may never have had its turn
        self._clients.discard(client)
        guest.clients -= 1
        client.close()


_lock = threading.Lock()
_current: Gateway | None = None


def current() -> Gateway:
    """This process's."""
    global _current
    with _lock:
        if _current is None or not _current.alive:
            _current = Gateway()
        return _current


def _after_fork_in_child() -> None:
    global _current, _lock
    _lock, _current = threading.Lock(), None  # the thread has stayed behind


os.register_at_fork(after_in_child=_after_fork_in_child)
