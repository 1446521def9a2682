"""Downloads: whole and as they should be, or an ImageError. The host's proxies and certificates are used (urllib does both)."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from lisrt.errors import ImageError

TRIES = 4
TIMEOUT = 60.0
"""Seconds without a byte."""
_AT_ONCE = 6
_CHUNK = 1 << 18
_HEADERS = {"User-Agent": "lisrt"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to download."""

    url: str
    path: Path
    sha256: str = ""
    """"" where nobody has said."""
    size: int = 0


def fetch(wanted: Wanted, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Downloads one file; `progress` gets the bytes of each piece. ImageError names the URL and the cause."""
    with _Connections() as connections:
        _fetch(wanted, connections, progress)
    return wanted.path


def fetch_all(wanted: Iterable[Wanted], progress: Callable[[int], None] = lambda _: None) -> None:
    """Downloads many files, some at a time. ImageError for the first that fails; the rest is then left out."""
    waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    for one in wanted:
        waiting.put(one)
    stop = threading.Event()

    def work() -> None:
        with _Connections() as connections, contextlib.suppress(queue.Empty):
            while not stop.is_set():
                _fetch(waiting.get_nowait(), connections, progress)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(work) for _ in range(_AT_ONCE)]
        try:
            for each in running:
                each.result()
        finally:
            stop.set()


def _fetch(wanted: Wanted, connections: _Connections, progress: Callable[[int], None]) -> None:
    for attempt in range(TRIES):
        try:
            with connections.open(wanted.url) as response:
                _take(response, wanted, progress)
            return
        except urllib.error.HTTPError as error:
            cause = f"HTTP status {error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code != 429:
                break
        except (OSError, HTTPException) as error:  # URLError is an OSError
            cause = str(getattr(error, "reason", error)) or type(error).__name__
        except _Broken as error:
            cause = str(error)
        if attempt + 1 < TRIES:
            time.sleep(2**attempt)  # the mirror's time, not ours: there is nothing to wait for
    raise ImageError(f"{wanted.url}: {cause}")


class _Broken(Exception):
    """Not what it should be: worth another try."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _take(response: _Readable, wanted: Wanted, progress: Callable[[int], None]) -> None:
    digest, count = hashlib.sha256(), 0
    with open(wanted.path, "wb") as file:
        while data := response.read(_CHUNK):
            count += len(data)
            if wanted.size and count > wanted.size:
                raise _Broken(f"longer than the {wanted.size} bytes that it should have")
            digest.update(data)
            file.write(data)
            progress(len(data))
    if wanted.size and count != wanted.size:
        raise _Broken(f"it ends after {count} of {wanted.size} bytes")
    if wanted.sha256 and digest.hexdigest() != wanted.sha256:
        raise _Broken(f"its digest is {digest.hexdigest()}, and should be {wanted.sha256}")


def _by_urllib(url: str) -> IO[bytes]:
    opener = urllib.request.build_opener()  # `urlopen` goes on with the proxies that there were when it was first called
    response: IO[bytes] = opener.open(urllib.request.Request(url, headers=_HEADERS), timeout=TIMEOUT)
    return response


class _Connections:
    """One worker's connections, kept for the next file.

    urllib makes a new one for each: at a site whose name service loses a packet now and then, a hundred small files took 15 s
    instead of one. What is not plain (a proxy, a redirection, a refusal) is left to urllib all the same.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], HTTPConnection] = {}

    @contextlib.contextmanager
    def open(self, url: str) -> Iterator[_Readable]:
        """The response of a GET that was answered with 200. OSError, HTTPException."""
        parts = urllib.parse.urlsplit(url)
        place = (parts.scheme, parts.netloc)
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or ""):
            with _by_urllib(url) as other:
                yield other
            return
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = self._kept.pop(place, None) or kind(parts.netloc, timeout=TIMEOUT)
        try:
            target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request("GET", target, headers=_HEADERS)
            with connection.getresponse() as response:
                if response.status == 200:
                    yield response
                    if response.isclosed() and not response.will_close:  # read to its end: the next can follow
                        self._kept[place] = connection
                    return
        finally:
            if self._kept.get(place) is not connection:
                connection.close()
        with _by_urllib(url) as other:
            yield other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        for connection in self._kept.values():
            connection.close()
