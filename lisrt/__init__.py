"""lisrt: a computer of its own for every LLM agent, without Docker, without root."""

from lisrt.aio import AsyncSandbox
from lisrt.errors import CommandFailed, HostError, ImageError, LisrtError, SandboxGone, SetupError
from lisrt.limits import Limits
from lisrt.result import ExecResult, Outcome, Transfer, Usage
from lisrt.sandbox import Sandbox
from lisrt.spec import Mount

__all__ = [
    "AsyncSandbox",
    "CommandFailed",
    "ExecResult",
    "HostError",
    "ImageError",
    "Limits",
    "LisrtError",
    "Mount",
    "Outcome",
    "Sandbox",
    "SandboxGone",
    "SetupError",
    "Transfer",
    "Usage",
]
