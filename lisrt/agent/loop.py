"""The agent: a model, the three tools and one sandbox, turn after turn until it submits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lisrt.agent.episode import AgentLimits, Episode
from lisrt.agent.model import Model
from lisrt.agent.prompts import LIS02, REMINDER, SYSTEM, TASK, Prompts, limited
from lisrt.agent.protocol import calling
from lisrt.agent.resume import Unfinished
from lisrt.agent.run import Run
from lisrt.agent.task import Task
from lisrt.agent.tools import Definition, lis02
from lisrt.agent.tools.standard import WITHOUT, definitions
from lisrt.agent.tools.toolbox import PROFILES, SHELLS
from lisrt.agent.trajectory import TrajectoryWriter, read_trajectory
from lisrt.agent.transport import require
from lisrt.aio import AsyncSandbox

__all__ = ["LIS02_LIMITS", "OVERFLOWS", "Agent"]

OVERFLOWS = ("stop", "trim")

LIS02_LIMITS = AgentLimits(max_turns=100, max_idle_turns=100, max_context=65536)
_LIS02_TOKENS = 65536


@dataclass(frozen=True)
class Agent:
    """A model with a sandbox to work in; one Agent serves any number of tasks, also at once. Raises ValueError for settings that
    don't fit together."""

    model: Model
    """The endpoint, and how to sample from it."""
    prompts: Prompts | None = None
    """The texts sent first, and where things lie in the sandbox; None for those of the profile."""
    limits: AgentLimits | None = None
    """How much one episode may use; None for those of the profile."""
    open_sandbox: Callable[..., AbstractAsyncContextManager[AsyncSandbox]] | None = None
    """Called once per episode for an async context manager that gives a running sandbox, for example
    `functools.partial(AsyncSandbox, "host", network="none")`. `lambda: contextlib.nullcontext(box)` lends a
    sandbox that stays open. None opens `AsyncSandbox(workdir=prompts.working_dir)`. Where files are taken away it gets the
    task's own as `mounts`."""
    open_saved: Callable[[str], AbstractAsyncContextManager[AsyncSandbox]] | None = None
    """Likewise for `resume`, with the image that the files of the checkpoint are in; None: as `open_sandbox` by default."""
    profile: str = "default"
    """"default" or "lis-0.2": tools, texts and limits of llm-in-sandbox 0.2.0, for the checkpoint that was trained with them."""
    protocol: str = "native"
    """How the model calls tools: "native" (the API's function calling), or in its text: "bash" (fenced blocks), "xml"
    (`<function=...>`), "json" (held to a schema where the server can do that)."""
    shell: str = "fresh"
    """Of execute_bash: "fresh" for each call, or "persistent"."""
    without: Collection[str] = ()
    """What is taken away, of `WITHOUT`. The sandbox that `open_sandbox` gives must do its part: see docs/agent.md."""
    turn_hint: bool | None = None
    """Whether each turn is told how many are left; None: the profile's, which is no by default."""
    force_answer: bool = False
    """Whether a model that has run out of something without an answer is asked for one, without tools."""
    on_overflow: str = "stop"
    """When the context is full: "stop", or "trim": leave old observations out, and go on."""
    checkpoint: Path | None = None
    """A directory where the sandbox's files are kept after each turn, or less often where that takes more than a twentieth of the
    time, so that `resume` can go on from there; None: nothing is kept. One for each episode."""

    def __post_init__(self) -> None:
        for what, value, known in (
            ("profile", self.profile, PROFILES),
            ("shell", self.shell, SHELLS),
            ("on_overflow", self.on_overflow, OVERFLOWS),
        ):
            if value not in known:
                raise ValueError(f"{what} is one of {', '.join(known)}, not {value!r}")
        calling(self.protocol)
        object.__setattr__(self, "without", tuple(sorted(self.without)))
        self._settle()
        self._check_what_fits()

    def _settle(self) -> None:
        """What the profile leaves open is filled in."""
        of_old = self.profile == "lis-0.2"
        prompts = self.prompts or (LIS02 if of_old else Prompts())
        if {"files", "execution"}.intersection(self.without):
            texts = zip(("system", "task", "reminder"), (SYSTEM, TASK, REMINDER), limited(self.without), strict=True)
            prompts = replace(prompts, **{name: now for name, usual, now in texts if getattr(prompts, name) == usual})
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "limits", self.limits or (LIS02_LIMITS if of_old else AgentLimits()))
        object.__setattr__(self, "turn_hint", of_old if self.turn_hint is None else self.turn_hint)
        if of_old:
            model = self.model
            temperature = 1.0 if model.temperature is None else model.temperature
            settled = replace(model, temperature=temperature, max_tokens=model.max_tokens or _LIS02_TOKENS)
            object.__setattr__(self, "model", settled)

    def _check_what_fits(self) -> None:
        if "files" in self.without and (self.shell == "persistent" or self.checkpoint is not None):
            raise ValueError("without files there is no persistent shell, which keeps its state in one, and no checkpoint")
        if unknown := set(self.without).difference(WITHOUT):
            raise ValueError(f"without: {', '.join(WITHOUT)}, not {sorted(unknown)[0]!r}")
        if self.checkpoint is not None and self.open_sandbox is not None and self.open_saved is None:
            raise ValueError("a checkpoint needs open_saved beside open_sandbox: else its sandbox would have other limits")
        of_its_own = ("command_timeout", "max_command_timeout", "max_output", "max_lines")
        assert self.limits is not None
        if self.profile == "lis-0.2" and any(getattr(self.limits, name) != getattr(LIS02_LIMITS, name) for name in of_its_own):
            raise ValueError(f"profile lis-0.2 has limits of its own: leave out {', '.join(of_its_own)}")
        if self.profile == "lis-0.2" and (self.without or self.shell != "fresh" or self.protocol != "native"):
            raise ValueError("profile lis-0.2 has native calls, a fresh shell and all tools, as it was")
        if self.protocol == "bash" and set(self.without) & {"execution", "files"}:
            raise ValueError("protocol bash knows nothing but scripts: it needs execution, and files for the answer")
        if self.limits.max_cost is not None and self.model.prices is None:
            raise ValueError("max_cost needs the model's prices")

    async def run(
        self,
        task: str | Task,
        *,
        input_dir: str | os.PathLike[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        trajectory: str | os.PathLike[str] | None = None,
        stop: asyncio.Event | None = None,
        watch: Callable[[dict[str, Any]], None] | None = None,
    ) -> Episode:
        """Work on `task` in a fresh sandbox until the model submits or a limit is reached.

        input_dir: a host directory, uploaded to `prompts.input_dir` first.
        output_dir: a host directory that receives what lies in `prompts.output_dir` at the end.
        trajectory: a new file for the record (JSON Lines, see docs/trajectory.md).
        stop: once set, the episode ends at once (`stopped`), and what there is of answer and output is collected.
        watch: called with each record of the trajectory.

        Failures of the model's server and of the sandbox are not raised: `exit_reason` tells. Raises
        ModuleNotFoundError where the openai package is needed and missing, ValueError for certificates of
        $SSL_CERT_FILE that can't be read, NotADirectoryError for a wrong `input_dir`,
        FileExistsError for a `trajectory` that exists, OSError when the trajectory cannot be written.
        """
        require(self.model.base_url)
        job = Task(task) if isinstance(task, str) else task
        if input_dir is not None:
            job = replace(job, input_dir=_directory(input_dir))
        target = None if output_dir is None else Path(output_dir)
        with TrajectoryWriter(trajectory, watch) as log:
            return await Run(self, job, log, stop or asyncio.Event()).episode(target)

    async def resume(
        self,
        trajectory: str | os.PathLike[str],
        *,
        task: Task | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        stop: asyncio.Event | None = None,
        watch: Callable[[dict[str, Any]], None] | None = None,
    ) -> Episode:
        """Go on with an episode whose process has ended in the middle of it, from its last checkpoint, or from its beginning.

        trajectory: its file, to which is added. What had happened after the checkpoint is taken back: a `resume` record names the
        tool calls that had run, or may have. task: with the files, which the trajectory does not hold; needed where there is no
        checkpoint. Else as `run`. Raises ValueError for an episode that has ended, or whose settings were others.
        """
        require(self.model.base_url)
        target = None if output_dir is None else Path(output_dir)
        with TrajectoryWriter(trajectory, watch, goes_on=True) as log:
            before = Unfinished.of(read_trajectory(trajectory), self.checkpoint)
            before.check(
                {**self.settings(), "without": list(self.without)},
                self.model.reasoning,
                [definition.chat() for definition in self.definitions()],
            )
            return await Run(self, task or before.task(), log, stop or asyncio.Event(), before).episode(target)

    def run_sync(
        self,
        task: str | Task,
        *,
        input_dir: str | os.PathLike[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        trajectory: str | os.PathLike[str] | None = None,
    ) -> Episode:
        """`run` for code without an event loop. Raises RuntimeError where one is running."""
        coroutine = self.run(task, input_dir=input_dir, output_dir=output_dir, trajectory=trajectory)
        with contextlib.closing(coroutine):  # asyncio.run leaves it behind where it refuses to start
            return asyncio.run(coroutine)

    def definitions(self) -> tuple[Definition, ...]:
        """The tools that the model is told of."""
        assert self.limits is not None
        if self.profile == "lis-0.2":
            return lis02.TOOLS
        timeout, longest = self.limits.command_timeout, self.limits.max_command_timeout
        return definitions(
            persistent=self.shell == "persistent",
            timeout=timeout,
            longest=max(timeout, longest or 600.0),
            without=self.without,
        )

    def settings(self) -> dict[str, Any]:
        """How it works, as plain data for the record."""
        names = ("profile", "protocol", "shell", "without", "turn_hint", "force_answer", "on_overflow")
        return {**{name: getattr(self, name) for name in names}, "checkpoint": self.checkpoint is not None}


def _directory(path: str | os.PathLike[str]) -> Path:
    directory = Path(path)
    if not directory.is_dir():
        raise NotADirectoryError(f"the input directory {directory} is not a directory")
    return directory
