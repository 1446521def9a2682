"""Names to addresses, on the host: no sandbox asks a name server itself."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from lisrt.egress.rules import Address

KEPT = 10.0
"""Seconds. Five hundred agents that install the same thing ask at the same moment."""
MOST_KEPT = 1024
WITHIN = 20.0
AT_ONCE = 16


class Resolver:
    """Answers of the host's own resolver, kept for a moment. For one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lisrt-names")
        self._known: dict[str, tuple[float, asyncio.Task[list[Address]]]] = {}

    async def addresses(self, name: str) -> list[Address]:
        """Those of a name, in the order in which they should be tried. OSError, with words, when it has none."""
        now = time.monotonic()
        known = self._known.get(name)
        if known is None or known[0] < now or (known[1].done() and known[1].exception() is not None):
            if len(self._known) >= MOST_KEPT:
                self._known = {key: value for key, value in self._known.items() if value[0] >= now}
            known = now + KEPT, asyncio.ensure_future(self._ask(name))
            self._known[name] = known
        return await asyncio.shield(known[1])

    async def _ask(self, name: str) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(WITHIN):
                found = await loop.run_in_executor(self._threads, _lookup, name)
        except TimeoutError:
            raise OSError(f"{name} could not be resolved within {WITHIN:.0f} s") from None
        except (OSError, UnicodeError) as error:
            raise OSError(f"{name} could not be resolved: {getattr(error, 'strerror', None) or error}") from None
        return found

    def close(self) -> None:
        """Waits for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(name: str) -> list[Address]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return list(dict.fromkeys(addresses))
