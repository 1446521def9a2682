"""The agent: a model, the three tools and one sandbox, turn after turn until it submits.

One turn is one reply of the model. Its tool calls are carried out in order, each answered under its own id.
What a program did is an observation for the model; what the sandbox did ends the episode (`sandbox_error`, `sandbox_died`):
a model is never told that its program failed when the sandbox did.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import platform
import posixpath
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lisrt.agent.editor import SandboxFault
from lisrt.agent.edits import cap
from lisrt.agent.episode import AgentLimits, Episode, ExitReason
from lisrt.agent.model import ChatClient, ContextExceeded, Model, ModelError, Retry, load_openai
from lisrt.agent.prompts import Prompts
from lisrt.agent.reply import Reply, TokenUsage, ToolCall
from lisrt.agent.tools import TOOLS, Observation, Tools
from lisrt.agent.trajectory import TrajectoryWriter
from lisrt.aio import AsyncSandbox
from lisrt.errors import LisrtError

__all__ = ["Agent"]

# The largest answer file that is read, in bytes.
MAX_ANSWER = 1024 * 1024


@dataclass(frozen=True)
class Agent:
    """A model with a sandbox to work in; one Agent serves any number of tasks, also at once."""

    model: Model
    """The endpoint, and how to sample from it."""
    prompts: Prompts = field(default_factory=Prompts)
    """The texts sent first, and where things lie in the sandbox."""
    limits: AgentLimits = field(default_factory=AgentLimits)
    """How much one episode may use."""
    open_sandbox: Callable[[], AbstractAsyncContextManager[AsyncSandbox]] | None = None
    """Called once per episode for an async context manager that gives a running sandbox, for example
    `functools.partial(AsyncSandbox, "host", network="none")`. `lambda: contextlib.nullcontext(box)` lends a
    sandbox that stays open. None opens `AsyncSandbox(workdir=prompts.working_dir)`."""

    async def run(
        self,
        task: str,
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
        trajectory: a new file for the record (JSON Lines, see `lisrt.agent.trajectory`).
        stop: once set, the episode ends at once (`stopped`), and what there is of answer and output is collected.
        watch: called with each record of the trajectory.

        Failures of the model's server and of the sandbox are not raised: `exit_reason` tells. Raises
        ModuleNotFoundError without the openai package, NotADirectoryError for a wrong `input_dir`,
        FileExistsError for a `trajectory` that exists, OSError when the trajectory cannot be written.
        """
        load_openai()
        source = None if input_dir is None else _directory(input_dir)
        target = None if output_dir is None else Path(output_dir)
        with TrajectoryWriter(trajectory, watch) as log:
            return await _Run(self, task, log, stop or asyncio.Event()).episode(source, target)

    def run_sync(
        self,
        task: str,
        *,
        input_dir: str | os.PathLike[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        trajectory: str | os.PathLike[str] | None = None,
    ) -> Episode:
        """`run` for code without an event loop. Raises RuntimeError where one is running."""
        coroutine = self.run(task, input_dir=input_dir, output_dir=output_dir, trajectory=trajectory)
        try:
            return asyncio.run(coroutine)
        finally:
            coroutine.close()  # asyncio.run leaves it behind where it refuses to start


class _Run:
    """The state of one episode."""

    def __init__(self, agent: Agent, task: str, log: TrajectoryWriter, stop: asyncio.Event) -> None:
        self._stop = stop
        self._idle = 0
        self._ready = False
        self._agent = agent
        self._limits = agent.limits
        self._log = log
        self._task = task
        texts = agent.prompts.render(
            task, max_turns=agent.limits.max_turns, command_timeout=agent.limits.command_timeout
        )
        self._texts = {name: _sendable(text) for name, text in texts.items()}
        self._messages: list[dict[str, Any]] = [
            {"role": "system", "content": self._texts["system"]},
            {"role": "user", "content": self._texts["task"]},
        ]
        self._started = time.monotonic()
        self._turns = 0
        self._usage = TokenUsage()
        self._egress = 0
        self._reason = ExitReason.SANDBOX_ERROR
        self._errors: list[str] = []
        self._answer: str | None = None
        self._output: Path | None = None

    async def episode(self, source: Path | None, target: Path | None) -> Episode:
        self._log_start()
        ended = False
        try:
            async with ChatClient(self._agent.model) as client, self._sandbox() as box:
                self._reason = await self._within_time(box, client, source)
                await self._collect(box, target)
                ended = True
        except (LisrtError, SandboxFault) as fault:
            if not ended:  # a fault while closing takes nothing back
                lost_at_work = self._ready and isinstance(fault, LisrtError)
                self._reason = ExitReason.SANDBOX_DIED if lost_at_work else ExitReason.SANDBOX_ERROR
            self._errors.append(f"{type(fault).__name__}: {fault}")
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._reason = ExitReason.CANCELLED
            self._end()
            raise
        return self._end()

    @asynccontextmanager
    async def _sandbox(self) -> AsyncIterator[AsyncSandbox]:
        async with AsyncExitStack() as stack:
            try:
                made = self._agent.open_sandbox or partial(
                    AsyncSandbox, workdir=self._agent.prompts.working_dir
                )
                box = await stack.enter_async_context(made())
            except OSError as error:  # no descriptors left on the host, perhaps
                raise SandboxFault(f"the sandbox could not be made: {error}") from error
            yield box

    async def _within_time(self, box: AsyncSandbox, client: ChatClient, source: Path | None) -> ExitReason:
        """Prepare and converse, and say how it ended."""
        limit = self._limits.wall_timeout
        clock = asyncio.timeout(limit)
        loop = asyncio.get_running_loop()
        watcher = loop.create_task(self._stop.wait())
        stopped = False

        def end_now(task: asyncio.Task[Any]) -> None:
            nonlocal stopped
            if not task.cancelled():
                with contextlib.suppress(RuntimeError):  # the episode's time ended a moment before
                    clock.reschedule(loop.time())
                    stopped = True

        watcher.add_done_callback(end_now)
        try:
            async with clock:
                await self._prepare(box, source)
                self._ready = True
                return await self._converse(box, client)
        except ContextExceeded as error:
            self._errors.append(str(error))
            return ExitReason.CONTEXT_EXCEEDED
        except ModelError as error:
            self._errors.append(str(error))
            return ExitReason.MODEL_ERROR
        except TimeoutError:
            if not clock.expired():
                raise
            if stopped:
                return ExitReason.STOPPED
            self._errors.append(f"the episode took longer than {limit:g} s")
            return ExitReason.TIMEOUT
        finally:
            watcher.remove_done_callback(end_now)
            watcher.cancel()

    async def _prepare(self, box: AsyncSandbox, source: Path | None) -> None:
        """The directories that the prompt speaks of, and the task's files."""
        prompts = self._agent.prompts
        wanted = [prompts.working_dir, prompts.output_dir, posixpath.dirname(prompts.answer_file)]
        transfer = None
        try:
            if source is None:
                wanted.append(prompts.input_dir)
            else:
                transfer = await box.upload(source, prompts.input_dir)
            made = await box.run(["mkdir", "-p", "--", *wanted], cwd="/")
        except OSError as error:
            raise SandboxFault(f"the task could not be set up in the sandbox: {error}") from error
        if not made.ok:
            raise SandboxFault(f"the directories of the task could not be made: {made.stderr.strip()}")
        self._log.write(
            "sandbox",
            id=box.id,
            image=box.image,
            guarantees=dict(box.guarantees),
            input=None if transfer is None else asdict(transfer),
        )

    async def _converse(self, box: AsyncSandbox, client: ChatClient) -> ExitReason:
        tools = Tools(
            box,
            working_dir=self._agent.prompts.working_dir,
            command_timeout=self._limits.command_timeout,
            max_output=self._limits.max_output,
        )
        while self._turns < self._limits.max_turns:
            reply = await client.complete(
                self._messages, TOOLS, turn=self._turns + 1, on_retry=self._log_retry
            )
            self._take(reply)
            self._idle = 0 if reply.tool_calls else self._idle + 1
            if self._idle >= self._limits.max_idle_turns:
                last = cap(reply.content or "", 500)
                self._errors.append(f"{self._idle} replies in a row called no tool; the last: {last!r}")
                return ExitReason.NO_TOOL_CALLS
            if not reply.tool_calls:
                self._remind(reply)
            else:
                submitted = await self._carry_out(reply, tools)
                self._log_egress(box)
                if submitted:
                    return ExitReason.SUBMITTED
        return ExitReason.MAX_TURNS

    def _log_egress(self, box: AsyncSandbox) -> None:
        """What programs have asked of the network since the last time, where there is a proxy to ask."""
        for one in box.egress:
            if one.number > self._egress:
                self._egress = one.number
                self._log.write("egress", turn=self._turns, **asdict(one))

    def _take(self, reply: Reply) -> None:
        self._turns += 1
        self._usage += reply.usage
        self._messages.append(reply.as_history())
        self._log.write(
            "response",
            turn=self._turns,
            message=reply.raw,
            usage=asdict(reply.usage),
            finish_reason=reply.finish_reason,
            latency=reply.latency,
        )

    def _remind(self, reply: Reply) -> None:
        content = self._texts["reminder"]
        if reply.finish_reason == "length":
            content = f"That reply was cut off at the limit for one reply. {content}"
        self._messages.append({"role": "user", "content": content})
        self._log.write("reminder", turn=self._turns, content=content)

    async def _carry_out(self, reply: Reply, tools: Tools) -> bool:
        """Answer every call of one reply; True if `submit` was one of them: those after it are not run."""
        submitted = False
        for call in reply.tool_calls:
            if submitted:
                observation = Observation("Not carried out: it came after submit.", "not_run")
                self._log_call(call, observation.outcome, 0.0, observation)
            else:
                observation = await self._observe(call, tools, cut=reply.finish_reason == "length")
            submitted = submitted or observation.outcome == "submitted"
            answer = {"role": "tool", "tool_call_id": call.id, "content": observation.text}
            self._messages.append(answer)
        return submitted

    async def _observe(self, call: ToolCall, tools: Tools, *, cut: bool) -> Observation:
        started = time.monotonic()
        try:
            observation = await tools.call(call.name, call.arguments)
        except (LisrtError, SandboxFault):
            self._log_call(call, "sandbox_error", time.monotonic() - started)
            raise
        except asyncio.CancelledError:
            self._log_call(call, "interrupted", time.monotonic() - started)
            raise
        if cut and observation.outcome == "refused":
            note = "The reply was cut off at the limit for one reply; write less at a time."
            observation = Observation(f"{observation.text}\n{note}", observation.outcome)
        self._log_call(call, observation.outcome, time.monotonic() - started, observation)
        return observation

    async def _collect(self, box: AsyncSandbox, target: Path | None) -> None:
        """Read the answer and download the output. What cannot be had goes into the episode's error."""
        prompts = self._agent.prompts
        try:
            async with asyncio.timeout(self._limits.collect_timeout):
                await self._read_answer(box, prompts.answer_file)
                if target is not None:
                    transfer = await box.download(
                        prompts.output_dir, target, max_bytes=self._limits.max_download
                    )
                    self._output = target
                    self._log.write("output", **asdict(transfer))
        except TimeoutError:
            self._errors.append(f"collecting the results took longer than {self._limits.collect_timeout:g} s")
        except OSError as error:
            self._errors.append(f"the output was not downloaded: {error}")

    async def _read_answer(self, box: AsyncSandbox, path: str) -> None:
        try:
            self._answer = await box.read_text(path, max_bytes=MAX_ANSWER)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._errors.append(f"the answer was not read: {error}")

    def _end(self) -> Episode:
        episode = Episode(
            answer=self._answer,
            exit_reason=self._reason,
            turns=self._turns,
            usage=self._usage,
            output=self._output,
            trajectory=self._log.path,
            error="; ".join(self._errors) or None,
        )
        duration = time.monotonic() - self._started
        fields = {name: value for name, value in asdict(episode).items() if name != "trajectory"}
        self._log.write("end", **fields, duration=duration)
        return episode

    def _log_start(self) -> None:
        self._log.write(
            "start",
            format=1,
            task=self._task,
            model=self._agent.model.settings(),
            limits=asdict(self._limits),
            paths=self._agent.prompts.paths(),
            messages=self._messages,
            tools=TOOLS,
            versions=_versions(),
        )

    def _log_retry(self, retry: Retry) -> None:
        self._log.write("retry", turn=self._turns + 1, **asdict(retry))

    def _log_call(
        self, call: ToolCall, outcome: str, duration: float, observation: Observation | None = None
    ) -> None:
        self._log.write(
            "tool",
            turn=self._turns,
            **asdict(call),
            observation=None if observation is None else observation.text,
            outcome=outcome,
            duration=duration,
            **({} if observation is None else observation.details),
        )


def _directory(path: str | os.PathLike[str]) -> Path:
    directory = Path(path)
    if not directory.is_dir():
        raise NotADirectoryError(f"the input directory {directory} is not a directory")
    return directory


def _sendable(text: str) -> str:
    """`text` as UTF-8 can carry it: a task from the command line, say, may hold bytes that are not text."""
    return text.encode("utf-8", "replace").decode()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("lisrt", "openai"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            versions[package] = None
    return versions
