"""One episode: turn after turn, until the model submits or something has run out.

One turn is one reply of the model. Its tool calls are carried out in order, each answered under its own id. What a program did is
an observation for the model; what the sandbox did ends the episode (`sandbox_error`, `sandbox_died`): a model is never told that
its program failed when the sandbox did.

What is known of the episode is its conversation, and that is made of the records: see `Journal`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lisrt import saving
from lisrt.agent.budget import not_enforced, spent
from lisrt.agent.checkpoint import Checkpoints, NotKept
from lisrt.agent.client import ChatClient, ContextExceeded, ModelError, Retry, connection
from lisrt.agent.clock import Stopped, TimeIsUp, until
from lisrt.agent.collect import check_without, collect, mounted, prepare
from lisrt.agent.conversation import Conversation
from lisrt.agent.episode import Episode, ExitReason
from lisrt.agent.journal import Journal
from lisrt.agent.prompts import fill
from lisrt.agent.protocol import calling
from lisrt.agent.reply import Reply, TokenUsage, ToolCall
from lisrt.agent.resume import Unfinished
from lisrt.agent.task import Task
from lisrt.agent.tools import AsyncTools, Observation, SandboxFault
from lisrt.agent.tools.edits import cap
from lisrt.agent.trajectory import FORMAT, TrajectoryWriter
from lisrt.agent.versions import versions
from lisrt.aio import AsyncSandbox
from lisrt.errors import LisrtError

if TYPE_CHECKING:
    from lisrt.agent.loop import Agent

__all__ = ["Run"]

# Fewer tokens than that are not worth a reply.
_LEAST_ROOM = 256
# Observations that stay when old ones are left out; fewer where that is not enough.
_KEPT_OBSERVATIONS = (8, 3, 1)

_WITHOUT_ANSWER = (
    ExitReason.MAX_TURNS,
    ExitReason.MAX_TOKENS,
    ExitReason.MAX_TOOL_TIME,
    ExitReason.TIMEOUT,
    ExitReason.CONTEXT_EXCEEDED,
    ExitReason.NO_TOOL_CALLS,
)
"""Ends after which a model may be asked for an answer."""


class Run:
    """The state of one episode."""

    def __init__(
        self, agent: Agent, task: Task, log: TrajectoryWriter, stop: asyncio.Event, before: Unfinished | None = None
    ) -> None:
        assert agent.prompts is not None and agent.limits is not None
        self._agent, self._task, self._stop, self._before = agent, task, stop, before
        self._prompts, self._limits = agent.prompts, agent.limits
        if task.answer_file is not None:
            self._prompts = replace(self._prompts, answer_file=task.answer_file)
        self._protocol = calling(agent.protocol)
        self._talk = Conversation(self._protocol, with_reasoning=agent.model.reasoning == "resend")
        self._journal = Journal(log, self._talk)
        texts = self._prompts.render(
            task.prompt, max_turns=self._limits.max_turns, command_timeout=self._limits.command_timeout
        )
        self._texts = {name: _sendable(text) for name, text in texts.items()}
        self._definitions = agent.definitions()
        self._started = time.monotonic() - (before.seconds if before else 0.0)
        self._ready = False
        self._reason = ExitReason.SANDBOX_ERROR
        self._errors: list[str] = []
        self._answer: str | None = None
        self._answer_from: str | None = None
        self._output: Path | None = None
        self._status: int | None = None

    async def episode(self, target: Path | None) -> Episode:
        """All of it. Raises only what is no end of an episode: cancellation, and a record that can't be written."""
        self._begin()
        ended = False
        try:
            async with connection(self._agent.model) as client, self._sandbox() as box:
                self._reason = await self._within_time(box, client)
                await self._collect(box, target)
                if self._answer is None and self._agent.force_answer and self._reason in _WITHOUT_ANSWER:
                    await self._force_answer(client)
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

    # The sandbox

    @asynccontextmanager
    async def _sandbox(self) -> AsyncIterator[AsyncSandbox]:
        agent, saved, options = self._agent, self._before.saved if self._before else None, {}
        async with AsyncExitStack() as stack:
            try:
                usual = partial(AsyncSandbox, workdir=self._prompts.working_dir)
                if "files" in agent.without:
                    usual = partial(usual, writable="none")
                    if mounts := stack.enter_context(mounted(self._task, self._prompts)):
                        options["mounts"] = mounts
                if saved is None:
                    made = (agent.open_sandbox or usual)(**options)
                else:
                    image = await asyncio.to_thread(saving.restore, saved)
                    stack.callback(saving.forget, image)
                    made = (agent.open_saved or usual)(image)
                box = await stack.enter_async_context(made)
            except OSError as error:  # no descriptors left on the host, perhaps
                raise SandboxFault(f"the sandbox could not be made: {error}") from error
            yield box

    async def _within_time(self, box: AsyncSandbox, client: ChatClient) -> ExitReason:
        """Prepare and converse, and say how it ended."""
        limit = self._limits.wall_timeout
        left = None if limit is None else max(limit - (time.monotonic() - self._started), 0.0)
        try:
            async with until(self._stop, left):
                await self._prepare(box)
                self._ready = True
                return await self._converse(box, client)
        except ContextExceeded as error:
            self._errors.append(str(error))
            return ExitReason.CONTEXT_EXCEEDED
        except ModelError as error:
            self._errors.append(str(error))
            self._status = error.status
            return ExitReason.MODEL_ERROR
        except Stopped:
            return ExitReason.STOPPED
        except TimeIsUp:
            self._errors.append(f"the episode took longer than {limit:g} s")
            return ExitReason.TIMEOUT

    async def _prepare(self, box: AsyncSandbox) -> None:
        """The directories that the prompt speaks of, and the task's files."""
        check_without(box, self._agent.without)
        resumed = self._before is not None and self._before.saved is not None
        came = None if resumed else await prepare(box, self._task, self._prompts, writable="files" not in self._agent.without)
        self._journal.note(
            "sandbox",
            id=box.id,
            image=box.image,
            guarantees=dict(box.guarantees),
            input=None if came is None else asdict(came),
        )

    # The conversation

    async def _converse(self, box: AsyncSandbox, client: ChatClient) -> ExitReason:
        tools = self._tools(box)
        checkpoints = Checkpoints(box, self._agent.checkpoint, self._before.saved if self._before else None)
        while (over := spent(self._limits, self._talk, self._cost(self._talk.own_usage))) is None:
            if self._agent.turn_hint:
                left = {"turns_left": str(self._limits.max_turns - self._talk.turns)}
                self._journal.note("hint", turn=self._talk.turns + 1, content=fill(self._prompts.hint, left))
            reply = await self._ask(client, self._protocol.fields(self._definitions))
            self._journal.reply(reply)
            if self._talk.idle >= self._limits.max_idle_turns:
                last = cap(reply.content or "", 500)
                self._errors.append(f"{self._talk.idle} replies in a row called no tool; the last: {last!r}")
                return ExitReason.NO_TOOL_CALLS
            if self._talk.idle:
                self._remind(reply)
            elif await self._carry_out(reply, tools, box):
                return ExitReason.SUBMITTED
            await self._keep(checkpoints)
        reason, words = over
        self._errors += [words] * bool(words)
        return reason

    async def _keep(self, checkpoints: Checkpoints) -> None:
        try:
            if (kept := await checkpoints.keep(self._talk.turns)) is not None:
                self._journal.note("checkpoint", turn=self._talk.turns, directory=kept)
                await checkpoints.forget_others(kept)
        except NotKept as error:
            self._journal.note("checkpoint", turn=self._talk.turns, directory=None, error=str(error))

    def _tools(self, box: AsyncSandbox) -> AsyncTools:
        limits = self._limits
        return AsyncTools(
            box,
            working_dir=self._prompts.working_dir,
            profile=self._agent.profile,
            shell=self._agent.shell,
            command_timeout=limits.command_timeout,
            max_command_timeout=limits.max_command_timeout,
            max_output=limits.max_output,
            max_lines=limits.max_lines,
            without=self._agent.without,
        )

    async def _ask(self, client: ChatClient, fields: dict[str, Any], *, last: bool = False) -> Reply:
        """The next reply. Where the context is full, with fewer tokens for it, or without old observations."""
        room: int | None = None
        while True:
            limit = self._limits.max_context
            try:
                if limit is not None and self._talk.context >= limit and not last:
                    raise ContextExceeded(f"the conversation has {self._talk.context} tokens, of {limit}")
                return await client.complete(
                    self._talk.messages, fields, turn=self._talk.turns + 1, on_retry=self._journal.retry, max_tokens=room
                )
            except ContextExceeded as error:
                if error.room >= _LEAST_ROOM and (room is None or error.room < room):
                    room = error.room
                    self._journal.retry(Retry(1, f"{error}; asking for {room} tokens", 0.0))
                elif self._trim():
                    room = None
                else:
                    raise

    def _trim(self) -> bool:
        """Leaves old observations out. False where that is not wanted, or there are none."""
        for keep in _KEPT_OBSERVATIONS if self._agent.on_overflow == "trim" else ():
            if places := self._talk.trimmable(keep):
                self._journal.note("trim", turn=self._talk.turns + 1, messages=places)
                return True
        return False

    def _remind(self, reply: Reply) -> None:
        content = " ".join(filter(None, (self._texts["reminder"], self._protocol.reminder())))
        if reply.finish_reason == "length":
            content = f"That reply was cut off at the limit for one reply. {content}"
        self._journal.note("reminder", turn=self._talk.turns, content=content)

    async def _carry_out(self, reply: Reply, tools: AsyncTools, box: AsyncSandbox) -> bool:
        """Answer every call of one reply; True if `submit` was one of them: those after it are not run."""
        submitted = False
        calls = self._talk.calls(reply)
        for number, call in enumerate(calls):
            if self._limits.max_tool_time is not None and self._talk.tool_time >= self._limits.max_tool_time:
                self._journal.call(call, 0.0, Observation("Not carried out: the time for tools has run out.", "not_run"))
            elif submitted:
                self._journal.call(call, 0.0, Observation("Not carried out: it came after submit.", "not_run"))
            elif number and self._agent.profile == "lis-0.2":
                self._journal.call(call, 0.0, Observation("Not carried out: one call at a time.", "not_run"))
            else:
                observation = await self._observe(call, calls[number + 1 :], tools, cut=reply.finish_reason == "length")
                if observation.outcome == "submitted":
                    submitted = True
                    if "answer" in observation.details:
                        self._answer, self._answer_from = observation.details["answer"], "call"
        self._journal.egress(box)
        return submitted

    async def _observe(self, call: ToolCall, later: Sequence[ToolCall], tools: AsyncTools, *, cut: bool) -> Observation:
        started = time.monotonic()
        try:
            observation = await tools.call(call.name, call.arguments)
        except (LisrtError, SandboxFault):
            self._journal.call(call, time.monotonic() - started, None, "sandbox_error")
            raise
        except asyncio.CancelledError:
            # answered all the same: a conversation with a call that is not is refused
            self._journal.call(call, time.monotonic() - started, Observation("Broken off: the time is up.", "interrupted"))
            for one in later:
                self._journal.call(one, 0.0, Observation("Not carried out: the time is up.", "not_run"))
            raise
        if cut and observation.outcome == "refused":
            note = "The reply was cut off at the limit for one reply; write less at a time."
            observation = Observation(f"{observation.text}\n{note}", observation.outcome)
        self._journal.call(call, time.monotonic() - started, observation)
        return observation

    # The end

    async def _collect(self, box: AsyncSandbox, target: Path | None) -> None:
        target = None if "files" in self._agent.without else target
        found = await collect(box, self._prompts, self._limits, target)
        if found.answer is not None:
            self._answer, self._answer_from = found.answer, "file"
        if found.transfer is not None:
            self._output = target
            self._journal.note("output", **asdict(found.transfer))
        self._errors += found.errors

    async def _force_answer(self, client: ChatClient) -> None:
        """One more reply, without tools, which is the answer."""
        self._journal.note("reminder", turn=self._talk.turns, content=self._texts["last"], last=True)
        fields = self._protocol.fields(self._definitions, last=True)
        try:
            async with until(self._stop, self._limits.collect_timeout):
                reply = await self._ask(client, fields, last=True)
        except Stopped:
            self._reason = ExitReason.STOPPED
            self._errors.append("stopped while an answer was asked for")
            return
        except (ModelError, TimeIsUp) as error:
            said = str(error) or f"no reply within {self._limits.collect_timeout:g} s"
            self._errors.append(f"no answer could be asked for: {said}")
            return
        self._journal.reply(reply)
        for call in self._talk.calls(reply):
            self._journal.call(call, 0.0, Observation("Not carried out: an answer was asked for.", "not_run"))
        if reply.content and reply.content.strip():
            self._answer, self._answer_from = reply.content, "reply"

    def _cost(self, usage: TokenUsage) -> float | None:
        prices = self._agent.model.prices
        return None if prices is None else prices.cost(usage)

    def _end(self) -> Episode:
        talk = self._talk
        episode = Episode(
            answer=self._answer,
            exit_reason=self._reason,
            turns=talk.turns,
            usage=talk.usage,
            output=self._output,
            trajectory=self._journal.path,
            error="; ".join(self._errors) or None,
            answer_from=self._answer_from,
            cost=self._cost(talk.usage),
            duration=time.monotonic() - self._started,
            tool_time=talk.tool_time,
            not_enforced=not_enforced(self._limits, talk),
            http_status=self._status,
        )
        fields = {name: value for name, value in asdict(episode).items() if name != "trajectory"}
        used = {"cpu": talk.cpu, "memory_peak": talk.memory_peak, "written": talk.written}
        self._journal.note("end", **fields, sandbox_usage=used)
        return episode

    # The beginning

    def _begin(self) -> None:
        if self._before is not None:
            self._journal.resume(self._before, model=self._agent.model.settings(), limits=asdict(self._limits))
            return
        self._journal.note(
            "start",
            format=FORMAT,
            id=self._task.id,
            task=self._task.prompt,
            files=sorted(self._task.files) + ([str(self._task.input_dir)] if self._task.input_dir else []),
            data=dict(self._task.data),
            agent=self._agent.settings(),
            model=self._agent.model.settings(),
            limits=asdict(self._limits),
            paths=self._prompts.paths(),
            messages=self._first_messages(),
            tools=[definition.chat() for definition in self._definitions],
            versions=versions(),
        )

    def _first_messages(self) -> list[dict[str, Any]]:
        system = "\n\n".join(filter(None, (self._texts["system"].rstrip(), self._protocol.instructions(self._definitions))))
        return [{"role": "system", "content": system}, {"role": "user", "content": self._texts["task"]}]


def _sendable(text: str) -> str:
    """`text` as UTF-8 can carry it: a task from the command line, say, may hold bytes that are not text."""
    return text.encode("utf-8", "replace").decode()
