"""`lisrt run --tasks`: many episodes at once, a table while they run, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lisrt.agent import FAULTS, Agent, Batch, ExitReason, TaskResult, TokenUsage, read_tasks
from lisrt.agent.batch import descriptors_for
from lisrt.cli.agent_options import BUDGETS
from lisrt.cli.descriptors import allow_descriptors
from lisrt.cli.streams import tell
from lisrt.cli.until_signal import Signals

__all__ = ["run_tasks"]

# Rows of the table: what has not changed for longest is left out.
_ROWS = 20


@dataclass
class Tally:
    """What has come of a batch so far."""

    total: int
    started: float = field(default_factory=time.monotonic)
    reasons: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    turns: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: float | None = None
    running: dict[str, str] = field(default_factory=dict)
    before: Counter[str] = field(default_factory=Counter)
    not_enforced: Counter[str] = field(default_factory=Counter)

    def add(self, result: TaskResult) -> None:
        episode = result.episode
        self.running.pop(result.task.id, None)
        self.reasons[episode.exit_reason] += 1
        self.attempts += result.attempts - 1
        self.turns += episode.turns
        self.usage += episode.usage
        self.not_enforced.update(episode.not_enforced)
        if episode.cost is not None:
            self.cost = (self.cost or 0.0) + episode.cost

    def watch(self, task: str, record: dict[str, Any]) -> None:
        """One record of a running episode."""
        match record["type"]:
            case "start" | "resume":
                words = "beginning"
            case "response":
                words = f"turn {record['turn']}: the model has answered"
            case "tool":
                words = f"turn {record['turn']}: {record['name']}, {record['outcome']}"
            case "retry":
                words = f"turn {record['turn']}: {record['reason']}"
            case "end":
                return
            case _:
                return
        self.running.pop(task, None)
        self.running[task] = ascii(words)[1:-1]

    @property
    def ended(self) -> int:
        return self.reasons.total()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def faults(self) -> dict[str, int]:
        """What is not the model's doing, by its reason."""
        both = self.reasons + self.before
        return {reason: count for reason, count in sorted(both.items()) if ExitReason(reason) in FAULTS}

    def summary(self) -> dict[str, Any]:
        """For machines."""
        return {
            "tasks": self.total,
            "ended": self.ended,
            "ended_before": self.before.total(),
            "exit_reasons": dict(sorted((self.reasons + self.before).items())),
            "faults": self.faults(),
            "fault_retries": self.attempts,
            "turns": self.turns,
            "not_enforced": dict(self.not_enforced),
            "usage": asdict(self.usage),
            "cost": self.cost,
            "seconds": self.seconds,
            "tasks_per_minute": 60 * self.ended / self.seconds,
        }

    def line(self) -> str:
        """In one line, for people."""
        both = self.reasons + self.before
        reasons = ", ".join(f"{count} {reason}" for reason, count in both.most_common()) or "none has ended"
        rate = f"{60 * self.ended / self.seconds:.1f} tasks a minute"
        cost = "" if self.cost is None else f", cost {self.cost:.4g}"
        before = f"; {self.before.total()} of them before" if self.before else ""
        retried = f"; {self.attempts} begun again after a sandbox's fault" if self.attempts else ""
        return (
            f"{both.total()} of {self.total} ({reasons}{before}){retried}; {self.usage.total:,} tokens, "
            f"{self.usage.total / self.seconds:,.0f} a second{cost}; {rate}"
        )

    def __rich__(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column(f"running: {len(self.running)}", no_wrap=True, max_width=40)
        table.add_column("", no_wrap=True)
        for task, words in list(self.running.items())[-_ROWS:]:
            table.add_row(Text(ascii(task)[1:-1]), Text(words))
        return Group(Text(self.line()), table)


def run_tasks(agent: Agent, where: Path, own: dict[str, Any], *, resume: bool) -> int:
    """Runs them, and says what came of it; the exit status."""
    allow_descriptors(descriptors_for(own["concurrency"]))
    tasks = list(read_tasks(own["tasks"], input_root=own["input_root"]))
    if not tasks:
        raise click.BadParameter(f"there is no task in {own['tasks']}", param_hint="--tasks")
    tally = Tally(len(tasks))
    batch_options = {
        "concurrency": own["concurrency"],
        "folder": where,
        "resume": resume,
        "checkpoint": bool(own["checkpoint"]),
        "fault_retries": own["fault_retries"],
        "max_model_errors": own["max_model_errors"],
        "watch": tally.watch,
    }
    received, gave_up = asyncio.run(_run(agent, tasks, batch_options, tally, quiet=own["quiet"]))
    if own["as_json"]:
        click.echo(json.dumps({**tally.summary(), "gave_up": gave_up, "output": str(where)}, indent=1))
    else:
        tell(f"lisrt: {tally.line()}")
        click.echo(str(where))
    if received:
        tell(f"lisrt: stopped; go on with: lisrt run --resume {where}")
        return 128 + received[0]
    for name, count in tally.not_enforced.items():
        tell(f"lisrt: {BUDGETS[name]} was not enforced in {count} tasks: the server does not count tokens")
    if gave_up:
        tell(f"lisrt: gave up: {ascii(gave_up)[1:-1]}")
        tell(f"lisrt: once the model's server is well, go on with: lisrt run --resume {where}")
    return 0 if (tally.reasons + tally.before).keys() <= {ExitReason.SUBMITTED} else 1


async def _run(
    agent: Agent, tasks: list[Any], options: dict[str, Any], tally: Tally, *, quiet: bool
) -> tuple[list[int], str | None]:
    """The signals that came, and why the batch gave up, if it did."""
    console = Console(stderr=True)
    shown = Live(tally, console=console, refresh_per_second=4) if console.is_terminal and not quiet else None
    with Signals() as signals, shown or contextlib.nullcontext():
        batch = Batch(agent, tasks, stop=signals.stop, **options)
        async for result in batch:
            tally.before = batch.before
            tally.add(result)
            if shown is None and not quiet:
                tell(_result_line(result))
        tally.before = batch.before
    return signals.received, batch.gave_up


def _result_line(result: TaskResult) -> str:
    episode = result.episode
    error = f": {episode.error}" if episode.error else ""
    words = f"{result.task.id}: {episode.exit_reason} after {episode.turns} turns, {episode.duration:.1f} s{error}"
    return ascii(words)[1:-1][:300]
