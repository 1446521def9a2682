"""How a model asks for a tool: in the API's own way, or in its text where server or model know no other.

A protocol says what the model is told, what goes into the request, which calls a reply makes, and how reply and answers stand in
the conversation. All of it is pure: the same records make the same conversation again (see `conversation`).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

from lisrt.agent.reply import MAX_CALLS, Reply, ToolCall
from lisrt.agent.tools import Definition, schemas

__all__ = ["PROTOCOLS", "Calling", "calling"]


class Calling(Protocol):
    """One way of asking."""

    def instructions(self, definitions: Sequence[Definition]) -> str:
        """What the system text has to say about it; "" for nothing."""

    def fields(self, definitions: Sequence[Definition], *, last: bool = False) -> dict[str, Any]:
        """What goes into the request; `last` where no call is wanted any more."""

    def calls(self, reply: Reply, turn: int) -> tuple[ToolCall, ...]:
        """The calls of a reply, in order."""

    def said(self, reply: Reply, *, with_reasoning: bool) -> dict[str, Any]:
        """The reply as it is sent back."""

    def answer(self, call: ToolCall, text: str, before: dict[str, Any]) -> dict[str, Any] | None:
        """A message for the answer; None when it was added to the one `before`."""

    def reminder(self) -> str:
        """What a reply without a call is told about how to make one; "" for nothing."""


class Native:
    """Function calling of the API."""

    def instructions(self, definitions: Sequence[Definition]) -> str:
        return ""

    def fields(self, definitions: Sequence[Definition], *, last: bool = False) -> dict[str, Any]:
        # the tools stay: servers refuse a conversation with calls of tools that they were not told of
        return {"tools": schemas(definitions, "chat"), **({"tool_choice": "none"} if last else {})}

    def calls(self, reply: Reply, turn: int) -> tuple[ToolCall, ...]:
        return reply.tool_calls

    def said(self, reply: Reply, *, with_reasoning: bool) -> dict[str, Any]:
        return reply.as_history(with_reasoning=with_reasoning)

    def answer(self, call: ToolCall, text: str, before: dict[str, Any]) -> dict[str, Any] | None:
        return {"role": "tool", "tool_call_id": call.id, "content": text}

    def reminder(self) -> str:
        return ""


class _InText(ABC):
    """Calls in the text of a reply; the answers of a turn are one message of the user."""

    def fields(self, definitions: Sequence[Definition], *, last: bool = False) -> dict[str, Any]:
        return {}

    def calls(self, reply: Reply, turn: int) -> tuple[ToolCall, ...]:
        found = islice(self._found(reply.content or ""), MAX_CALLS)
        return tuple(
            ToolCall(f"lisrt_{turn}_{number}", name, arguments) for number, (name, arguments) in enumerate(found)
        )

    @abstractmethod
    def _found(self, text: str) -> Iterable[tuple[str, str]]:
        """Name and JSON arguments of the calls in a text."""

    def said(self, reply: Reply, *, with_reasoning: bool) -> dict[str, Any]:
        message = reply.as_history(with_reasoning=with_reasoning)
        message.pop("tool_calls", None)
        return {**message, "content": message["content"] or ""}

    def answer(self, call: ToolCall, text: str, before: dict[str, Any]) -> dict[str, Any] | None:
        number = int(call.id.rpartition("_")[2]) + 1
        text = f"[answer {number}: {call.name}]\n{text}"
        if before["role"] == "user":  # templates refuse two messages of the user in a row
            before["content"] += f"\n\n{text}"
            return None
        return {"role": "user", "content": text}


_FENCE = re.compile(r"(`{3,})(bash|sh|submit)?[ \t]*")


def _blocks(text: str) -> Iterable[tuple[str, str]]:
    """Kind and text of the fenced blocks. Line by line: a pattern for all of it took seconds for a reply that repeats itself."""
    fence, kind, lines = "", "", list[str]()
    for line in text.splitlines(keepends=True):
        match = _FENCE.fullmatch(line.rstrip("\n"))
        if not fence:
            if match and match[2]:
                fence, kind, lines = match[1], match[2], []
        elif match and match[1] == fence and not match[2]:
            yield kind, "".join(lines)
            fence = ""
        else:
            lines.append(line)


class Fenced(_InText):
    """Scripts in fenced blocks: for models that were never taught to call tools."""

    def instructions(self, definitions: Sequence[Definition]) -> str:
        bash = next(one for one in definitions if one.name == "execute_bash")
        return (
            "How to use the computer\n"
            "Write a script in a block that begins with ```bash and ends with ```, on lines of their own. "
            f"{bash.description} Several blocks in one reply run in order. If a script itself has such lines, use more "
            "backquotes around it.\nTo finish, write a block that begins with ```submit and ends with ```."
        )

    def _found(self, text: str) -> Iterable[tuple[str, str]]:
        for kind, script in _blocks(text):
            if kind == "submit" or script.strip() == "submit":  # as if it were a program: small models do
                yield "submit", "{}"
            else:
                yield "execute_bash", json.dumps({"command": script})

    def reminder(self) -> str:
        return "A call is a block that begins with ```bash (or ```submit, to finish) and ends with ```."


_NAME = re.compile(r"([^>\s]{1,100})>\n?")


def _functions(text: str) -> Iterable[tuple[str, dict[str, str]]]:
    """Name and parameters of the calls; the last one may lack its end."""
    for part in text.split("<function=")[1:]:
        name = _NAME.match(part)
        if name is None:
            continue
        values = {}
        for one in part[name.end() :].partition("</function>")[0].split("<parameter=")[1:]:
            parameter, end = _NAME.match(one), one.find("</parameter>")
            if parameter is not None and end >= parameter.end():
                values[parameter[1]] = one[parameter.end() : end].removesuffix("\n")
        yield name[1], values


class Xml(_InText):
    """Calls in tags, as R2E-Gym, OpenHands and Qwen3-Coder write them."""

    def instructions(self, definitions: Sequence[Definition]) -> str:
        tools = "\n\n".join(_described(definition) for definition in definitions)
        return (
            "How to call a tool\nWrite, for example\n<function=execute_bash>\n<parameter=command>\nls -l\n</parameter>\n"
            "</function>\nThe text of a parameter is taken as it stands. Several calls in one reply are carried out in order.\n\n"
            f"The tools\n{tools}"
        )

    def _found(self, text: str) -> Iterable[tuple[str, str]]:
        for name, values in _functions(text):
            yield name, json.dumps(values)

    def reminder(self) -> str:
        return "A call is written <function=NAME> <parameter=NAME>value</parameter> </function>."


class Json(_InText):
    """One JSON object in each reply; where the server can hold a model to a schema, it is held to this one."""

    def instructions(self, definitions: Sequence[Definition]) -> str:
        tools = "\n\n".join(_described(definition) for definition in definitions)
        return (
            'How to call a tool\nEach reply is one JSON object, {"thought": "...", "tool": NAME, "arguments": {...}}, and '
            f"nothing else.\n\nThe tools\n{tools}"
        )

    def fields(self, definitions: Sequence[Definition], *, last: bool = False) -> dict[str, Any]:
        if last:
            return {}
        any_of = [
            {
                "type": "object",
                "properties": {
                    "thought": {"type": "string"},
                    "tool": {"const": one.name},
                    "arguments": dict(one.parameters),
                },
                "required": ["thought", "tool", "arguments"],
                "additionalProperties": False,
            }
            for one in definitions
        ]
        schema = {"name": "tool_call", "schema": {"anyOf": any_of}}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _found(self, text: str) -> Iterable[tuple[str, str]]:
        try:
            value = json.loads(text[text.index("{") : text.rindex("}") + 1], strict=False)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict) and isinstance(value.get("tool"), str):
            arguments = value.get("arguments", {})
            yield value["tool"], arguments if isinstance(arguments, str) else json.dumps(arguments)

    def reminder(self) -> str:
        return 'A reply is one JSON object: {"thought": "...", "tool": NAME, "arguments": {...}}.'


def _described(definition: Definition) -> str:
    required = definition.parameters["required"]
    lines = [f"{definition.name}: {definition.description}"]
    for name, schema in definition.parameters["properties"].items():
        kind = schema["type"] if "enum" not in schema else "one of " + ", ".join(schema["enum"])
        need = "" if name in required else ", may be left out"
        lines.append(f"  {name} ({kind}{need}): {schema.get('description', '')}".rstrip(": "))
    return "\n".join(lines)


PROTOCOLS: dict[str, type[Calling]] = {"native": Native, "bash": Fenced, "xml": Xml, "json": Json}


def calling(name: str) -> Calling:
    """The protocol of that name. ValueError."""
    if name not in PROTOCOLS:
        raise ValueError(f"a protocol is one of {', '.join(PROTOCOLS)}, not {name!r}")
    return PROTOCOLS[name]()
