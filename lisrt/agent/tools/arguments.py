"""The arguments of a call, held against the schema that the model was given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lisrt.agent.reply import parse_arguments
from lisrt.agent.tools.edits import cap
from lisrt.agent.tools.observation import ToolError

__all__ = ["checked", "needed", "parsed"]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
}
_NUMBER = re.compile(r"\s*-?\d{1,18}(\.\d{1,18})?\s*")


def parsed(arguments: str | Mapping[str, Any]) -> dict[str, Any]:
    """JSON text, or what an SDK has made of it. A null counts as left out. Raises ToolError."""
    if not isinstance(arguments, str):
        return {name: value for name, value in arguments.items() if value is not None}
    try:
        values = parse_arguments(arguments)
    except ValueError as error:
        raise ToolError(f"the arguments are not a JSON object ({error}): {cap(arguments, 400)}") from error
    return {name: value for name, value in values.items() if value is not None}


def checked(values: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the schema wants them. Raises ToolError for what is unknown, missing or of the wrong type.

    A number or a list that comes as text ("12", "[1, 5]") is taken for what it says: weak models write them so.
    """
    known: Mapping[str, Mapping[str, Any]] = schema["properties"]
    found = {}
    for name, value in values.items():
        if name not in known:
            raise ToolError(f"there is no parameter {name!r}; the parameters are {', '.join(known) or 'none'}")
        found[name] = _typed(name, value, known[name])
    for name in schema["required"]:
        needed(found, name)
    return found


def needed(values: Mapping[str, Any], name: str) -> Any:
    """Raises ToolError where it is missing."""
    if name not in values:
        raise ToolError(f"{name} is missing")
    return values[name]


def _typed(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and schema["type"] != "string":
        value = _read(value)
    if isinstance(value, float) and schema["type"] == "integer" and value.is_integer():
        value = int(value)
    if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool) != (schema["type"] == "boolean"):
        raise ToolError(f"{name} must be of type {schema['type']}, not {type(value).__name__}")
    if isinstance(value, (int, float)) and not abs(value) < 1 << 50:
        raise ToolError(f"{name} is too large a number")
    if "enum" in schema and value not in schema["enum"]:
        raise ToolError(f"{name} must be one of {', '.join(schema['enum'])}, not {value!r}")
    if isinstance(value, list):
        return [_typed(f"every item of {name}", item, schema["items"]) for item in value]
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ToolError(f"{name} holds half of a surrogate pair, which is no character") from error
    return value


def _read(text: str) -> Any:
    """A number, a truth value or a list of numbers that was written as text; else the text."""
    if _NUMBER.fullmatch(text) or text.strip() in ("true", "false") or (len(text) < 100 and text.strip().startswith("[")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
