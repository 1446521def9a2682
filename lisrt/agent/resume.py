"""What is left of an episode whose process has ended in the middle of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lisrt.agent.conversation import Record, effective, replayed
from lisrt.agent.episode import UNFINISHED, ExitReason
from lisrt.agent.reply import TokenUsage, read_message
from lisrt.agent.task import Task

__all__ = ["Unfinished", "has_ended", "submitted"]

#: What the messages depend on.
_TOLD = ("profile", "protocol", "shell", "without", "reasoning")


def has_ended(records: Sequence[Record]) -> bool:
    """Whether it came to an end that stands, in a batch: not one that was brought about from outside."""
    last = records[-1] if records else {}
    return last.get("type") == "end" and last.get("exit_reason") not in UNFINISHED


def submitted(records: Sequence[Record]) -> bool:
    """Whether the model has: then there is nothing to go on with at all."""
    return bool(records) and records[-1]["type"] == "end" and records[-1]["exit_reason"] == ExitReason.SUBMITTED


@dataclass(frozen=True)
class Unfinished:
    """Where to go on."""

    records: Sequence[Record]
    """Those that stay: up to the last checkpoint, or only the first."""
    saved: Path | None
    """The directory with the files; None to begin with fresh ones."""
    taken_back: tuple[str, ...]
    """Ids of tool calls that have run since, and whose effects are gone."""
    uncertain: tuple[str, ...]
    """Ids of those that were asked for, and may have run."""
    seconds: float
    """How long it took to get there."""
    lost: TokenUsage
    """Of all turns that were taken back, now and at earlier times."""

    @classmethod
    def of(cls, records: Sequence[Record], checkpoint: Path | None) -> Unfinished:
        """Of a trajectory, and the directory of its checkpoints. Raises ValueError where there is nothing to go on with."""
        if not records or records[0]["type"] != "start":
            raise ValueError("the trajectory has no beginning: run the task anew")
        if submitted(records):
            raise ValueError("the model has submitted: there is nothing to resume")
        known = effective(records)
        at, saved = 0, None
        for place, record in enumerate(known):
            if record["type"] == "checkpoint" and record["directory"] and checkpoint is not None:
                if (checkpoint / record["directory"]).is_dir():
                    at, saved = place, checkpoint / record["directory"]
        after = known[at + 1 :]
        ran = [record["id"] for record in after if record["type"] == "tool"]
        stays = known[: at + 1]
        return cls(stays, saved, tuple(ran), tuple(_asked(known, after)), _seconds(stays), _lost(records, stays))

    def check(self, settings: Mapping[str, Any], reasoning: str, tools: Sequence[Mapping[str, Any]]) -> None:
        """ValueError where the episode was begun with others: its conversation could not be what the server has seen."""
        start = self.records[0]
        told = {**start["agent"], "reasoning": start["model"]["reasoning"]}
        for name, value in {**settings, "reasoning": reasoning}.items():
            if name in _TOLD and told[name] != value:
                raise ValueError(f"the episode was begun with {name} {told[name]!r}, not {value!r}")
        if start["tools"] != json.loads(json.dumps(tools)):
            raise ValueError("the episode was begun with other tools, or other limits that their descriptions name")

    def task(self) -> Task:
        """What the trajectory knows of it; ValueError where its files are needed and unknown."""
        start: Mapping[str, Any] = self.records[0]
        if self.saved is None and start["files"]:
            raise ValueError("there is no checkpoint, and the task's files are not in the trajectory: name them again")
        return Task(start["task"], id=start["id"], answer_file=start["paths"]["answer_file"], data=start["data"])


def _seconds(records: Sequence[Record]) -> float:
    """Between the first and the last, without the time in which no process was at it."""
    times = [datetime.fromisoformat(record["time"]) for record in records]
    pairs = zip(records[1:], times[1:], times[:-1], strict=True)
    return max(sum((now - before).total_seconds() for record, now, before in pairs if record["type"] != "resume"), 0.0)


def _lost(records: Sequence[Record], stays: Sequence[Record]) -> TokenUsage:
    """What the replies took that don't stay."""
    kept = {id(record) for record in stays}
    gone = (record for record in records if record["type"] == "response" and id(record) not in kept)
    return sum((TokenUsage(**record["usage"]) for record in gone), TokenUsage())


def _asked(known: Sequence[Record], after: Sequence[Record]) -> list[str]:
    """Calls of the last reply that no record tells the end of."""
    places = [at for at, record in enumerate(known) if record["type"] == "response"]
    if not places or not any(record is known[places[-1]] for record in after):
        return []
    last = known[places[-1]]
    calls = replayed(known[: places[-1] + 1]).calls(read_message(last["message"], turn=last["turn"]))
    ended = {record["id"] for record in known[places[-1] :] if record["type"] == "tool"}
    return [call.id for call in calls if call.id not in ended]
