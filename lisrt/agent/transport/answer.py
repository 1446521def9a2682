"""What a way to a server does: it takes a request there and brings the answer; `ChatClient` knows which are which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Answer", "NoAnswer", "Transport"]


@dataclass(frozen=True)
class Answer:
    """A response, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Names are lower case."""
    text: str


class NoAnswer(Exception):
    """There was no whole answer; the message says why. `final`: another try would fail likewise. `hint`: what to do."""

    def __init__(
        self, reason: str, *, hint: str = "is the server running, and reachable from here?", final: bool = False
    ) -> None:
        super().__init__(reason)
        self.hint = hint
        self.final = final


class Transport(Protocol):
    """A way to one server. No redirect is followed, and nothing tried again that the server may have begun to answer: that is for
    whoever asks to decide."""

    users: float
    """How many episodes may share one."""

    async def post(self, request: Mapping[str, Any]) -> Answer:
        """The answer to a chat completion's request. Raises NoAnswer. Cancelled, it gives the connection up."""

    async def close(self) -> None:
        """Ends all connections; afterwards nothing of them is left."""
