"""A trajectory as what people look at: turns, and what happened between them. Plain values, made one by one from the file."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lisrt.agent.protocol import Calling, Native, calling
from lisrt.agent.reply import BadReply, read_message
from lisrt.agent.trajectory import FORMAT
from lisrt.agent.view.calls import Call, Part, ended, unanswered
from lisrt.agent.view.words import (
    amount,
    bytes_of,
    dumped,
    items,
    mapping,
    moment,
    moved,
    seconds,
    text_of,
    tokens,
    whole,
)

__all__ = ["Call", "Note", "NotATrajectory", "Overview", "Part", "Trajectory", "Turn"]

_OF_A_TURN = frozenset({"hint", "retry", "trim", "response", "tool", "egress", "reminder", "checkpoint"})
_BEFORE_A_REPLY = frozenset({"hint", "retry", "trim"})


class NotATrajectory(ValueError):
    """The file holds something else, or what this version can't read; the message names it."""


@dataclass(frozen=True)
class Note:
    """Something that happened beside the replies and their calls."""

    kind: str
    """The type of its record."""
    title: str
    text: str = ""
    taken_back: bool = False


@dataclass
class Turn:
    """One reply of the model, what came before it, and what came of it."""

    number: int
    taken_back: bool = False
    """Whether a resume has undone it."""
    time: str = ""
    before: list[Note] = field(default_factory=list)
    """Hints, and requests that failed."""
    replied: bool = False
    thoughts: str = ""
    text: str = ""
    facts: list[str] = field(default_factory=list)
    """Of the reply, in words: how long it took, tokens, why it stopped."""
    steps: list[Call | Note] = field(default_factory=list)
    """What followed, in order."""


@dataclass
class Overview:
    """What is known of an episode as a whole, from those records that count."""

    start: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    """None where there is none: it still runs, or its process was killed."""
    records: int = 0
    last: str = ""
    """The time of the last record."""
    turns: int = 0
    usage: Counter[str] = field(default_factory=Counter)
    latency: float = 0.0
    tool_time: float = 0.0
    resumes: int = 0
    taken_back: int = 0
    """Turns that were undone by a resume."""


class Trajectory:
    """A trajectory file that is looked at: `overview` at once, turns while they are iterated. It is not held in memory.

    Also one that is being written: what comes after this was made is left out. Raises NotATrajectory, naming the line,
    and OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._count = 0
        self._back: set[int] = set()
        self.overview = self._survey()
        self._protocol = self._calling()

    def __iter__(self) -> Iterator[Turn | Note]:
        """All that happened, in order. Raises OSError."""
        turn: _Making | None = None
        for number, record in enumerate(self._records(self._count)):
            back = number in self._back
            if turn is not None and not turn.takes(record, back):
                yield turn.made()
                turn = None
            if turn is not None:
                turn.add(record)
            elif record["type"] in _BEFORE_A_REPLY | {"response", "tool"}:
                turn = _Making(record, back, self._protocol)
            elif (note := _note(record, back)) is not None:
                yield note
        if turn is not None:
            yield turn.made()

    def _calling(self) -> Calling:
        name = mapping(self.overview.start.get("agent")).get("protocol")
        try:
            return calling(text_of(name))
        except ValueError:
            return Native()

    def _survey(self) -> Overview:
        """Goes through the records once, to know which of them count; only numbers are kept of most."""
        counting: list[int] = []
        heads: dict[int, tuple[str, dict[str, Any]]] = {}
        for number, record in enumerate(self._records()):
            if number == 0:
                _check_first(self.path, record)
            kind = record["type"]
            if kind == "resume":
                kept = record.get("kept")
                if isinstance(kept, int) and 0 <= kept < len(counting):
                    self._back.update(counting[kept:])
                    del counting[kept:]
            counting.append(number)
            heads[number] = kind, _head(kind, record)
            self._count += 1
        found = Overview(records=self._count)
        for number, (kind, head) in heads.items():
            found.last = head["time"]
            found.resumes += kind == "resume"
            if number not in self._back:
                _count_in(found, kind, head)
            elif kind == "response":
                found.taken_back += 1
                _count_tokens(found, head)
        return found

    def _records(self, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Line by line; a last one that is not whole is left out."""
        with _opened(self.path) as file:
            for number, line in enumerate(file, 1):
                if number - 1 == most:
                    return
                if not line.endswith(b"\n"):
                    if number == 1 and not line.startswith(b'{"'):
                        raise NotATrajectory(f"{self.path} is no trajectory")
                    return
                yield _record(self.path, number, line)


def _opened(path: Path) -> BinaryIO:
    """Without waiting for the writer of a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotATrajectory(f"{path} is not a regular file")
    return open(fd, "rb")


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise NotATrajectory(f"{path} is no trajectory: line {number} is not JSON") from None
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        raise NotATrajectory(f"{path} is no trajectory: line {number} is not a record of one")
    return record


def _check_first(path: Path, record: Mapping[str, Any]) -> None:
    if record["type"] != "start":
        raise NotATrajectory(f"{path} is no trajectory: it does not begin with `start`")
    if whole(record.get("format")) > FORMAT:
        raise NotATrajectory(f"{path} has format {whole(record['format'])}, and this lisrt knows {FORMAT}: use a newer one")


def _head(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """What an overview needs of a record: of replies and observations, which are long, the figures."""
    if kind in ("start", "resume", "sandbox", "output", "end"):
        return {"time": "", **record}
    return {"time": record.get("time", ""), **{key: record.get(key) for key in ("usage", "latency", "duration")}}


def _count_in(found: Overview, kind: str, head: dict[str, Any]) -> None:
    match kind:
        case "start":
            found.start = head
        case "sandbox":
            found.sandbox = head
        case "output":
            found.output = head
        case "end":
            found.end = head
        case "resume":
            found.end = None  # of an episode that was stopped
            if model := mapping(head.get("model")):  # it may have gone on with another
                found.start = {**mapping(found.start), "model": {**mapping(mapping(found.start).get("model")), **model}}
        case "response":
            found.turns += 1
            _count_tokens(found, head)
            found.latency += _positive(head["latency"])
        case "tool":
            found.tool_time += _positive(head["duration"])


def _count_tokens(found: Overview, head: Mapping[str, Any]) -> None:
    usage = mapping(head["usage"])
    found.usage.update({key: whole(usage.get(key)) for key in ("prompt", "completion", "cached", "reasoning")})


def _positive(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else 0.0


class _Making:
    """A turn that is being put together from its records."""

    def __init__(self, record: dict[str, Any], back: bool, protocol: Calling) -> None:
        self._turn = Turn(whole(record.get("turn")), back, moment(record.get("time")))
        self._protocol = protocol
        self._asked: dict[str, Call] = {}
        self.add(record)

    def takes(self, record: Mapping[str, Any], back: bool) -> bool:
        """Whether a record still belongs to this turn."""
        kind, turn = record["type"], self._turn
        if kind not in _OF_A_TURN or back != turn.taken_back:
            return False
        if kind in ("response", *_BEFORE_A_REPLY):
            return not turn.replied and not turn.steps
        return whole(record.get("turn")) == turn.number

    def add(self, record: dict[str, Any]) -> None:
        """What the record adds."""
        kind, turn = record["type"], self._turn
        if kind == "response":
            self._reply(record)
        elif kind == "tool":
            self._asked.pop(text_of(record.get("id")), None)
            turn.steps.append(ended(record))
        elif (note := _note(record, turn.taken_back)) is not None:
            (turn.before if kind in _BEFORE_A_REPLY else turn.steps).append(note)

    def made(self) -> Turn:
        """With the calls that nothing tells the end of."""
        self._turn.steps += self._asked.values()
        return self._turn

    def _reply(self, record: Mapping[str, Any]) -> None:
        turn, message = self._turn, mapping(record.get("message"))
        turn.replied, turn.time = True, moment(record.get("time"))
        turn.facts = [seconds(record.get("latency")), tokens(mapping(record.get("usage")))]
        finish = text_of(record.get("finish_reason"))
        if finish not in ("", "stop", "tool_calls", "function_call"):
            turn.facts.append("cut off at the limit for one reply" if finish == "length" else f"finish reason {finish}")
        turn.facts = list(filter(None, turn.facts))
        try:
            reply = read_message(message, turn=turn.number)
            calls = self._protocol.calls(reply, turn.number)
        except BadReply:
            turn.text = dumped(message)
            return
        turn.thoughts, turn.text = (reply.reasoning or "").strip("\n"), (reply.content or "").strip("\n")
        self._asked = {call.id: unanswered(call) for call in calls}


def _note(record: Mapping[str, Any], back: bool) -> Note | None:
    """A record that is neither reply nor call; None for what the head tells of."""
    kind = record["type"]
    if kind in ("start", "end"):
        return None
    known = _NOTES.get(kind)
    if known is None:  # a later version's
        return Note(kind, kind, dumped({key: one for key, one in record.items() if key not in ("type", "time")}), back)
    return Note(kind, *known(record), taken_back=back)


def _retry(record: Mapping[str, Any]) -> tuple[str, str]:
    delay = seconds(record.get("delay"))
    then = f"; the next after {delay}" if delay else ""
    return f"try {whole(record.get('attempt'))} failed{then}", text_of(record.get("reason"))


def _trim(record: Mapping[str, Any]) -> tuple[str, str]:
    count = amount(len(items(record.get("messages"))), "older observation")
    return f"the context was full: {count} left out from here on", ""


def _egress(record: Mapping[str, Any]) -> tuple[str, str]:
    where = f"{text_of(record.get('method'))} {text_of(record.get('host'))}:{whole(record.get('port'))}"
    rule, why = text_of(record.get("rule")), text_of(record.get("why"))
    words = [f"{'allowed' if record.get('allowed') is True else 'denied'}{f' by {rule}' if rule else ''}", why]
    for key in ("sent", "received"):
        words.append(f"{bytes_of(record[key])} {key}" if whole(record.get(key)) else "")
    return f"network: {where}", ", ".join(filter(None, words))


def _resume(record: Mapping[str, Any]) -> tuple[str, str]:
    from_files = record.get("from_checkpoint") is True
    title = "resumed " + ("from the files of its last checkpoint" if from_files else "from its beginning, with fresh files")
    model = text_of(mapping(record.get("model")).get("name"))
    words = [f"with {model}"] if model else []
    for key, form in (("taken_back", "taken back: {}"), ("uncertain", "may have run, unrecorded: {}")):
        if ids := [text_of(one) for one in items(record.get(key))]:
            words.append(form.format(f"{amount(len(ids), 'tool call')} ({', '.join(ids[:20])}{', …' if len(ids) > 20 else ''})"))
    return title, "\n".join(words)


def _checkpoint(record: Mapping[str, Any]) -> tuple[str, str]:
    kept = text_of(record.get("directory"))
    return (f"files kept as {kept}", "") if kept else ("the files could not be kept", text_of(record.get("error")))


def _sandbox(record: Mapping[str, Any]) -> tuple[str, str]:
    came = mapping(record.get("input"))
    title = f"sandbox {text_of(record.get('id'))} of image {text_of(record.get('image'))}"
    return title, f"uploaded: {moved(came)}" if came else ""


_NOTES: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "hint": lambda record: ("hint", text_of(record.get("content"))),
    "retry": _retry,
    "trim": _trim,
    "egress": _egress,
    "reminder": lambda record: ("reminder to the model", text_of(record.get("content"))),
    "checkpoint": _checkpoint,
    "resume": _resume,
    "sandbox": _sandbox,
    "output": lambda record: (f"output downloaded: {moved(record)}", ""),
}
