"""An episode's record and its conversation, which is made of that: what is written is applied."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lisrt.agent.client import Retry
from lisrt.agent.conversation import Conversation
from lisrt.agent.reply import Reply, ToolCall
from lisrt.agent.resume import Unfinished
from lisrt.agent.tools import Observation
from lisrt.agent.trajectory import TrajectoryWriter
from lisrt.agent.versions import versions
from lisrt.aio import AsyncSandbox

__all__ = ["Journal"]


class Journal:
    """Writes the records of one episode, and has its conversation follow them."""

    def __init__(self, log: TrajectoryWriter, talk: Conversation) -> None:
        self._log = log
        self._talk = talk
        self._egress = 0

    @property
    def path(self) -> Path | None:
        """Of the trajectory."""
        return self._log.path

    def note(self, kind: str, **fields: Any) -> None:
        """Any record. Raises OSError when it can't be written."""
        self._talk.apply(self._log.write(kind, **fields))

    def resume(self, before: Unfinished, **settings: Any) -> None:
        """What was known already, and that it goes on."""
        for record in before.records:
            self._talk.apply(record)
        self.note(
            "resume",
            kept=len(before.records),
            turn=self._talk.turns,
            from_checkpoint=before.saved is not None,
            taken_back=before.taken_back,
            uncertain=before.uncertain,
            lost=asdict(before.lost),
            versions=versions(),
            **settings,
        )

    def reply(self, reply: Reply) -> None:
        """What the model has said; before any of its calls is carried out, so that those are known whatever happens then."""
        self.note(
            "response",
            turn=self._talk.turns + 1,
            message=reply.raw,
            usage=asdict(reply.usage),
            finish_reason=reply.finish_reason,
            latency=reply.latency,
        )

    def retry(self, retry: Retry) -> None:
        """A request that will be repeated."""
        self.note("retry", turn=self._talk.turns + 1, **asdict(retry))

    def call(
        self, call: ToolCall, duration: float, observation: Observation | None, outcome: str | None = None
    ) -> None:
        """A tool call that has ended; `outcome` where there is no observation of it."""
        self.note(
            "tool",
            turn=self._talk.turns,
            **asdict(call),
            observation=None if observation is None else observation.text,
            outcome=outcome or (observation.outcome if observation else None),
            duration=duration,
            **({} if observation is None else observation.details),
        )

    def egress(self, box: AsyncSandbox) -> None:
        """What programs have asked of the network since the last time, where there is a proxy to ask."""
        for one in box.egress:
            if one.number > self._egress:
                self._egress = one.number
                self.note("egress", turn=self._talk.turns, **asdict(one))
