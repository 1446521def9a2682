"""What a tool is called, what it takes and what it is for; and how each kind of API wants to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FORMATS", "Definition", "canonical", "schemas"]

#: Anthropic's own tools of these kinds: models of theirs know them without a description.
_ANTHROPIC = {
    "execute_bash": {"type": "bash_20250124", "name": "bash"},
    "str_replace_editor": {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
}
_CANONICAL = {known["name"]: name for name, known in _ANTHROPIC.items()}
#: Parameters that Anthropic's editor calls otherwise.
_PARAMETERS = {"str_replace_based_edit_tool": {"insert_text": "new_str"}}


@dataclass(frozen=True)
class Definition:
    """One tool. `parameters` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def chat(self) -> dict[str, Any]:
        """For OpenAI's chat completions, and all servers that speak like it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def responses(self) -> dict[str, Any]:
        """For OpenAI's Responses API."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": False,  # strict ones know no parameter that may be left out
        }

    def anthropic(self) -> dict[str, Any]:
        """For Anthropic's Messages API: its own tool of the kind, where it has one."""
        if self.name in _ANTHROPIC:
            return dict(_ANTHROPIC[self.name])
        return {"name": self.name, "description": self.description, "input_schema": self.parameters}

    def mcp(self) -> dict[str, Any]:
        """For the Model Context Protocol."""
        return {"name": self.name, "description": self.description, "inputSchema": self.parameters}


FORMATS = ("chat", "responses", "anthropic", "mcp")


def schemas(definitions: Sequence[Definition], format: str = "chat") -> list[dict[str, Any]]:
    """The tools as an API of that format takes them: one of `FORMATS`. ValueError for another."""
    if format not in FORMATS:
        raise ValueError(f"a tool's format is one of {', '.join(FORMATS)}, not {format!r}")
    return [getattr(definition, format)() for definition in definitions]


def canonical(name: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Our name of a tool and its parameters, for a call that may use Anthropic's."""
    renamed = _PARAMETERS.get(name, {})
    return _CANONICAL.get(name, name), {renamed.get(key, key): value for key, value in values.items()}
