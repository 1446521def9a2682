"""Everything that servers, models and their programs do wrong, in one batch beside sane episodes.

Each ends for a recorded reason, the others are unharmed, nothing of the host is read, and nothing is lost.
"""

import asyncio
import functools
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.model_server import (
    Completion,
    HangUp,
    ModelServer,
    Raw,
    Request,
    bash,
    call,
    calls,
    refusal,
    say,
    tool_call,
)

from lisrt import AsyncSandbox, Limits
from lisrt.agent import Agent, AgentLimits, Batch, ExitReason, Model, Task, TaskResult, read_trajectory

pytestmark = pytest.mark.usefixtures("working_host")

SUBMIT = call("submit")
SECRET = "a secret of the host"

Model_ = Callable[[int, Request], Any]


def then_submit(*steps: Any) -> Model_:
    """Those replies, then `submit`."""

    def model(turn: int, request: Request) -> Any:
        return steps[turn] if turn < len(steps) else SUBMIT

    return model


def hangs(_turn: int, _request: Request) -> Any:
    time.sleep(3)  # longer than this task's request_timeout: a server that says nothing
    return HangUp()


def midway(_turn: int, _request: Request) -> Any:
    """A body that is shorter than its header says."""
    return Raw(200, '{"choices": [{"mess', {"Content-Length": "100000"})


LARGE = call("str_replace_editor", command="create", path="f", file_text="z" * 10_000_000)
FILL = "for i in 1 2 3 4 5; do head -c 90M /dev/zero > big$i; done; sleep 60"
HALF = Raw(200, '{"choices": [{"message": {"role": "assistant", "content": "\\ud83d \\u0000"}}]}')
FOREVER = "for i in $(seq 1000); do sleep 600 & done; wait"

MODELS: dict[str, tuple[Model_, set[str]]] = {
    "refuses": (lambda *_: refusal(403, "no"), {"model_error"}),
    "hangs": (hangs, {"model_error"}),
    "hangs up": (lambda *_: HangUp(), {"model_error"}),
    "drops midway": (midway, {"model_error"}),
    "sends no JSON": (lambda *_: Raw(200, "<html>"), {"model_error"}),
    "sends no choices": (lambda *_: Raw(200, '{"choices": []}'), {"model_error"}),
    "is too busy": (lambda *_: Raw(429, "", {"Retry-After": "0"}), {"model_error"}),
    "is full": (lambda *_: refusal(400, "maximum context length is 10 tokens"), {"context_exceeded"}),
    "no id": (then_submit(calls(tool_call("execute_bash", {"command": "true"}, id=""))), {"submitted"}),
    "same id": (then_submit(calls(*[tool_call("execute_bash", {"command": "true"}, id="x")] * 2)), {"submitted"}),
    "10 MB": (then_submit(call("execute_bash", command="x" * 10_000_000), call("submit", x="y" * 10_000_000)), {"submitted"}),
    "10 MB file": (
        then_submit(LARGE, bash("wc -c f > answer.txt")),
        {"submitted"},
    ),
    "loops": (lambda *_: bash("true"), {"max_turns"}),
    "talks": (lambda *_: say("well"), {"no_tool_calls"}),
    "at once": (lambda *_: SUBMIT, {"submitted"}),
    "100 MB": (then_submit(bash("head -c 100M /dev/zero | tr '\\0' x")), {"submitted"}),
    "kills": (then_submit(bash("kill -9 $$"), bash("kill -9 -1"), bash("kill -9 1")), {"submitted"}),
    "deletes": (then_submit(bash("rm -rf /testbed /tmp /root; ls /testbed"), bash("echo x > answer.txt")), {"submitted"}),
    "fills": (then_submit(bash(FILL), bash("rm -f big*; echo x > answer.txt")), {"submitted"}),
    "processes": (then_submit(bash(FOREVER, timeout=3), bash("echo $$ > answer.txt")), {"submitted"}),
    "memory": (then_submit(bash("python3 -c 'x = b\"x\" * (1 << 30)'"), bash("echo x > answer.txt")), {"submitted"}),
    "link": (then_submit(bash("ln -s {secret} answer.txt; ln -s {secret} output/link; ln -s / output/root")), {"submitted"}),
    "fifo": (then_submit(bash("mkfifo answer.txt output/fifo")), {"submitted"}),
    "directory": (then_submit(bash("mkdir answer.txt; chmod 0 output")), {"submitted"}),
    "surrogate": (then_submit(HALF), {"submitted"}),
}  # fmt: skip

SANE = 8


def number_and_turn(request: Request) -> tuple[str, int]:
    match = re.search(r"<(.*?)>", request.messages[1]["content"])
    assert match
    return match[1], sum(message["role"] == "assistant" for message in request.messages)


def sane(turn: int, request: Request) -> Any:
    return bash("sleep 0.2; echo fine > answer.txt") if turn < 3 else SUBMIT


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, TaskResult], Path]:
    """All of them in one process at once, each sandbox with limits."""
    place = tmp_path_factory.mktemp("bad")
    secret = place / "secret"
    secret.write_text(SECRET)

    def step(request: Request) -> Any:
        name, turn = number_and_turn(request)
        answer = (MODELS[name][0] if name in MODELS else sane)(turn, request)
        if isinstance(answer, Completion):
            return replace(answer, message=json.loads(json.dumps(answer.message).replace("{secret}", str(secret))))
        return answer

    limits = Limits(memory="200MiB", pids=100, disk="200MiB")
    names = [*MODELS, *(f"sane {number}" for number in range(SANE))]

    async def run(url: str) -> dict[str, TaskResult]:
        agent = Agent(
            Model("m", url, retries=1, retry_delay=0.01, request_timeout=2.0),
            limits=AgentLimits(max_turns=6, wall_timeout=120),
            open_sandbox=functools.partial(AsyncSandbox, limits=limits),
        )
        tasks = [Task(f"This is <{name}>.", id=name) for name in names]
        return {one.task.id: one async for one in Batch(agent, tasks, concurrency=len(names), folder=place / "run")}

    with ModelServer(step) as server:
        found = asyncio.run(run(server.base_url))
    assert server.violations == []
    return found, place


@pytest.mark.parametrize("name", MODELS)
def test_it_ends_for_a_recorded_reason(results: tuple[dict[str, TaskResult], Path], name: str) -> None:
    found, place = results
    episode = found[name].episode
    assert episode.exit_reason in MODELS[name][1], episode.error
    assert episode.trajectory is not None
    records = read_trajectory(episode.trajectory)
    assert (records[0]["type"], records[-1]["type"]) == ("start", "end")
    assert records[-1]["exit_reason"] == episode.exit_reason
    if episode.exit_reason == "model_error":
        assert episode.error
    assert SECRET not in Path(episode.trajectory).read_text()


def test_the_others_are_unharmed_and_nothing_is_lost(results: tuple[dict[str, TaskResult], Path]) -> None:
    found, place = results
    for number in range(SANE):
        one = found[f"sane {number}"]
        assert (one.episode.exit_reason, one.episode.answer, one.attempts) == (ExitReason.SUBMITTED, "fine\n", 1)
    lines = [json.loads(line) for line in (place / "run/results.jsonl").read_text().splitlines()]
    assert sorted(line["task"] for line in lines) == sorted(found)
    assert threading.active_count() < 50


def test_nothing_of_the_host_was_read(results: tuple[dict[str, TaskResult], Path]) -> None:
    found, place = results
    assert found["link"].episode.answer is None
    assert found["fifo"].episode.answer is None
    for path in (place / "run").rglob("*"):
        assert not path.is_symlink() or not os.path.exists(path), path
        if path.is_file():
            assert SECRET not in path.read_bytes().decode(errors="replace"), path


def test_what_limits_have_stopped_is_told_the_model(results: tuple[dict[str, TaskResult], Path]) -> None:
    found, _ = results

    def observations(name: str) -> str:
        trajectory = found[name].episode.trajectory
        assert trajectory is not None
        return "\n".join(record["observation"] for record in read_trajectory(trajectory) if record["type"] == "tool")

    assert "Out of memory" in observations("memory")
    assert "limit on disk" in observations("fills")
    assert "limit on processes was reached" in observations("processes") or "Resource temporarily" in observations("processes")
    assert "bytes that were not kept" in observations("100 MB")
    assert "too long to start" in observations("10 MB")
    for name in ("memory", "deletes"):
        assert found[name].episode.answer == "x\n"
    assert found["10 MB file"].episode.answer == "10000000 f\n"
