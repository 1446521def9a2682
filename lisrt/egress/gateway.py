"""The host's half of every `Proxy`: one event loop in a thread of this process, for all sandboxes."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future

from lisrt.egress import http, socks
from lisrt.egress.dial import Dialler
from lisrt.egress.guest import Guest
from lisrt.egress.proxy import SOCKS_PORT, Proxy
from lisrt.egress.rules import Policy
from lisrt.kernel import wire


class Gateway:
    """Started with the first sandbox that needs it; it ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[socket.socket] = set()
        """Sockets to sandboxes' PID 1, and what these have handed over."""
        self._dialler = Dialler()
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
            for one in self._ends:
                self._loop.remove_reader(one)
                one.close()
            self._dialler.close()
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
        return Guest(proxy.policy(), self._dialler, most_bytes=proxy.max_bytes, journal=journal)

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

    def connect(self, guest: Guest) -> socket.socket:
        """The end that a sandbox's PID 1 hands its connections to. When it is closed there, nobody is served any more."""
        ours, theirs = wire.pair()
        self._loop.call_soon_threadsafe(self._listen, ours, guest)
        return theirs

    def _listen(self, sock: socket.socket, guest: Guest) -> None:
        self._ends.add(sock)
        self._loop.add_reader(sock.fileno(), self._receive, sock, guest)

    def _receive(self, sock: socket.socket, guest: Guest) -> None:
        try:
            message, fd = wire.receive(sock, with_fd=True)
        except BlockingIOError:
            return
        except OSError:
            message, fd = b"", -1
        if not message:
            self._loop.remove_reader(sock.fileno())
            self._ends.discard(sock)
            sock.close()
            return
        if fd < 0:
            return  # it listens
        client = socket.socket(fileno=fd)
        if client.family != socket.AF_INET or client.type != socket.SOCK_STREAM:  # PID 1 hands over nothing else
            client.close()
            return
        client.setblocking(False)
        self._ends.add(client)
        serve = socks.serve if wire.decode_accepted(message) == SOCKS_PORT else http.serve
        task = self._loop.create_task(self._serve(serve(client, guest), client, guest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, serving: Coroutine[None, None, None], client: socket.socket, guest: Guest) -> None:
        try:
            async with guest.turn:
                await serving
        finally:
            self._ends.discard(client)
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
