"""lisrt: a computer of its own for every LLM agent, without Docker, without root."""

from lisrt.admission import Admission
from lisrt.aio import AsyncSandbox
from lisrt.aiopool import AsyncPool
from lisrt.changes import Change
from lisrt.egress.journal import Egress
from lisrt.egress.proxy import Proxy
from lisrt.errors import (
    CommandFailed,
    HostError,
    ImageError,
    LisrtError,
    PoolClosed,
    PoolTimeout,
    SandboxBusy,
    SandboxGone,
    SetupError,
)
from lisrt.limits import Limits
from lisrt.nat.policy import Nat, NetworkGroup
from lisrt.pool import Pool
from lisrt.poolstats import PoolStats
from lisrt.result import ExecResult, Frozen, Outcome, Transfer, Usage
from lisrt.sandbox import Sandbox
from lisrt.snapshot import Image
from lisrt.spec import Mount

__all__ = [
    "Admission",
    "AsyncPool",
    "AsyncSandbox",
    "Change",
    "CommandFailed",
    "Egress",
    "ExecResult",
    "Frozen",
    "HostError",
    "Image",
    "ImageError",
    "Limits",
    "LisrtError",
    "Mount",
    "Nat",
    "NetworkGroup",
    "Outcome",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "PoolTimeout",
    "Proxy",
    "Sandbox",
    "SandboxBusy",
    "SandboxGone",
    "SetupError",
    "Transfer",
    "Usage",
]
