"""What can be measured, by name: a module for each kind, imported when it is asked for."""

from __future__ import annotations

import importlib

from lisrt.bench.workloads.base import Workload

WORKLOADS = {
    "lifecycle": "lifecycle:Lifecycle",
    "exec": "commands:Commands",
    "rollout": "rollout:Rollout",
    "steady": "steady:Steady",
    "burst": "arrivals:Burst",
    "staggered": "arrivals:Staggered",
    "fork-tree": "fork_tree:ForkTree",
    "freeze": "freeze:Freeze",
    "density": "density:Density",
    "soak": "soak:Soak",
    "install": "install:Install",
}


def workload(name: str) -> Workload:
    """A new one of that name. KeyError."""
    module, _, kind = WORKLOADS[name].partition(":")
    made: Workload = getattr(importlib.import_module(f"lisrt.bench.workloads.{module}"), kind)()
    return made
