"""Files that registries never change: fetched once, by this process for all of its sandboxes, and sent to each.

Nothing but its URL is of the sandbox's making in what is fetched: it is asked for anew, without the program's headers.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import h11

from lisrt.egress import asking
from lisrt.egress.asking import Wanted
from lisrt.egress.dial import Dialler, Refused, Unreachable
from lisrt.egress.downloads import BLOCK, MOST_FILE, Downloads, Draft, Head, Whole
from lisrt.egress.guest import Guest, Spent
from lisrt.egress.peer import ANSWER_WITHIN, Peer
from lisrt.egress.rules import Policy

OTHERS_WITHIN = 8.0
"""Seconds that another process may take to fetch a file that is wanted here, too. Less than programs wait for a byte: pip, 15."""
LOOK_AGAIN = 0.05
"""Seconds between two looks whether it has: a lock of another process's tells nobody that it has gone."""
UNFIT_FOR = 60.0
"""Seconds for which an answer that could not be kept is remembered."""
MOST_UNFIT = 4096
AT_ONCE = 4
CHUNK = 64 << 10
_PACKAGES = (b".whl", b".whl.metadata", b".tar.gz", b".tar.bz2", b".zip", b".tgz", b".conda", b".deb")
# With one of these a request is for more, or for less, than the file that everybody gets.
_OF_ITS_OWN = frozenset(
    b"authorization cookie range if-range if-none-match if-modified-since if-match if-unmodified-since transfer-encoding".split()
)
Result = TypeVar("Result")


class Arrival:
    """A file that is there or being fetched, while somebody in this process wants it."""

    def __init__(self) -> None:
        self.head: asyncio.Future[Head | None] = asyncio.get_running_loop().create_future()
        """None: it can't be had this way."""
        self.fd = -1
        self.have = 0
        """Bytes of it."""
        self.failed = False
        self.fetched = False
        """By this process, now."""
        self.readers = 0
        self.task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def is_whole(self) -> bool:
        """All of it is there."""
        head = self.head.result() if self.head.done() else None
        return head is not None and self.have >= head.length

    def tell(self, have: int) -> None:
        """There is more of it."""
        self.have = have
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, at: int) -> bytes:
        """Some of what begins there, when it has come. OSError."""
        while self.have <= at:
            if self.failed:
                raise OSError("the file could not be fetched to its end")
            await self._news.wait()
        data = os.pread(self.fd, min(CHUNK, self.have - at), BLOCK + at)
        if not data:
            raise OSError("the file in the cache has become shorter")
        return data


class Shelf:
    """Of one directory, for one event loop."""

    def __init__(self, downloads: Downloads, dialler: Dialler) -> None:
        self._downloads = downloads
        self._dialler = dialler
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lisrt-cache")
        self._arrivals: dict[str, Arrival] = {}
        self._unfit: dict[str, float] = {}
        self._reserved = 0
        """Bytes of what is being fetched: a host may promise any number of them."""

    def close(self) -> None:
        """Waits for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def join(self, wanted: Wanted, policy: Policy) -> tuple[Arrival, bool] | None:
        """One more who wants a file, and whether it is the first; None if that can't be kept. Ends with `leave`."""
        url, now = wanted.url, asyncio.get_running_loop().time()
        if self._unfit.get(url, 0.0) > now:
            return None
        arrival = self._arrivals.get(url)
        is_first = arrival is None
        if arrival is None:
            arrival = self._arrivals[url] = Arrival()
            arrival.task = asyncio.create_task(self._bring(arrival, wanted, policy))
        arrival.readers += 1
        return arrival, is_first

    def leave(self, wanted: Wanted, arrival: Arrival) -> None:
        """The last one takes what is being fetched with it: nobody fetches by hanging up."""
        arrival.readers -= 1
        if arrival.readers or arrival.task is None:
            return
        if arrival.task.done():
            self._close(wanted.url, arrival)
        elif not arrival.is_whole:
            self._forget(wanted.url, arrival)
            arrival.task.cancel()

    def _forget(self, url: str, arrival: Arrival) -> None:
        if self._arrivals.get(url) is arrival:
            del self._arrivals[url]

    def _close(self, url: str, arrival: Arrival) -> None:
        self._forget(url, arrival)
        if arrival.fd >= 0:
            os.close(arrival.fd)
            arrival.fd = -1

    async def _bring(self, arrival: Arrival, wanted: Wanted, policy: Policy) -> None:
        try:
            found = await self._take(wanted.url)
            arrival.fd = found.fd
            if isinstance(found, Whole):
                arrival.head.set_result(found.head)
                arrival.tell(found.head.length)
            else:
                arrival.fetched = True
                await self._fetch(arrival, found, wanted, policy)
        except (OSError, TimeoutError, Refused, Unreachable, h11.ProtocolError, ValueError):
            pass  # whoever asks is told of it when he asks the host itself
        finally:
            if not arrival.head.done():
                arrival.head.set_result(None)
            arrival.failed = not arrival.is_whole
            arrival.tell(arrival.have)
            if arrival.failed:
                self._forget(wanted.url, arrival)
            if not arrival.readers:
                self._close(wanted.url, arrival)

    async def _take(self, url: str) -> Whole | Draft:
        """The file; the right to fetch it, which may be another process's for a while. OSError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + OTHERS_WITHIN
        while loop.time() < until:
            found = await self._in_thread(partial(self._downloads.take, url), _put_back)
            if found is not None:
                return found
            await asyncio.sleep(LOOK_AGAIN)
        found = await self._in_thread(partial(self._downloads.take, url, alone=True), _put_back)
        if found is None:
            raise OSError("others had it, and have not finished")
        return found

    async def _fetch(self, arrival: Arrival, draft: Draft, wanted: Wanted, policy: Policy) -> None:
        reserved = 0
        try:
            connection = await self._dialler.dial(policy, wanted.host, wanted.port, "GET", tunnel=wanted.secured)
            with connection.sock:
                host = await asking.outside(connection, wanted)
                headers = [(b"User-Agent", b"lisrt"), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity")]
                await host.send(asking.request(b"GET", wanted, connection, headers))
                await host.send(h11.EndOfMessage())
                answer = await host.event(ANSWER_WITHIN)
                while isinstance(answer, h11.InformationalResponse):
                    answer = await host.event(ANSWER_WITHIN)
                head = _fit(answer, wanted.url, min(MOST_FILE, self._downloads.most))
                if head is None or self._reserved + head.length > self._downloads.most:
                    self._is_unfit(wanted.url)
                    return
                reserved = head.length
                self._reserved += reserved
                await self._in_thread(partial(draft.begin, head))
                arrival.head.set_result(head)
                while not isinstance(event := await host.event(ANSWER_WITHIN), h11.EndOfMessage):
                    if not isinstance(event, h11.Data):
                        raise OSError("the connection was closed before the end")
                    draft.write(event.data)
                    arrival.tell(arrival.have + len(event.data))
            if await self._in_thread(draft.commit):
                await self._in_thread(partial(self._downloads.kept, head.length))
        finally:
            draft.drop()
            self._reserved -= reserved

    def _is_unfit(self, url: str) -> None:
        if len(self._unfit) >= MOST_UNFIT:
            self._unfit.clear()
        self._unfit[url] = asyncio.get_running_loop().time() + UNFIT_FOR

    async def _in_thread(self, work: Callable[[], Result], undo: Callable[[Result], None] = lambda _: None) -> Result:
        """`undo`: of a result that nobody waits for any more."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])  # it works on a descriptor, whose number must not become another's meanwhile
            if not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise


def _put_back(found: Whole | Draft | None) -> None:
    if isinstance(found, Draft):
        found.drop()
    if found is not None:
        os.close(found.fd)


async def serve(client: socket.socket, inside: Peer, request: h11.Request, wanted: Wanted, guest: Guest) -> bool | None:
    """Answers a request for a file that is kept or can be: whether another one may follow. None: it has to be asked for.

    Raises Refused, Unreachable.
    """
    shelf = guest.shelf
    if shelf is None or not _is_for_all(request, wanted):
        return None
    await guest.check(wanted.host, wanted.port, "GET", tunnel=wanted.secured)
    joined = shelf.join(wanted, guest.policy)
    if joined is None:
        return None
    arrival, is_first = joined
    try:
        head = await asyncio.shield(arrival.head)
        if head is None:
            return None
        verdict = await guest.check(wanted.host, wanted.port, "GET", tunnel=wanted.secured)  # rules may have changed meanwhile
        cached = not (is_first and arrival.fetched)
        connection = guest.answered(client, wanted.host, wanted.port, "GET", verdict, cached=cached)
        try:
            while not isinstance(await inside.event(ANSWER_WITHIN), h11.EndOfMessage):
                pass  # it has no body
            kind = [(b"Content-Type", head.kind.encode("latin-1"))] if head.kind else []
            length = (b"Content-Length", b"%d" % head.length)
            await inside.send(h11.Response(status_code=200, reason=b"OK", headers=[*kind, length]))
            at = 0
            while at < head.length:
                data = await arrival.read(at)
                at += len(data)
                guest.count(connection, 0, len(data))
                await inside.send(h11.Data(data=data))
                await asyncio.sleep(0)  # others want a turn
            await inside.send(h11.EndOfMessage())
        except (h11.ProtocolError, OSError, TimeoutError, Spent) as error:
            guest.failed(connection, str(error) or type(error).__name__)
            return False
        finally:
            guest.ended(connection)
        return inside.state.our_state is h11.DONE and inside.state.their_state is h11.DONE
    finally:
        shelf.leave(wanted, arrival)


def _is_for_all(request: h11.Request, wanted: Wanted) -> bool:
    """Whether it is one that everybody may ask and that has one answer, for ever."""
    if request.method != b"GET" or wanted.added or b"?" in wanted.target or len(wanted.target) > BLOCK // 4:
        return False
    for name, value in request.headers:
        if name in _OF_ITS_OWN or (name == b"content-length" and value != b"0"):
            return False
        if name in (b"cache-control", b"pragma") and (b"no-cache" in value.lower() or b"no-store" in value.lower()):
            return False
    # what comes in clear text may be another's: only where the package manager looks at a signature
    packages = _PACKAGES if wanted.secured else (b".deb",)
    return wanted.target.endswith(packages) and (wanted.secured or b"/pool/" in wanted.target)


def _fit(answer: object, url: str, most: int) -> Head | None:
    """What is kept of an answer; None for one that can't be."""
    if not isinstance(answer, h11.Response) or answer.status_code != 200:
        return None
    said = dict(answer.headers)
    control = b",".join(value.lower() for name, value in answer.headers if name == b"cache-control")
    if b"private" in control or b"no-store" in control or b"set-cookie" in said or b"content-range" in said:
        return None
    if said.get(b"content-encoding", b"identity").lower() != b"identity" or b"content-length" not in said:
        return None
    length = int(said[b"content-length"])
    kind = said.get(b"content-type", b"").decode("latin-1")
    return Head(url, kind, length) if length <= most and len(kind) <= BLOCK // 8 else None
