"""A tool call as people read it: a script, an edit; and what came of it, in words."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lisrt.agent.reply import ToolCall, parse_arguments
from lisrt.agent.tools.definitions import canonical
from lisrt.agent.view.words import amount, bytes_of, items, number, seconds, text_of, whole

__all__ = ["Call", "Part", "ended", "unanswered"]

_WORDS = {
    "timed_out": "timed out",
    "out_of_memory": "out of memory",
    "not_run": "not run",
    "sandbox_error": "the sandbox failed",
}
#: A command's figures that are told, and from which number of bytes on.
_AMOUNTS = (
    ("memory_peak", "peak {}", 64 << 20),
    ("written", "{} written", 1 << 20), ("sent", "{} sent", 1), ("received", "{} received", 1),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One text of a call."""

    label: str
    """What it is; "" for what needs no name."""
    text: str
    kind: str
    """"script", "added", "removed" or "text"."""


@dataclass(frozen=True)
class Call:
    """One tool call."""

    name: str
    title: str
    """What is done to what, in a few words; may be empty."""
    parts: tuple[Part, ...]
    outcome: str
    """What came of it, in a few words."""
    look: str
    """"good", "bad", "poor" (a program that has failed) or "none"."""
    facts: tuple[str, ...]
    """What else is known of it, in words."""
    observation: str | None
    """What the model was answered; None for nothing."""


def ended(record: Mapping[str, Any]) -> Call:
    """The call of a `tool` record."""
    name, title, parts = _shown(text_of(record.get("name")), text_of(record.get("arguments")))
    outcome, look = _outcome(record)
    observation = record.get("observation")
    return Call(name, title, parts, outcome, look, _facts(record), None if observation is None else text_of(observation))


def unanswered(call: ToolCall) -> Call:
    """One that was asked for, and that no record tells the end of."""
    name, title, parts = _shown(call.name, call.arguments)
    return Call(name, title, parts, "asked for; whether it ran is not recorded", "none", (), None)


def _shown(name: str, arguments: str) -> tuple[str, str, tuple[Part, ...]]:
    """The name, a title, and the texts of the arguments. Whatever is not understood is shown as it was sent."""
    try:
        known, values = canonical(name, parse_arguments(arguments))
    except ValueError:
        return name, "", (Part("arguments, as sent", arguments, "text"),)
    rest = {key: value for key, value in values.items() if value is not None}
    title, parts = "", []
    if known == "execute_bash":
        parts += _taken(rest, "command", "", "script")
        title = _title(rest, timeout="timeout {} s", restart="restart {}")
    elif known == "str_replace_editor":
        title = _title(rest, command="{}", path="{}", view_range="lines {}", insert_line="after line {}")
        parts += _taken(rest, "file_text", "", "added")
        replaced = "old_str" in rest
        parts += _taken(rest, "old_str", "old", "removed")
        parts += _taken(rest, "new_str", "new" if replaced else "", "added")
    parts += [Part(key, text_of(value), "text") for key, value in rest.items()]
    return name, title, tuple(parts)


def _taken(values: dict[str, Any], key: str, label: str, kind: str) -> list[Part]:
    return [Part(label, values.pop(key), kind)] if isinstance(values.get(key), str) else []


def _title(values: dict[str, Any], **forms: str) -> str:
    """What is short enough for a title. What is not stays where it is, to be shown as a text."""
    words = []
    for key, form in forms.items():
        value = values.get(key)
        plain = isinstance(value, list) and len(value) < 5 and all(isinstance(one, int) for one in value)
        text = " to ".join(map(str, value)) if isinstance(value, list) and plain else text_of(value)
        if text and len(text) <= 200 and "\n" not in text:
            words.append(form.format(text))
            del values[key]
    return " ".join(words)


def _outcome(record: Mapping[str, Any]) -> tuple[str, str]:
    outcome = text_of(record.get("outcome"))
    if outcome == "exited":
        code = whole(record.get("exit_code"))
        return f"exit code {code}", "poor" if code else "good"
    if outcome == "signaled":
        return f"killed by {_signal(record.get('signal'))}", "bad"
    look = {"done": "good", "submitted": "good", "not_run": "none"}.get(outcome, "bad")
    return _WORDS.get(outcome, outcome or "no outcome"), look


def _signal(value: Any) -> str:
    try:
        return signal.Signals(whole(value)).name
    except ValueError:
        return f"signal {text_of(value)}"


def _facts(record: Mapping[str, Any]) -> tuple[str, ...]:
    found = [seconds(record.get("duration"))]
    cpu = number(record.get("cpu"))
    if cpu is not None and cpu >= 0.1:
        found.append(f"cpu {seconds(cpu)}")
    for key, form, least in _AMOUNTS:
        if whole(record.get(key)) >= least:
            found.append(form.format(bytes_of(record[key])))
    if whole(record.get("cut")):
        found.append(f"{bytes_of(record['cut'])} of its output not shown to the model")
    elif record.get("truncated") is True:
        found.append("output cut")
    if whole(record.get("denied")):
        found.append(f"{amount(whole(record['denied']), 'request')} denied")
    if items(record.get("exhausted")):
        found.append(f"limit reached: {', '.join(map(text_of, record['exhausted']))}")
    return tuple(filter(None, found))
