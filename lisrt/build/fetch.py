"""Downloads: whole and as they should be, or an ImageError. The host's proxies and certificates are used (urllib does both)."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from lisrt.errors import ImageError

TRIES = 4
TIMEOUT = 60.0
"""Seconds without a byte."""
_AT_ONCE = 8
_CHUNK = 1 << 18


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
    for attempt in range(TRIES):
        try:
            _fetch(wanted, progress)
            return wanted.path
        except urllib.error.HTTPError as error:
            cause = f"HTTP status {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                break
        except (OSError, HTTPException) as error:  # URLError is an OSError
            cause = str(getattr(error, "reason", error))
        except _Broken as error:
            cause = str(error)
        if attempt + 1 < TRIES:
            time.sleep(2**attempt)  # the mirror's time, not ours: nothing could be awaited
    raise ImageError(f"{wanted.url}: {cause}")


def fetch_all(wanted: Iterable[Wanted], progress: Callable[[int], None] = lambda _: None) -> None:
    """Downloads many files, some at a time. ImageError for the first that fails; the rest is then left out."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(fetch, one, progress) for one in wanted]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Broken(Exception):
    """Not what it should be: worth another try."""


def _fetch(wanted: Wanted, progress: Callable[[int], None]) -> None:
    digest, count = hashlib.sha256(), 0
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "lisrt"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, open(wanted.path, "wb") as file:
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
