"""What an episode may use, and what comes of it: plain values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from lisrt.agent.reply import TokenUsage

__all__ = ["FAULTS", "UNFINISHED", "AgentLimits", "Episode", "ExitReason"]


class ExitReason(StrEnum):
    """Why an episode ended."""

    SUBMITTED = "submitted"
    """The model called `submit`."""
    MAX_TURNS = "max_turns"
    """All turns were used without `submit`."""
    NO_TOOL_CALLS = "no_tool_calls"
    """The model only talked, for `AgentLimits.max_idle_turns` replies in a row."""
    MAX_TOKENS = "max_tokens"
    """The tokens of all turns together ran out."""
    MAX_COST = "max_cost"
    """What the tokens cost came to the limit."""
    MAX_TOOL_TIME = "max_tool_time"
    """The tools' time ran out."""
    STOPPED = "stopped"
    """The caller asked for an end (`stop` of `Agent.run`); answer and output were still collected."""
    TIMEOUT = "timeout"
    """The episode's wall-clock time ran out."""
    CONTEXT_EXCEEDED = "context_exceeded"
    """The conversation no longer fitted into the model's context."""
    MODEL_ERROR = "model_error"
    """The model's server was absent, refused the request, or sent no chat completion."""
    SANDBOX_ERROR = "sandbox_error"
    """The sandbox could not be made, or the host failed. The model is not to blame: do not score it."""
    SANDBOX_DIED = "sandbox_died"
    """The sandbox was lost while the model worked in it. A program in there can bring that about, as can the host: whoever
    never scores this lets a model escape its score."""
    CANCELLED = "cancelled"
    """The caller cancelled `Agent.run`. It raises CancelledError: only the trajectory holds this reason."""
    BAD_TASK = "bad_task"
    """In a batch: the task could not be read, or its files are not there. No episode was begun."""
    INTERNAL_ERROR = "internal_error"
    """In a batch: lisrt itself failed, or the disk that keeps the record."""


FAULTS = frozenset(
    {ExitReason.SANDBOX_ERROR, ExitReason.SANDBOX_DIED, ExitReason.BAD_TASK, ExitReason.INTERNAL_ERROR, ExitReason.MODEL_ERROR}
)
"""What is no result of the model's: to be counted apart, and not scored."""

UNFINISHED = FAULTS | {ExitReason.STOPPED, ExitReason.CANCELLED}
"""What a batch that is resumed does again, or goes on with: somebody stopped it, or it was not the model's doing."""


@dataclass(frozen=True)
class AgentLimits:
    """How much one episode may use. Raises ValueError for a number that is not above 0."""

    max_turns: int = 100
    """Replies of the model."""
    max_idle_turns: int = 5
    """Replies without a tool call that may follow one another; each is answered with a reminder."""
    max_tokens: int | None = None
    """Tokens of all turns together, read and written, as the server counts them; for one reply see `Model.max_tokens`. The turn
    that goes over it is the last one."""
    max_context: int | None = None
    """Tokens of the conversation, where fewer are to be used than the model could take."""
    max_cost: float | None = None
    """In the currency of `Model.prices`."""
    command_timeout: float = 120.0
    """Seconds for one command, if the model asks for no other; then it is killed, and the model is told."""
    max_command_timeout: float | None = None
    """The most seconds that the model may ask for; by default 600, or `command_timeout` where that is more."""
    max_tool_time: float | None = None
    """Seconds of all tool calls together."""
    wall_timeout: float | None = None
    """Seconds from the upload of the input to the end of the last turn; None for no limit."""
    max_output: int = 10_000
    """Characters kept of a command's stdout, of its stderr, and of any other tool answer."""
    max_lines: int | None = 500
    """Lines kept of a command's stdout and of its stderr; None for all."""
    max_download: int = 1024**3
    """Bytes of output taken from the sandbox at the end."""
    collect_timeout: float = 600.0
    """Seconds for reading the answer and downloading the output."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be above 0, not {value}")


@dataclass(frozen=True)
class Episode:
    """What came of one task."""

    answer: str | None
    """The answer file's text, exactly; None without one. It is read whatever the exit reason, unless the sandbox failed."""
    exit_reason: ExitReason
    turns: int
    """Replies received."""
    usage: TokenUsage
    """Tokens over all turns."""
    output: Path | None
    """The host directory that the sandbox's output was downloaded to; None if it was not."""
    trajectory: Path | None
    """The trajectory file; None if none was asked for."""
    error: str | None
    """What went wrong, in words; None if nothing did."""
    answer_from: str | None = None
    """Where the answer is from: "file"; "call", that of `submit`, where the model may write no files; "reply", where it was asked
    for at the end (`Agent.force_answer`); None without an answer."""
    cost: float | None = None
    """Of the tokens; None without `Model.prices`."""
    duration: float = 0.0
    """Seconds, from the start to the end of the download."""
    tool_time: float = 0.0
    """Seconds of all tool calls together."""
    not_enforced: tuple[str, ...] = ()
    """Budgets that were given and could not bind, since the server did not count the tokens of all replies."""
    http_status: int | None = None
    """Of a `model_error`: what the server has refused with; None where there was no answer, or none that is a refusal."""
