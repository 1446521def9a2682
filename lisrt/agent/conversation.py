"""The conversation of an episode, and what it has used: a function of the trajectory's records.

The loop writes a record and applies it here; whoever reads a trajectory applies the same records and has the same messages, byte
for byte. So an episode that was cut off can be continued, and a viewer or a trainer sees what the model saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lisrt.agent.protocol import Calling, calling
from lisrt.agent.reply import Reply, TokenUsage, ToolCall, read_message

__all__ = ["Conversation", "effective", "replayed"]

_LEFT_OUT = "[left out to save context]"

Record = Mapping[str, Any]


class Conversation:
    """Messages as they go to the server, and the sums of what was used to get there."""

    def __init__(self, protocol: Calling, *, with_reasoning: bool) -> None:
        self._protocol = protocol
        self._with_reasoning = with_reasoning
        self.messages: list[dict[str, Any]] = []
        self.turns = 0
        """Replies."""
        self.idle = 0
        """Replies in a row without a call."""
        self.uncounted = 0
        """Of those, how many came without their number of tokens."""
        self.context = 0
        """Tokens of the last request and its reply."""
        self.tool_time = 0.0
        """Seconds that tools took."""
        self.cpu = 0.0
        self.memory_peak = 0
        self.written = 0
        self._observations: list[int] = []
        self.own_usage = self._lost = TokenUsage()
        """Tokens of the turns that count."""

    @property
    def usage(self) -> TokenUsage:
        """Tokens of all turns, those included that a resumed episode has taken back: they were paid for."""
        return self.own_usage + self._lost

    def apply(self, record: Record) -> None:
        """What a record adds. Kinds that add nothing are passed over."""
        match record["type"]:
            case "start":
                self.messages = [dict(message) for message in record["messages"]]
            case "response":
                self._respond(read_message(record["message"], turn=record["turn"]), record)
            case "tool":
                self._answer(record)
            case "reminder":
                self._add_to_user(record["content"])
            case "hint":
                last = self.messages[-1]
                last["content"] = f"{last['content'] or ''}\n{record['content']}"
            case "resume":
                self._lost = TokenUsage(**record.get("lost", {}))
            case "trim":
                self.context = 0  # nobody has counted it yet
                for at in record["messages"]:
                    self.messages[at]["content"] = _LEFT_OUT

    def calls(self, reply: Reply) -> tuple[ToolCall, ...]:
        """Those of the reply that was just applied."""
        return self._protocol.calls(reply, self.turns)

    def trimmable(self, keep: int) -> list[int]:
        """Places of the answers of tools that could be left out, all but the last `keep`."""
        places = self._observations[: max(0, len(self._observations) - keep)]
        return [at for at in places if len(self.messages[at]["content"]) > len(_LEFT_OUT)]

    def _add_to_user(self, content: str) -> None:
        """As a message of the user; to the last one, where that is one: templates refuse two in a row."""
        last = self.messages[-1]
        if last["role"] == "user":
            last["content"] += f"\n\n{content}"
        else:
            self.messages.append({"role": "user", "content": content})

    def _respond(self, reply: Reply, record: Record) -> None:
        self.turns += 1
        self.messages.append(self._protocol.said(reply, with_reasoning=self._with_reasoning))
        self.idle = 0 if self.calls(reply) else self.idle + 1
        usage = TokenUsage(**record["usage"])
        self.own_usage += usage
        self.uncounted += not usage.total
        self.context = usage.total

    def _answer(self, record: Record) -> None:
        self.tool_time += record["duration"]
        self.cpu += record.get("cpu") or 0.0
        self.memory_peak = max(self.memory_peak, record.get("memory_peak") or 0)
        self.written += record.get("written") or 0
        if record["observation"] is None:
            return
        call = ToolCall(record["id"], record["name"], record["arguments"])
        message = self._protocol.answer(call, record["observation"], self.messages[-1])
        if message is not None:
            self._observations.append(len(self.messages))
            self.messages.append(message)


def effective(records: Sequence[Record]) -> list[Record]:
    """The records without those that a resumed episode has taken back."""
    kept: list[Record] = []
    for record in records:
        if record["type"] == "resume":
            del kept[record["kept"] :]
        kept.append(record)
    return kept


def replayed(records: Iterable[Record]) -> Conversation:
    """The conversation that a trajectory tells of: `effective` records from `start` on. Raises ValueError without that."""
    found: Conversation | None = None
    for record in records:
        if record["type"] == "start":
            settings = record["agent"]
            found = Conversation(calling(settings["protocol"]), with_reasoning=record["model"]["reasoning"] == "resend")
        elif found is None:
            raise ValueError("the trajectory does not begin with its start")
        found.apply(record)
    if found is None:
        raise ValueError("the trajectory is empty")
    return found
