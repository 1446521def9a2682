"""What is said of an episode before its turns: rows of a name and a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lisrt.agent.episode import FAULTS
from lisrt.agent.view.episode import Overview
from lisrt.agent.view.words import (
    amount,
    bytes_of,
    items,
    listing,
    mapping,
    moment,
    moved,
    number,
    seconds,
    text_of,
    tokens,
    whole,
)

__all__ = ["Rows", "answer", "facts", "is_good", "prompts", "reason", "settings"]

Rows = list[tuple[str, str]]

UNFINISHED = "not ended"
_SOURCES = {"file": "from the answer file", "call": "given to submit", "reply": "its last reply, when asked for one"}


def reason(overview: Overview) -> str:
    """Why it ended, in the words of `ExitReason`; UNFINISHED where it has not."""
    return UNFINISHED if overview.end is None else text_of(overview.end.get("exit_reason")) or "?"


def is_good(word: str) -> bool | None:
    """Of an exit reason: True when the model has submitted, None for a fault that is not its own, or no end."""
    return None if word in FAULTS or word == UNFINISHED else word == "submitted"


def answer(overview: Overview) -> tuple[str | None, str]:
    """The answer, and where it is from."""
    end = overview.end or {}
    found = end.get("answer")
    return None if found is None else text_of(found), _SOURCES.get(text_of(end.get("answer_from")), "")


def facts(overview: Overview) -> Rows:
    """The rows that are always shown; those without a text are left out."""
    start, end = overview.start, overview.end or {}
    rows = [
        ("task id", text_of(start.get("id"))),
        ("exit reason", _ending(overview)),
        ("error", text_of(end.get("error"))),
        ("model", _model(mapping(start.get("model")))),
        ("agent", _agent(mapping(start.get("agent")))),
        ("turns", _turns(overview)),
        ("tokens", tokens(mapping(end.get("usage")) or overview.usage)),
        ("cost", _cost(end.get("cost"))),
        ("time", _time(overview, end)),
        ("sandbox", _sandbox(overview, mapping(end.get("sandbox_usage")))),
        ("input", _input(overview)),
        ("output", "" if overview.output is None else moved(overview.output)),
        ("began", moment(start.get("time"))),
    ]
    return [(name, text) for name, text in rows if text]


def settings(overview: Overview) -> list[tuple[str, Rows]]:
    """What it ran with, by headings: longer, and seldom looked at."""
    start = overview.start
    model = {key: one for key, one in mapping(start.get("model")).items() if key != "name"}
    found = [
        ("Enforced in the sandbox", listing(mapping(overview.sandbox.get("guarantees")))),
        ("Model", listing(model)),
        ("Agent", listing(mapping(start.get("agent")))),
        ("Limits", listing(mapping(start.get("limits")))),
        ("Paths", listing(mapping(start.get("paths")))),
        ("Data of the task", listing(mapping(start.get("data")))),
        ("Versions", listing(mapping(start.get("versions")))),
    ]
    return [(heading, rows) for heading, rows in found if rows]


def prompts(overview: Overview) -> list[tuple[str, str]]:
    """Role and text of the messages as they were sent first."""
    messages = [mapping(one) for one in items(overview.start.get("messages"))]
    return [(text_of(one.get("role")) or "?", text_of(one.get("content"))) for one in messages]


def _ending(overview: Overview) -> str:
    if overview.end is None:
        last = moment(overview.last)
        return f"none: the episode goes on, or its process has ended{f'; last record {last}' if last else ''}"
    word = reason(overview)
    return f"{word} (not the model's doing)" if word in FAULTS else word


def _model(model: Mapping[str, Any]) -> str:
    name, url = text_of(model.get("name")), text_of(model.get("base_url"))
    words = [f"{name} at {url}" if url else name]
    for key in ("temperature", "top_p", "seed", "max_tokens"):
        words.append(f"{key} {text_of(model[key])}" if model.get(key) is not None else "")
    return ", ".join(filter(None, words))


def _agent(agent: Mapping[str, Any]) -> str:
    words = [text_of(agent.get("profile"))]
    words += [f"{key} {text_of(agent[key])}" for key in ("protocol", "shell") if agent.get(key)]
    words += [f"without {text_of(one)}" for one in items(agent.get("without"))]
    return ", ".join(filter(None, words))


def _turns(overview: Overview) -> str:
    words = f"{whole((overview.end or {}).get('turns')) or overview.turns:,}"
    if overview.resumes:
        words += f"; resumed {'once' if overview.resumes == 1 else f'{overview.resumes:,} times'}"
    return f"{words}, {amount(overview.taken_back, 'turn')} taken back" if overview.taken_back else words


def _cost(value: Any) -> str:
    found = number(value)
    return "" if found is None else f"{found:.4g}"


def _time(overview: Overview, end: Mapping[str, Any]) -> str:
    tools = number(end.get("tool_time"))
    parts = [
        ("in all", seconds(end.get("duration"))),
        ("model", seconds(overview.latency) if overview.latency else ""),
        ("tools", seconds(overview.tool_time if tools is None else tools)),
    ]
    return ", ".join(f"{words} {name}" for name, words in parts if words)


def _sandbox(overview: Overview, used: Mapping[str, Any]) -> str:
    words = [text_of(overview.sandbox.get("image")) and f"image {text_of(overview.sandbox.get('image'))}"]
    if used:
        words.append(f"cpu {seconds(used.get('cpu'))}" if seconds(used.get("cpu")) else "")
        words += [f"peak {bytes_of(used.get('memory_peak'))}", f"{bytes_of(used.get('written'))} written"]
    return ", ".join(filter(None, words))


def _input(overview: Overview) -> str:
    came = mapping(overview.sandbox.get("input"))
    named = [text_of(one) for one in items(overview.start.get("files"))]
    names = f"{', '.join(named[:10])}{', …' if len(named) > 10 else ''}"
    return "; ".join(filter(None, [names, moved(came) if came else ""]))
