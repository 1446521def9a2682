"""A model behind an OpenAI-compatible API, and how to sample from it: settings, no connection."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from lisrt.agent.reply import TokenUsage

__all__ = ["Model", "Prices"]


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in whatever currency."""

    prompt: float
    completion: float
    cached: float | None = None
    """Of the prompt, what the server had in its cache; None: as the rest."""

    def cost(self, usage: TokenUsage) -> float:
        """What those tokens cost."""
        cached = self.prompt if self.cached is None else self.cached
        read = (usage.prompt - usage.cached) * self.prompt + usage.cached * cached
        return (read + usage.completion * self.completion) / 1e6


@dataclass(frozen=True)
class Model:
    """A model behind an OpenAI-compatible API, and how to sample from it.

    Raises ValueError for a base URL that is not http(s), an empty name, an API key that cannot be sent, or
    numbers out of range.
    """

    name: str
    """The model as its server calls it."""
    base_url: str
    """What comes before `/chat/completions`; often it ends in `/v1`."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as the bearer token; None sends a placeholder, which local servers accept. It is kept out of
    reprs, trajectories and error messages."""
    temperature: float | None = None
    """None leaves the choice to the server, here and below."""
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    """Tokens of one reply."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request body. They are recorded: no secrets here."""
    request_timeout: float = 600.0
    """Seconds for one try."""
    retries: int = 5
    """How often a try is repeated after a lost connection, a timeout, or status 408, 409, 429 or 5xx."""
    prices: Prices | None = None
    """For `AgentLimits.max_cost`, and the cost in results."""
    reasoning: str = "resend"
    """What becomes of a reply's thoughts in later turns: "resend" them as they came, which models that think between tool calls
    need, or "drop" them. The record keeps them either way."""
    retry_delay: float = 1.0
    """Seconds before the first repeat. It doubles each time, up to 60, with a random part taken off; a
    Retry-After of the server, up to 600, takes its place."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("the model name is empty")
        parts = urlsplit(self.base_url)
        if not self.base_url.isprintable():
            raise ValueError(f"the base URL holds characters that no address has: {self.base_url!r}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # .port raises for other nonsense
            raise ValueError(f"the base URL must begin with http:// or https://, not {self.base_url!r}")
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("the API key holds characters that cannot be sent (a line end, perhaps)")
        if self.api_key and self.api_key != self.api_key.strip():
            raise ValueError("the API key begins or ends with a space")
        if not (self.request_timeout > 0 and math.isfinite(self.request_timeout)):
            raise ValueError(f"request_timeout must be above 0 seconds, not {self.request_timeout}")
        if self.retries < 0 or not (self.retry_delay >= 0 and math.isfinite(self.retry_delay)):
            raise ValueError("retries and retry_delay must not be negative")
        if self.reasoning not in ("resend", "drop"):
            raise ValueError(f"reasoning is 'resend' or 'drop', not {self.reasoning!r}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        try:
            sent = [self.name, self.sampling(), dict(self.extra_body)]
            json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise ValueError(f"the name, the sampling settings and extra_body must be what JSON can carry: {error}") from error

    @property
    def public_url(self) -> str:
        """The base URL without user name, password, query and fragment: fit for messages and records."""
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def settings(self) -> dict[str, Any]:
        """Everything that shapes the replies, as plain data without the API key."""
        return {
            "name": self.name,
            "base_url": self.public_url,
            **self.sampling(),
            "extra_body": dict(self.extra_body),
            "request_timeout": self.request_timeout,
            "retries": self.retries,
            "retry_delay": self.retry_delay,
            "reasoning": self.reasoning,
            "prices": None if self.prices is None else asdict(self.prices),
        }

    def sampling(self) -> dict[str, Any]:
        """The sampling fields of a request; None means that the field is not sent."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }
