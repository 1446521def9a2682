"""What an episode may use, and what comes of it: plain values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from lisrt.agent.reply import TokenUsage

__all__ = ["AgentLimits", "Episode", "ExitReason"]


class ExitReason(StrEnum):
    """Why an episode ended."""

    SUBMITTED = "submitted"
    """The model called `submit`."""
    MAX_TURNS = "max_turns"
    """All turns were used without `submit`."""
    NO_TOOL_CALLS = "no_tool_calls"
    """The model only talked, for `AgentLimits.max_idle_turns` replies in a row."""
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


@dataclass(frozen=True)
class AgentLimits:
    """How much one episode may use. Raises ValueError for a number that is not above 0."""

    max_turns: int = 100
    """Replies of the model."""
    max_idle_turns: int = 5
    """Replies without a tool call that may follow one another; each is answered with a reminder."""
    command_timeout: float = 120.0
    """Seconds for one command; then it is killed, and the model is told."""
    wall_timeout: float | None = None
    """Seconds from the upload of the input to the end of the last turn; None for no limit."""
    max_output: int = 10_000
    """Characters kept of a command's stdout, of its stderr, and of any other tool answer."""
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
    """The answer file's text, exactly; None without one. It is read whatever the exit reason, unless the
    sandbox itself failed."""
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
