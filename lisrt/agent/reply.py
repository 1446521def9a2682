"""What a model answered: one chat completion, checked and put into a fixed form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BadReply", "Reply", "TokenUsage", "ToolCall", "parse_arguments", "parse_reply"]

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class BadReply(Exception):
    """A successful response that is not a chat completion; the message says what it is instead."""


@dataclass(frozen=True)
class TokenUsage:
    """Tokens as the server counted them: `prompt` read, `completion` written; 0 where it sent no figures."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(self.prompt + other.prompt, self.completion + other.completion)


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
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    usage: TokenUsage
    latency: float
    raw: Mapping[str, Any]

    def as_history(self) -> dict[str, Any]:
        """The message as it is sent back to the server in later turns."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [call.as_history() for call in self.tool_calls]
        elif self.content is None:
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
    return Reply(
        content=_content(message.get("content")),
        tool_calls=_tool_calls(message.get("tool_calls"), turn),
        finish_reason=finish if isinstance(finish, str) else None,
        usage=_usage(data.get("usage")),
        latency=latency,
        raw=message,
    )


def _load(body: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
        # Lone surrogates cannot be sent back as UTF-8; '?' can.
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


def _tool_calls(value: Any, turn: int) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadReply(f"the message's tool_calls is not a list but {type(value).__name__}")
    calls: list[ToolCall] = []
    for index, item in enumerate(value):
        call = _tool_call(item, f"lisrt_{turn}_{index}", taken={call.id for call in calls})
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
    fields = value if isinstance(value, dict) else {}
    prompt, completion = fields.get("prompt_tokens"), fields.get("completion_tokens")
    return TokenUsage(
        prompt if isinstance(prompt, int) else 0,
        completion if isinstance(completion, int) else 0,
    )


def _start(body: str) -> str:
    return " ".join(body[:400].split())[:200] or "(empty body)"
