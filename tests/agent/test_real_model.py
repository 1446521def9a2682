"""Whole episodes with a real model: a small one, whose wit is not the point. Whatever it says, the episode ends for a recorded
reason, the record is whole, and its tokens are those that the server counted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, refusal
from support.real_model import NAME, Exchange, RealModel, real_model

from lisrt.agent import (
    Agent,
    AgentLimits,
    Episode,
    ExitReason,
    Model,
    Prompts,
    effective,
    read_trajectory,
    replayed,
)

pytest.importorskip("openai")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("working_host")]

TASK = "Write the number 42 to the answer file. Use the command: echo 42 > answer.txt"
#: Ends that a model can bring about; all others would be a fault of ours, of the server or of the host.
ITS_OWN = {ExitReason.SUBMITTED, ExitReason.MAX_TURNS, ExitReason.NO_TOOL_CALLS}

Record = dict[str, Any]


@dataclass(frozen=True)
class Played:
    """An episode, its record, what went over the wire, and what the server's counters went up by."""

    episode: Episode
    records: list[Record]
    exchanges: list[Exchange]
    counted: dict[str, float]

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record["type"] == kind]

    @property
    def answered(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.status == 200]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealModel]:
    """With all the context that the model was trained for."""
    with real_model(tmp_path_factory.mktemp("model"), context=8192) as found:
        yield found


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealModel]:
    """With room for the prompts and a few answers of tools."""
    with real_model(tmp_path_factory.mktemp("narrow"), context=2048) as found:
        yield found


def play(
    model: RealModel,
    tmp_path: Path,
    *,
    task: str = TASK,
    limits: dict[str, Any] | None = None,
    sampling: dict[str, Any] | None = None,
    **settings: Any,
) -> Played:
    """One short episode; its end is not the clock's."""
    bounds = AgentLimits(**{"max_turns": 3, "max_idle_turns": 2, "wall_timeout": 200.0, **(limits or {})})
    options = {"temperature": 0.0, "seed": 1, "max_tokens": 120, "retries": 0, **(sampling or {})}
    agent = Agent(Model(NAME, model.base_url, **options), limits=bounds, **settings)
    first, before, path = len(model.exchanges), model.counters(), tmp_path / "trajectory.jsonl"
    episode = agent.run_sync(task, trajectory=path)
    after = model.counters()
    counted = {name: after[name] - before.get(name, 0.0) for name in after}
    return Played(episode, read_trajectory(path), model.exchanges[first:], counted)


def check_record(played: Played) -> None:
    """The record is whole, and it tells what was said, byte for byte."""
    records, episode = played.records, played.episode
    assert [records[0]["type"], records[1]["type"], records[-1]["type"]] == ["start", "sandbox", "end"]
    assert (records[-1]["exit_reason"], records[-1]["turns"]) == (episode.exit_reason, episode.turns)
    assert [record["turn"] for record in played.of("response")] == list(range(1, episode.turns + 1))
    assert [record["message"] for record in played.of("response")] == [
        exchange.answer["choices"][0]["message"] for exchange in played.answered
    ]
    for record, exchange in zip(played.of("response"), played.answered, strict=True):
        before = records[: records.index(record)]
        assert replayed(effective(before)).messages == exchange.sent["messages"]


def check_tokens(played: Played, model: RealModel) -> None:
    """What the record says was used is what each answer said, what the server's counters went up by, and what the text makes."""
    for record, exchange in zip(played.of("response"), played.answered, strict=True):
        assert record["usage"] == {
            "prompt": exchange.usage["prompt_tokens"],
            "completion": exchange.usage["completion_tokens"],
            "cached": exchange.cached,
            "reasoning": 0,
        }
        assert record["usage"]["prompt"] == model.tokens_of(exchange.sent)
        assert record["latency"] > 0
    usage = played.episode.usage
    assert usage.completion == played.counted["tokens_predicted_total"] > 0
    assert usage.prompt - usage.cached == played.counted["prompt_tokens_total"] > 0
    assert usage.cached == played.counted["prompt_tokens_cached_total"]
    assert played.records[-1]["usage"]["prompt"] == usage.prompt
    assert played.records[-1]["usage"]["completion"] == usage.completion


@pytest.mark.parametrize("protocol", ["native", "bash", "json", "xml"])
def test_an_episode_ends_for_a_recorded_reason(protocol: str, model: RealModel, tmp_path: Path) -> None:
    played = play(model, tmp_path, protocol=protocol)
    assert played.episode.exit_reason in ITS_OWN, played.episode.error
    assert len(played.answered) == len(played.exchanges) == played.episode.turns >= 1
    check_record(played)
    check_tokens(played, model)


def test_the_beginning_of_a_conversation_is_read_once(model: RealModel, tmp_path: Path) -> None:
    """Prompts only ever grow at their end, so the server finds all but the last message in its cache."""
    played = play(model, tmp_path, protocol="json", limits={"max_turns": 3, "max_idle_turns": 3})
    first, *later = played.answered
    assert later
    for before, exchange in zip([first, *later], later, strict=False):
        assert exchange.cached >= before.usage["prompt_tokens"] - 1
    assert played.episode.usage.cached == sum(exchange.cached for exchange in played.answered)


def test_json_is_held_to_the_schema(model: RealModel, tmp_path: Path) -> None:
    """Whatever so small a model would say by itself, a reply that was not cut off is a call of a tool that exists."""
    played = play(model, tmp_path, protocol="json", limits={"max_turns": 3}, sampling={"max_tokens": 400})
    names = {tool["function"]["name"] for tool in played.records[0]["tools"]}
    ended = [exchange.answer["choices"][0] for exchange in played.answered]
    whole = [json.loads(choice["message"]["content"]) for choice in ended if choice["finish_reason"] == "stop"]
    assert whole
    assert all(list(value) == ["thought", "tool", "arguments"] and value["tool"] in names for value in whole)
    assert len(played.of("tool")) >= len(whole)


def test_a_native_call_is_carried_out(model: RealModel, tmp_path: Path) -> None:
    """The server makes a call of what the model writes, and takes its answer back. One this small writes what it is shown."""
    shown = '<tool_call>\n{"name": "execute_bash", "arguments": {"command": "echo 42 > answer.txt"}}\n</tool_call>'
    task = f"Answer with exactly this, and nothing else:\n{shown}"
    prompts = Prompts(system="Make one call.", task="{task}")
    played = play(model, tmp_path, task=task, prompts=prompts, limits={"max_turns": 2})
    messages = [exchange.answer["choices"][0]["message"] for exchange in played.answered]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    assert calls
    assert [(record["id"], record["name"], record["arguments"]) for record in played.of("tool")] == [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls
    ]
    assert played.episode.answer == "42\n"
    assert played.answered[1].sent["messages"][3]["role"] == "tool"
    check_record(played)
    check_tokens(played, model)


# --- a full context ---


def puppet(command: str) -> dict[str, Any]:
    """Sampling that leaves the model one thing to say: this command."""
    arguments = {"type": "object", "properties": {"command": {"const": command}}, "required": ["command"]}
    parts = {"thought": {"const": "next"}, "tool": {"const": "execute_bash"}, "arguments": arguments}
    for schema in (arguments, whole := {"type": "object", "properties": parts, "required": list(parts)}):
        schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "puppet", "schema": whole}}
    return {"extra_body": {"response_format": form}}


def test_a_task_that_does_not_fit(narrow: RealModel, tmp_path: Path) -> None:
    """The server's own refusal is told apart at once, without a try more."""
    played = play(narrow, tmp_path, task="word " * 4000, sampling={"retries": 3})
    assert (played.episode.exit_reason, played.episode.turns) == (ExitReason.CONTEXT_EXCEEDED, 0)
    [refused] = played.exchanges
    assert (refused.status, refused.answer["error"]["type"]) == (400, "exceed_context_size_error")
    assert refused.answer["error"]["message"] in (played.episode.error or "")
    assert played.of("retry") == []


def test_its_words_alone_would_do(narrow: RealModel, tmp_path: Path) -> None:
    """Proxies pass on the message and lose the type."""
    [refused] = play(narrow, tmp_path, task="word " * 4000).exchanges
    with ModelServer([refusal(400, refused.answer["error"]["message"])]) as server:
        episode = Agent(Model(NAME, server.base_url)).run_sync("a task")
    assert episode.exit_reason == ExitReason.CONTEXT_EXCEEDED


def test_a_conversation_that_outgrows_the_context(narrow: RealModel, tmp_path: Path) -> None:
    played = play(
        narrow, tmp_path, protocol="json", task="Count.", limits={"max_turns": 8}, sampling=puppet("seq 150")
    )
    assert played.episode.exit_reason == ExitReason.CONTEXT_EXCEEDED
    assert 1 <= played.episode.turns < 8
    assert [exchange.status for exchange in played.exchanges] == [200] * played.episode.turns + [400]
    ends = [exchange.answer["choices"][0]["finish_reason"] for exchange in played.answered]
    assert set(ends[:-1]) <= {"stop"}, "only the last reply may have met the end of the context"
    assert len(played.of("tool")) == ends.count("stop") >= 1
    check_record(played)
    check_tokens(played, narrow)


def test_old_observations_make_room(narrow: RealModel, tmp_path: Path) -> None:
    played = play(
        narrow,
        tmp_path,
        protocol="json",
        task="Count.",
        limits={"max_turns": 5},
        sampling=puppet("seq 150"),
        on_overflow="trim",
    )
    assert (played.episode.exit_reason, played.episode.turns) == (ExitReason.MAX_TURNS, 5)
    refused = [exchange for exchange in played.exchanges if exchange.status == 400]
    assert len(refused) == len(played.of("trim")) >= 1
    assert "left out" in json.dumps(played.answered[-1].sent["messages"])
    assert all(exchange.usage["prompt_tokens"] < narrow.context for exchange in played.answered)
    check_record(played)
    check_tokens(played, narrow)
