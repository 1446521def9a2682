"""The ways to a model's server: straight to it over a plain connection, through the openai package to all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lisrt.agent.transport.answer import Answer, NoAnswer, Transport
from lisrt.agent.transport.direct import DirectTransport, goes_directly
from lisrt.agent.transport.through_openai import OpenAITransport, check_certificates, load_openai

__all__ = ["Answer", "NoAnswer", "Transport", "load_openai", "require", "way_to"]


def require(base_url: str) -> None:
    """Raises ModuleNotFoundError where the openai package is needed to get there, and missing; ValueError for certificates in
    $SSL_CERT_FILE that can't be read, where it is TLS."""
    if not goes_directly(base_url):
        load_openai()
    if base_url.startswith("https:"):
        check_certificates()


@asynccontextmanager
async def way_to(base_url: str, api_key: str | None) -> AsyncIterator[Transport]:
    """A way there, which episodes of an event loop share: it has connections that are open already, and one through the library
    megabytes of TLS settings. The last to leave closes it."""
    key = (asyncio.get_running_loop(), base_url, api_key)
    for other in list(_ways):  # a copy: loops of other threads enter theirs meanwhile
        if other[0].is_closed():  # it was not let end what ran in it
            _ways.pop(other, None)
    way = next((one for one in _ways.get(key, ()) if one.users < one.transport.users), None)
    if way is None:
        way = _Shared((DirectTransport if goes_directly(base_url) else OpenAITransport)(base_url, api_key))
        _ways.setdefault(key, []).append(way)
    way.users += 1
    try:
        yield way.transport
    finally:
        way.users -= 1
        if not way.users:
            _ways[key].remove(way)
            if not _ways[key]:
                del _ways[key]
            await way.transport.close()


@dataclass
class _Shared:
    transport: Transport
    users: int = 0


_ways: dict[tuple[asyncio.AbstractEventLoop, str, str | None], list[_Shared]] = {}
