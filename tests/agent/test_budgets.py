"""What an episode may use: turns are not all. Each end has its reason, and a model may be asked for an answer."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.model_server import Completion, ModelServer, Raw, Request, call, refusal, say
from support.waiting import not_blocked

from lisrt.agent import (
    Agent,
    AgentLimits,
    Episode,
    ExitReason,
    Model,
    Prices,
    TokenUsage,
    read_trajectory,
    replayed,
)

pytestmark = pytest.mark.usefixtures("working_host")

WORK = call("execute_bash", command="echo x")


def play(
    steps: Any, *, model: dict[str, Any] | None = None, trajectory: Path | None = None, **settings: Any
) -> tuple[Episode, ModelServer]:
    with ModelServer(steps) as server:
        agent = Agent(Model("m", server.base_url, retries=1, retry_delay=0.001, **(model or {})), **settings)
        episode = agent.run_sync("the task", trajectory=trajectory)
    assert server.violations == []
    return episode, server


def test_tokens_of_all_turns() -> None:
    episode, server = play(lambda _: WORK, limits=AgentLimits(max_tokens=40))
    assert (episode.exit_reason, episode.turns) == (ExitReason.MAX_TOKENS, 3)  # 15 each: the third goes over it
    assert "45 tokens were used, of 40" in (episode.error or "")


def test_cost() -> None:
    prices = Prices(prompt=1e6, completion=2e6)
    episode, _ = play(lambda _: WORK, model={"prices": prices}, limits=AgentLimits(max_cost=50))
    assert (episode.exit_reason, episode.turns, episode.cost) == (ExitReason.MAX_COST, 3, 60.0)
    assert Prices(2.0, 8.0, cached=0.5).cost(TokenUsage(3_000_000, 1_000_000, cached=1_000_000)) == 12.5
    with pytest.raises(ValueError, match="prices"):
        Agent(Model("m", "http://localhost:1/v1"), limits=AgentLimits(max_cost=1.0))


def test_the_time_of_tools() -> None:
    slow = call("execute_bash", command="sleep 0.3")
    episode, _ = play(lambda _: slow, limits=AgentLimits(max_tool_time=0.2))
    assert (episode.exit_reason, episode.turns) == (ExitReason.MAX_TOOL_TIME, 1)
    assert episode.tool_time >= 0.3


def test_the_context_has_a_limit_of_its_own() -> None:
    large = Completion(WORK.message, "tool_calls", prompt_tokens=900, completion_tokens=200)
    episode, server = play(lambda _: large, limits=AgentLimits(max_context=1000))
    assert (episode.exit_reason, len(server.requests)) == (ExitReason.CONTEXT_EXCEEDED, 1)
    assert "1100 tokens, of 1000" in (episode.error or "")


TOO_LONG = refusal(400, "This model's maximum context length is 4096 tokens. Please reduce the length of the messages.")


def test_old_observations_are_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    """The server says that it is full until what is old has gone; the trajectory tells the conversation as it was sent."""
    sizes: list[int] = []

    def step(request: Request) -> Any:
        size = sum(len(message["content"] or "") for message in request.messages)
        sizes.append(size)
        if size > 30_000:
            return TOO_LONG
        return call("submit") if len(sizes) > 12 else call("execute_bash", command="seq 1 1500 | tr '\\n' ' '")

    path = tmp_path / "t.jsonl"
    episode, server = play(step, on_overflow="trim", trajectory=path)
    assert episode.exit_reason is ExitReason.SUBMITTED, episode.error
    last = server.requests[-1].messages
    assert "[left out to save context]" in [message["content"] for message in last]
    assert "1500" in last[-1]["content"]
    assert [record for record in read_trajectory(path) if record["type"] == "trim"]
    known = replayed(read_trajectory(path)[:-2])
    assert known.messages[: len(last)] == last
    stopped, _ = play([WORK, TOO_LONG])
    assert stopped.exit_reason is ExitReason.CONTEXT_EXCEEDED


def test_what_is_left_of_the_context_is_asked_for() -> None:
    """Servers that count the reply in say how much room there is."""
    words = (
        "This model's maximum context length is 4096 tokens. However, you requested 9096 tokens "
        "(1096 in the messages, 8000 in the completion)."
    )

    def step(request: Request) -> Any:
        return call("submit") if request.body.get("max_tokens", 0) <= 3000 else refusal(400, words)

    episode, server = play(step, model={"max_tokens": 8000})
    assert episode.exit_reason is ExitReason.SUBMITTED
    assert [request.body["max_tokens"] for request in server.requests] == [8000, 3000]


@pytest.mark.parametrize(
    ("words", "room"),
    [
        ("maximum context length is 32768 tokens and your request has 12000 input tokens (65536 > 32768 - 12000)", 20768),
        (
            "maximum context length of 163840 tokens. The request has 113533 tokens from the input messages",
            50307,
        ),
        ("maximum context length is 100 tokens, 200 input tokens", 0),
        ("This model's maximum context length is 4096 tokens.", 0),
        ("no numbers", 0),
    ],
)
def test_the_room_that_servers_speak_of(words: str, room: int) -> None:
    from lisrt.agent.client import room_left

    assert room_left(words) == room


@pytest.mark.parametrize("protocol", ["native", "xml"])
def test_an_answer_can_be_asked_for_at_the_end(tmp_path: Path, protocol: str) -> None:
    work = WORK if protocol == "native" else say("<function=execute_bash><parameter=command>echo x</parameter></function>")

    def step(request: Request) -> Any:
        last = request.messages[-1]["content"]
        return say("<think>hm</think>It is 42.") if "no more tools" in last else work

    path = tmp_path / "t.jsonl"
    episode, server = play(step, force_answer=True, protocol=protocol, limits=AgentLimits(max_turns=2), trajectory=path)
    assert (episode.exit_reason, episode.answer, episode.answer_from) == (ExitReason.MAX_TURNS, "It is 42.", "reply")
    assert server.requests[-1].body.get("tool_choice") == ("none" if protocol == "native" else None)
    assert read_trajectory(path)[-1]["answer_from"] == "reply"
    roles = [message["role"] for message in server.requests[-1].messages]
    assert "user user" not in " ".join(roles)
    silent, server = play(lambda _: WORK, limits=AgentLimits(max_turns=2))
    assert (silent.answer, len(server.requests)) == (None, 2)


def test_an_answer_that_is_there_is_not_asked_for() -> None:
    wrote = call("execute_bash", command="echo 7 > answer.txt")
    episode, server = play(lambda _: wrote, force_answer=True, limits=AgentLimits(max_turns=2))
    assert (episode.answer, episode.answer_from, len(server.requests)) == ("7\n", "file", 2)


def test_a_server_that_fails_then_gives_no_answer() -> None:
    episode, _ = play([WORK, Raw(400, "no")], force_answer=True, limits=AgentLimits(max_turns=1))
    assert (episode.exit_reason, episode.answer) == (ExitReason.MAX_TURNS, None)
    assert "no answer could be asked for" in (episode.error or "")


def test_the_model_may_ask_for_more_time_and_not_for_all() -> None:
    def observe(**arguments: Any) -> str:
        limits = AgentLimits(command_timeout=0.5, max_command_timeout=20)
        _, server = play([call("execute_bash", command="sleep 1; echo slept", **arguments), call("submit")], limits=limits)
        return server.requests[1].observations[0]

    assert "Timed out after 0.5 s" in observe()
    assert "slept" in observe(timeout=15)
    assert "Timed out after 0.2 s" in observe(timeout=0.2)
    assert "up to 20 seconds" in observe(timeout=21)


def test_a_forced_answer_can_be_stopped() -> None:
    """It is not waited for when the caller wants an end."""
    hangs = threading.Event()
    asked: list[Callable[[], object]] = []

    async def run(server: ModelServer) -> Episode:
        stop, last = asyncio.Event(), asyncio.Event()
        asked.append(partial(asyncio.get_running_loop().call_soon_threadsafe, last.set))
        agent = Agent(Model("m", server.base_url), force_answer=True, limits=AgentLimits(max_turns=1))
        task = asyncio.create_task(agent.run("x", stop=stop))
        await last.wait()
        stop.set()
        return await task

    def step(request: Request) -> Any:
        if len(server.requests) == 2:
            asked[0]()
            hangs.wait()
        return WORK

    with ModelServer(step) as server:
        with not_blocked():
            episode = asyncio.run(run(server))
        hangs.set()
    assert (episode.exit_reason, episode.answer) == (ExitReason.STOPPED, None)


def test_a_budget_that_could_not_bind_is_told(tmp_path: Path) -> None:
    """A server that counts no tokens leaves nothing to hold against them."""
    blind = Completion(WORK.message, "tool_calls", prompt_tokens=0, completion_tokens=0)
    steps = [blind, WORK, call("submit")]
    episode, _ = play(steps, limits=AgentLimits(max_tokens=1000), trajectory=tmp_path / "t.jsonl")
    assert episode.exit_reason is ExitReason.SUBMITTED
    assert (episode.not_enforced, episode.error) == (("max_tokens",), None)
    assert read_trajectory(tmp_path / "t.jsonl")[-1]["not_enforced"] == ["max_tokens"]
    assert play([blind, call("submit")])[0].not_enforced == ()
