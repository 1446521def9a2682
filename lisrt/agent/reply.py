"""What a model answered: one chat completion, checked and put into a fixed form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BadReply", "Reply", "TokenUsage", "ToolCall", "parse_arguments", "parse_reply", "read_message"]

#: Where servers put what a model has thought: DeepSeek, vLLM and llama.cpp; OpenRouter and newer vLLM.
_REASONING_FIELDS = ("reasoning_content", "reasoning")
#: Halves of surrogate pairs travel as escapes only.
_SURROGATE = re.compile(r"\\u[dD][89abcdefABCDEF]")

MAX_CALLS = 100
"""Of one reply; the rest is as if it had not been said."""

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class BadReply(Exception):
    """A successful response that is not a chat completion; the message says what it is instead."""


@dataclass(frozen=True)
class TokenUsage:
    """Tokens as the server counted them; 0 where it sent no figures."""

    prompt: int = 0
    """Read, those from its cache included."""
    completion: int = 0
    """Written, reasoning included."""
    cached: int = 0
    """Of `prompt`: what the server had in its cache."""
    reasoning: int = 0
    """Of `completion`: what was thought rather than said."""

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True)
class ToolCall:
    """One call that a reply asks for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str

    def as_history(self) -> dict[str, Any]:
        """The call as it is sent back to the server.

        Servers parse the arguments of old calls and refuse the whole request over one that is malformed, so
        those go back as `{}`; the answer to the call quotes what the model wrote.
        """
        name = _NOT_IN_A_NAME.sub("_", self.name)[:64] or "unknown"
        return {"id": self.id, "type": "function", "function": {"name": name, "arguments": self._sendable()}}

    def _sendable(self) -> str:
        try:
            values = parse_arguments(self.arguments)
        except ValueError:
            return "{}"
        try:
            json.loads(self.arguments)
        except ValueError:  # nothing at all, or bare line ends inside strings
            return json.dumps(values)
        return self.arguments


@dataclass(frozen=True)
class Reply:
    """One assistant message. `raw` is the message as received; `latency` is in seconds."""

    content: str | None
    """What was said, without the thoughts that came in tags before it."""
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    usage: TokenUsage
    latency: float
    raw: Mapping[str, Any]
    reasoning: str | None = None
    """What was thought, in a field of its own or in `<think>` tags; None where nothing was sent."""
    reasoning_field: str | None = None
    """The field that it came in; None when it came in tags."""

    def as_history(self, *, with_reasoning: bool = True) -> dict[str, Any]:
        """The message as it is sent back to the server in later turns, with the thoughts as they came or without."""
        tagged = self.reasoning is not None and self.reasoning_field is None
        content = _content(self.raw.get("content")) if with_reasoning and tagged else self.content
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if with_reasoning and self.reasoning_field is not None:
            message[self.reasoning_field] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_history() for call in self.tool_calls]
        elif content is None:
            message["content"] = ""  # a message needs one of the two
        return message


def parse_arguments(text: str) -> dict[str, Any]:
    """The arguments of a call; an empty text means none. Raises ValueError unless it is a JSON object.

    Line ends and tabs inside strings are accepted as they are: models write them, and their meaning is plain.
    """
    if not text.strip():
        return {}
    try:
        values = json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"a JSON object is expected, not {type(values).__name__}")
    return values


def parse_reply(body: str, *, turn: int, latency: float) -> Reply:
    """The reply in the body of a response. Raises BadReply.

    A call without a usable id gets one made from `turn` and its place: every call must be answered by id.
    """
    data = _load(body)
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadReply(f"the response has no choices: {_start(body)}")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise BadReply(f"the response's first choice has no message: {_start(body)}")
    finish = choice.get("finish_reason")
    return read_message(
        message,
        turn=turn,
        finish_reason=finish if isinstance(finish, str) else None,
        usage=_usage(data.get("usage")),
        latency=latency,
    )


def read_message(
    message: Mapping[str, Any],
    *,
    turn: int,
    finish_reason: str | None = None,
    usage: TokenUsage | None = None,
    latency: float = 0.0,
) -> Reply:
    """The reply that an assistant message is, just received or out of a trajectory. Raises BadReply."""
    content, reasoning, field = _thoughts(message)
    return Reply(
        content=content,
        reasoning=reasoning,
        reasoning_field=field,
        tool_calls=_tool_calls(message.get("tool_calls"), turn),
        finish_reason=finish_reason,
        usage=usage or TokenUsage(),
        latency=latency,
        raw=message,
    )


def _load(body: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
        if _SURROGATE.search(body):  # a lone one cannot be sent back as UTF-8; '?' can
            data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise BadReply(f"the response is not JSON: {_start(body)}") from error
    if not isinstance(data, dict):
        raise BadReply(f"the response is not a JSON object: {_start(body)}")
    return data


def _content(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    raise BadReply(f"the message's content is neither text nor a list but {type(value).__name__}")


def _thoughts(message: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """What was said, what was thought, and the field of the latter."""
    content = _content(message.get("content"))
    for field in _REASONING_FIELDS:
        if isinstance(message.get(field), str) and message[field]:
            return content, message[field], field
    return *_untagged(content), None


def _untagged(content: str | None) -> tuple[str | None, str | None]:
    """What was said and what was thought, of a text that may begin with thoughts in tags. Templates that open the tag themselves
    leave only its end; a reply that was cut off has only its beginning."""
    text = (content or "").lstrip()
    opened, end = text.startswith("<think>"), text.find("</think>")
    if end < 0:
        return ("", text.removeprefix("<think>")) if opened else (content, None)
    before = text[:end]
    if not opened and ("<think>" in before or "<function=" in before or before.count("```") % 2):  # it speaks of them
        return content, None
    return text[end + len("</think>") :].lstrip(), text[:end].removeprefix("<think>")


def _tool_calls(value: Any, turn: int) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadReply(f"the message's tool_calls is not a list but {type(value).__name__}")
    calls: list[ToolCall] = []
    taken: set[str] = set()
    for index, item in enumerate(value[:MAX_CALLS]):
        call = _tool_call(item, f"lisrt_{turn}_{index}", taken)
        taken.add(call.id)
        calls.append(call)
    return tuple(calls)


def _tool_call(item: Any, fallback_id: str, taken: set[str]) -> ToolCall:
    fields = item if isinstance(item, dict) else {}
    function = fields.get("function")
    function = function if isinstance(function, dict) else {}
    name, arguments, call_id = function.get("name"), function.get("arguments"), fields.get("id")
    if arguments is None:
        arguments = ""
    if not isinstance(call_id, str) or not call_id or call_id in taken:
        call_id = fallback_id
    return ToolCall(
        id=call_id,
        name=name if isinstance(name, str) else "",
        arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
    )


def _usage(value: Any) -> TokenUsage:
    return TokenUsage(
        prompt=_count(value, "prompt_tokens"),
        completion=_count(value, "completion_tokens"),
        cached=_count(value, "prompt_tokens_details", "cached_tokens"),
        reasoning=_count(value, "completion_tokens_details", "reasoning_tokens"),
    )


def _count(value: Any, *path: str) -> int:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 50 else 0


def _start(body: str) -> str:
    return " ".join(body[:400].split())[:200] or "(empty body)"
