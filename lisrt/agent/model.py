"""One OpenAI-compatible chat endpoint: its settings, one call with retries, and what a reply may look like.

Nothing that a server sends is taken on trust: a reply is checked field by field, and what is not a chat
completion becomes a `ModelError` that names the base URL and what to do.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import math
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from lisrt.agent.reply import BadReply, Reply, parse_reply

__all__ = ["ChatClient", "ContextExceeded", "Model", "ModelError", "Retry", "load_openai"]

# Longest waits between two tries, in seconds: our own back-off, and what a server may ask for in Retry-After.
MAX_BACKOFF = 60.0
MAX_RETRY_AFTER = 600.0

_RETRY_STATUSES = frozenset({408, 409, 429})

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# Servers without a code say it in words; each pattern is the wording of at least one of them.
_CONTEXT_WORDS = re.compile(
    r"maximum context length"  # OpenAI, vLLM, SGLang, Mistral
    r"|exceeds? (the|this model's) (available |maximum )?(context|allowed length|number of tokens)"
    r"|longer than the model's context|context overflow|(prompt|input) is too long"
    r"|inputs. tokens \+ .max_new_tokens. must be",  # TGI
    re.IGNORECASE,
)

_HINTS = {
    401: "check the API key",
    403: "check the API key and what it may use",
    404: "check the model name and the base URL (it ends where /chat/completions begins, often in /v1)",
    405: "check the base URL (it ends where /chat/completions begins, often in /v1)",
}


class ModelError(Exception):
    """The endpoint gave no usable reply; the message names the base URL and what to do."""


class ContextExceeded(ModelError):
    """The conversation no longer fits into the model's context."""


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
    retry_delay: float = 1.0
    """Seconds before the first repeat. It doubles each time, up to 60, with a random part taken off; a
    Retry-After of the server, up to 600, takes its place."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("the model name is empty")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the base URL must begin with http:// or https://, not {self.base_url!r}")
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("the API key holds characters that cannot be sent (a line end, perhaps)")
        if not (self.request_timeout > 0 and math.isfinite(self.request_timeout)):
            raise ValueError(f"request_timeout must be above 0 seconds, not {self.request_timeout}")
        if self.retries < 0 or not (self.retry_delay >= 0 and math.isfinite(self.retry_delay)):
            raise ValueError("retries and retry_delay must not be negative")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")

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
        }

    def sampling(self) -> dict[str, Any]:
        """The sampling fields of a request; None means that the field is not sent."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True)
class Retry:
    """A try that failed and will be repeated after `delay` seconds; `attempt` counts from 1."""

    attempt: int
    reason: str
    delay: float


class _Transient(Exception):
    """A failure worth another try."""

    def __init__(self, reason: str, hint: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.hint = hint
        self.retry_after = retry_after


class ChatClient:
    """The connection of one episode to its model; an async context manager."""

    def __init__(self, model: Model) -> None:
        self._openai = load_openai()
        self._model = model
        self._client = self._openai.AsyncOpenAI(
            api_key=model.api_key or "none",
            base_url=model.base_url,
            timeout=model.request_timeout,
            max_retries=0,
        )
        # Both come from the environment and would go to any server; this one was named explicitly.
        self._client.organization = self._client.project = None

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        turn: int,
        on_retry: Callable[[Retry], None],
    ) -> Reply:
        """The model's next message. `on_retry` hears of every failed try before the wait.

        Raises ContextExceeded, or ModelError once the tries are used up or another try would be pointless.
        """
        request = self._request(messages, tools)
        for attempt in itertools.count(1):
            started = time.monotonic()
            try:
                text = await self._post(request)
                return parse_reply(text, turn=turn, latency=time.monotonic() - started)
            except BadReply as error:
                hint = "is it the address of an OpenAI-compatible API (often ending in /v1)?"
                raise self._error(str(error), hint) from error
            except _Transient as error:
                if attempt > self._model.retries:
                    raise self._error(f"{error} (try {attempt} of {attempt})", error.hint) from error
                delay = retry_delay(self._model.retry_delay, attempt, error.retry_after)
                on_retry(Retry(attempt, self._clean(str(error)), delay))
                await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    def _request(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        sampling = {name: value for name, value in self._model.sampling().items() if value is not None}
        extra = {"extra_body": dict(self._model.extra_body)} if self._model.extra_body else {}
        return {"model": self._model.name, "messages": messages, "tools": tools, **sampling, **extra}

    async def _post(self, request: Mapping[str, Any]) -> str:
        """One try: the body of a successful response, unread by the client library."""
        openai = self._openai
        try:
            # The library's own timeout restarts with every chunk received; this one does not.
            async with asyncio.timeout(self._model.request_timeout):
                response = await self._client.chat.completions.with_raw_response.create(**request)
        except (TimeoutError, openai.APITimeoutError) as error:
            reason = f"no reply within {self._model.request_timeout:g} s"
            raise _Transient(reason, "raise request_timeout, or see why the server is slow") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise _Transient(
                f"no connection: {cause}", "is the server running, and reachable from here?"
            ) from error
        except openai.APIStatusError as error:
            raise self._refusal(error) from error
        except openai.OpenAIError as error:
            raise self._error(str(error), "check the settings of the model") from error
        return str(response.http_response.text)

    def _refusal(self, error: Any) -> ModelError | _Transient:
        status, headers = int(error.status_code), error.response.headers
        message, code = refusal_text(error.response.text)
        reason = f"HTTP {status}: {message}"
        if code in _CONTEXT_CODES or (status != 429 and _CONTEXT_WORDS.search(message)):
            return ContextExceeded(self._clean(f"{reason} ({self._model.public_url})"))
        if status in _RETRY_STATUSES or status >= 500:
            hint = "the server is overloaded or failing: look at its log, or try again later"
            return _Transient(reason, hint, retry_after(headers, now=time.time()))
        return self._error(
            reason, _HINTS.get(status, "the server does not accept the request: see its message")
        )

    def _error(self, reason: str, hint: str) -> ModelError:
        return ModelError(self._clean(f"no reply from {self._model.public_url}: {reason}; {hint}"))

    def _clean(self, text: str) -> str:
        """`text` without the API key, which some servers quote back."""
        return text.replace(self._model.api_key, "[API key]") if self._model.api_key else text


def load_openai() -> Any:
    """The openai package. Raises ModuleNotFoundError with the command that installs it."""
    try:
        return importlib.import_module("openai")
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        text = "the agent needs the openai package: pip install 'lisrt[agent]'"
        raise ModuleNotFoundError(text, name="openai") from None


def retry_delay(base: float, attempt: int, asked: float | None) -> float:
    """Seconds to wait after failed try `attempt` (from 1): what the server asked for, else a back-off.

    Up to half of the back-off is taken off at random, so that many episodes do not come back in one wave.
    """
    if asked is not None:
        return min(asked, MAX_RETRY_AFTER)
    return min(base * 2.0 ** min(attempt - 1, 30), MAX_BACKOFF) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that Retry-After asks for, as a number or as a date seen from `now`; None without it."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def refusal_text(body: str) -> tuple[str, str | None]:
    """Message and error code of a refused request; the start of the body where it holds no message."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and isinstance(data.get("error"), dict):
        data = data["error"]
    fields = data if isinstance(data, dict) else {}
    message = next(
        (fields[key] for key in ("message", "error", "detail") if isinstance(fields.get(key), str)), body
    )
    codes = (fields.get("code"), fields.get("type"))
    code = next((code for code in codes if isinstance(code, str) and code in _CONTEXT_CODES), None)
    return " ".join(message.split())[:500] or "(empty body)", code
