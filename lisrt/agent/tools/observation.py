"""What one tool call came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Observation", "SandboxFault", "ToolError"]


class ToolError(Exception):
    """A call that could not be carried out; the message is for the model."""


class SandboxFault(Exception):
    """A verb failed for a reason that no program inside the sandbox can cause; never shown to the model."""


@dataclass(frozen=True)
class Observation:
    """What one call came to. `text` is for the model, the rest for the record."""

    text: str
    outcome: str
    """`exited`, `signaled`, `timed_out` or `out_of_memory` for a command, `done` for the editor, `submitted`; `refused` for a
    call that could not be carried out, `not_run` for one after submit."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """A command's exit_code, signal, truncated, cut (bytes of its output that the model does not see), cpu (seconds),
    memory_peak, written, sent and received (bytes), denied, exhausted; else empty."""
