"""What an episode does, a line a step, for people who watch."""

from __future__ import annotations

import json
from typing import Any

from lisrt.cli.streams import tell

WIDTH = 100


def show(record: dict[str, Any]) -> None:
    """One record of a trajectory, on stderr."""
    line = _line(record)
    if line:
        tell(line)


def _line(record: dict[str, Any]) -> str:
    match record["type"]:
        case "sandbox":
            return f"sandbox {record['id']} of image {record['image']}"
        case "tool":
            return f"turn {record['turn']}: {_call(record)} -> {record['outcome']}, {record['duration']:.1f} s"
        case "reminder":
            return "the model is asked for an answer" if record.get("last") else f"turn {record['turn']}: no tool call"
        case "resume":
            back = f"; {len(record['taken_back'])} tool calls taken back" if record["taken_back"] else ""
            return f"going on after turn {record['turn']}{back}"
        case "trim":
            return f"turn {record['turn']}: the context is full; {len(record['messages'])} old observations are left out"
        case "retry":
            why = ascii(record["reason"])[1:-1]  # a server's words
            return f"try {record['attempt']} of turn {record['turn']} failed: {why}; next in {record['delay']:.0f} s"
    return ""


def _call(record: dict[str, Any]) -> str:
    try:
        arguments = json.loads(record["arguments"])
    except ValueError:
        arguments = record["arguments"]
    words = " ".join(str(value) for value in arguments.values()) if isinstance(arguments, dict) else str(arguments)
    words = ascii(f"{record['name']} {words}".strip())[1:-1]
    return words if len(words) <= WIDTH else words[: WIDTH - 3] + "..."
