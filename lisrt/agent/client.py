"""One OpenAI-compatible chat endpoint: a call with retries, and what a refusal means.

Nothing that a server sends is taken on trust: a reply is checked field by field, and what is not a chat completion becomes a
`ModelError` that names the base URL and what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

from lisrt.agent.model import Model
from lisrt.agent.reply import BadReply, Reply, parse_reply
from lisrt.agent.transport import Answer, NoAnswer, Transport, way_to

__all__ = ["ChatClient", "ContextExceeded", "ModelError", "Retry", "connection"]

# Longest waits between two tries, in seconds: our own back-off, and what a server may ask for in Retry-After.
MAX_BACKOFF = 60.0
MAX_RETRY_AFTER = 600.0

_RETRY_STATUSES = frozenset({408, 409, 429})

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# Servers without a code say it in words; each pattern is the wording of at least one of them.
_CONTEXT_WORDS = re.compile(
    r"maximum (context|prompt|input) length"  # OpenAI, vLLM, SGLang, Mistral; xAI; TensorRT-LLM
    r"|exceed(s|ed)? (the |this model's )?(available |maximum )?(context|allowed length|number of tokens|model token limit)"
    r"|context (size|length|window) (has been |was )?exceed(ed|s)"  # llama.cpp in the middle of a reply, with status 500; MiniMax
    r"|(longer|greater) than the (model's context|maximum model length|context length)|context length is only"  # vLLM, LM Studio
    r"|context overflow|(prompt|input) is too long|reduce the length of the (input|messages|prompt)"
    r"|inputs. tokens \+ .max_new_tokens. must be",  # TGI
    re.IGNORECASE,
)

# OpenAI, vLLM and SGLang, older and newer: "maximum context length is 32768 tokens", "12000 input tokens", "(1360 in the
# messages", "113533 tokens from the input messages"; vLLM today: "You passed 1193 input tokens and requested 7000 output tokens.
# However, the model's context length is only 8192 tokens".
_CONTEXT_SIZE = re.compile(r"context length(?: is only| is| of)? (\d{1,12})", re.IGNORECASE)
_SENT = re.compile(
    r"(\d{1,12}) input tokens|\((\d{1,12}) in the messages|(\d{1,12}) tokens (?:from|in) the (?:input|messages|prompt)",
    re.IGNORECASE,
)
_REQUESTED = re.compile(r"requested (\d{1,12}) output tokens", re.IGNORECASE)

# What is shorter is a placeholder for a local server, and perhaps a word.
_SHORTEST_KEY = 6

# Asking again brings none.
_NO_CREDIT = "insufficient_quota"
# vLLM without a parser for calls; Ollama and others whose model knows none.
_NO_TOOLS = re.compile(r"tool[ _-]choice|does not support (tools|function)|tools? (is|are) not supported", re.IGNORECASE)

_HINTS = {
    401: "check the API key",
    403: "check the API key and what it may use",
    404: "check the model name and the base URL (it ends where /chat/completions begins, often in /v1)",
    405: "check the base URL (it ends where /chat/completions begins, often in /v1)",
}


class ModelError(Exception):
    """The endpoint gave no usable reply; the message names the base URL and what to do. `status`: of a refusal; else None."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ContextExceeded(ModelError):
    """The conversation no longer fits into the model's context.

    `room`: tokens that the server has left for a reply, where its message says so; 0 where it does not.
    """

    def __init__(self, message: str, room: int = 0) -> None:
        super().__init__(message)
        self.room = room


@dataclass(frozen=True)
class Retry:
    """A try that failed and will be repeated after `delay` seconds; `attempt` counts from 1."""

    attempt: int
    reason: str
    delay: float


class _Transient(Exception):
    """A failure worth another try."""

    def __init__(self, reason: str, hint: str, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.hint = hint
        self.status = status
        self.retry_after = retry_after


class ChatClient:
    """A model's endpoint, see `connection`. Any number of episodes may use it at once."""

    def __init__(self, model: Model, transport: Transport) -> None:
        self._model = model
        self._transport = transport

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        fields: Mapping[str, Any],
        *,
        turn: int,
        on_retry: Callable[[Retry], None],
        max_tokens: int | None = None,
    ) -> Reply:
        """The model's next message. `fields`: what else belongs into the request, the tools for example. `max_tokens`: fewer than
        the model's own. `on_retry` hears of every failed try before the wait.

        Raises ContextExceeded, or ModelError once the tries are used up or another try would be pointless.
        """
        request = self._request(messages, fields, max_tokens)
        for attempt in itertools.count(1):
            started = time.monotonic()
            try:
                text = await self._post(request)
                return parse_reply(text, turn=turn, latency=time.monotonic() - started)
            except BadReply:
                hint = "is it the address of an OpenAI-compatible API (often ending in /v1)?"
                raise self._error(why_bad(self._clean(text)), hint) from None
            except _Transient as error:
                if attempt > self._model.retries:
                    raise self._error(f"{error} (try {attempt} of {attempt})", error.hint, error.status) from error
                delay = retry_delay(self._model.retry_delay, attempt, error.retry_after)
                on_retry(Retry(attempt, self._clean(str(error)), delay))
                await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    def _request(
        self, messages: Sequence[Mapping[str, Any]], fields: Mapping[str, Any], max_tokens: int | None
    ) -> dict[str, Any]:
        sampling = {name: value for name, value in self._model.sampling().items() if value is not None}
        if max_tokens is not None:
            sampling["max_tokens"] = max_tokens
        return {"model": self._model.name, "messages": messages, **fields, **sampling, **self._model.extra_body}

    async def _post(self, request: Mapping[str, Any]) -> str:
        """One try: the body of a successful response."""
        try:
            async with asyncio.timeout(self._model.request_timeout):
                answer = await self._transport.post(request)
        except TimeoutError as error:
            reason = f"no reply within {self._model.request_timeout:g} s"
            raise _Transient(reason, "raise request_timeout, or see why the server is slow") from error
        except NoAnswer as error:
            reason = self._clean(f"no connection: {error}")[:500]  # cleaned before it is cut: half a key is one, too
            raise (self._error(reason, error.hint) if error.final else _Transient(reason, error.hint)) from error
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        if status := status_within(answer.text):
            raise self._refusal(replace(answer, status=status))
        return answer.text

    def _refusal(self, answer: Answer) -> ModelError | _Transient:
        status = answer.status
        message, code = refusal_text(answer.text)
        shown, _ = refusal_text(self._clean(answer.text))  # before it is cut: half a key is one, too
        reason = f"HTTP {status}: {shown}"
        if code in _CONTEXT_CODES or (status != 429 and _CONTEXT_WORDS.search(message)):
            return ContextExceeded(self._clean(f"{reason} ({self._model.public_url})"), room_left(message))
        if code == _NO_CREDIT:
            return self._error(reason, "the account has no credit left", status)
        if status in _RETRY_STATUSES or status >= 500:
            hint = "the server is overloaded or failing: look at its log, or try again later"
            return _Transient(reason, hint, retry_after(answer.headers, now=time.time()), status)
        if status < 400:  # not followed: neither the key nor the conversation goes where nobody has named
            where = answer.headers.get("location", "")
            with contextlib.suppress(ValueError):  # of what is no address
                where = urljoin(f"{self._model.public_url.rstrip('/')}/chat/completions", where)
            where = self._clean(where).removesuffix("/").removesuffix("/chat/completions")[:200]
            return self._error(f"HTTP {status}: moved", f"if {where!r} is right, make it the base URL", status)
        if status == 401 and not self._model.api_key:
            return self._error(reason, "no API key was given: set OPENAI_API_KEY, or Model.api_key", status)
        if status == 400 and _NO_TOOLS.search(message):
            return self._error(reason, 'the server can\'t do tool calls as it was started; protocol "bash" needs none', status)
        return self._error(reason, _HINTS.get(status, "the server does not accept the request: see its message"), status)

    def _error(self, reason: str, hint: str, status: int | None = None) -> ModelError:
        return ModelError(self._clean(f"no reply from {self._model.public_url}: {reason}; {hint}"), status=status)

    def _clean(self, text: str) -> str:
        """`text` without the API key, which some servers quote back, and some messages as Python would write it."""
        key = self._model.api_key or ""
        if len(key) < _SHORTEST_KEY:
            return text
        for form in dict.fromkeys((key, repr(key)[1:-1], json.dumps(key)[1:-1])):
            text = text.replace(form, "[API key]")
        return text


def room_left(message: str) -> int:
    """Tokens left for a reply: the context's size without what was sent, as servers put it into words; 0 where they don't."""
    context, sent, requested = (found.search(message) for found in (_CONTEXT_SIZE, _SENT, _REQUESTED))
    if context is None or sent is None:
        return 0
    size, count = int(context[1]), int(next(filter(None, sent.groups())))
    if requested is not None and count + int(requested[1]) == size + 1:  # vLLM counts no further than it must
        return int(requested[1]) // 2
    return max(size - count, 0)


@asynccontextmanager
async def connection(model: Model) -> AsyncIterator[ChatClient]:
    """A client for that model; what it has open is shared by the episodes of an event loop, see `way_to`."""
    async with way_to(model.base_url, model.api_key) as transport:
        yield ChatClient(model, transport)


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
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def why_bad(body: str) -> str:
    """What is wrong with a body that is no chat completion."""
    try:
        parse_reply(body, turn=1, latency=0.0)
    except BadReply as error:
        return str(error)
    return "the response is no chat completion"


def status_within(body: str) -> int:
    """The status that a gateway has put into a body instead of the response's head; 0 for any other body."""
    if '"error"' not in body:
        return 0
    try:
        data = json.loads(body)
        code = str(data["error"]["code"]) if not data.get("choices") else ""
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return 0
    return int(code) if re.fullmatch("[45][0-9][0-9]", code, re.ASCII) else 0


def refusal_text(body: str) -> tuple[str, str | None]:
    """Message and error code of a refused request; the start of the body where it holds no message."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and isinstance(data.get("error"), dict):
        data = data["error"]
    fields = data if isinstance(data, dict) else {}
    message = next((fields[key] for key in ("message", "error", "detail") if isinstance(fields.get(key), str)), body)
    codes = (fields.get("code"), fields.get("type"))
    code = next((code for code in codes if isinstance(code, str) and code in (*_CONTEXT_CODES, _NO_CREDIT)), None)
    return " ".join(message.split())[:500] or "(empty body)", code
