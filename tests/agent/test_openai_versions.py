"""The same episodes with each major version of the openai package that is supported, each in a Python of its own.

Over TLS, as the package is what leads there; a server on a plain connection is reached without it.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificate
from support.fresh import environment, python
from support.model_server import Answer, HangUp, ModelServer, Raw, Request, Step, call, refusal, tool_call
from support.packages import installed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("working_host")]

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-very-secret"
#: What the package reads from there would otherwise go to whatever server was named.
OTHERS = {
    "OPENAI_API_KEY": "from-environment",
    "OPENAI_ADMIN_KEY": "from-environment",
    "OPENAI_ORG_ID": "from-environment",
    "OPENAI_PROJECT_ID": "from-environment",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/from-environment",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer from-environment\nX-Other: from-environment",
}

EPISODES = """
import asyncio, json, os, sys

import openai

from lisrt.agent import Agent, AgentLimits, Model

given = json.loads(os.environ["GIVEN"])
assert openai.__file__.startswith(given["packages"]), openai.__file__
model = Model("test-model", given["base_url"], **given["model"])
agent = Agent(model, limits=AgentLimits(max_turns=50), **given["agent"])


async def main():
    names = range(given["episodes"])
    return await asyncio.gather(*(agent.run(f"task {name}", trajectory=f"{name}.jsonl") for name in names))


ends = [
    {"reason": one.exit_reason, "turns": one.turns, "answer": one.answer, "error": one.error, "usage": vars(one.usage)}
    for one in asyncio.run(main())
]
print(json.dumps({"version": openai.__version__, "ends": ends}))
"""

SUBMIT = call("submit")


def lowest() -> str:
    """The oldest that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [requirement] = [one for one in project["optional-dependencies"]["agent"] if one.startswith("openai")]
    return requirement.removeprefix("openai>=")


@pytest.fixture(scope="module", params=["lowest", "1", "2", "3"])
def packages(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """What the version begins with, and where it lies."""
    major = request.param
    if major == "lowest":
        yield lowest(), installed(f"openai=={lowest()}")
    else:
        yield f"{major}.", installed(f"openai>={lowest() if major == '1' else major},<{int(major) + 1}")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The server's certificate, and its key."""
    return certificate(tmp_path_factory.mktemp("tls"))


def play(
    packages: tuple[str, Path],
    server: ModelServer,
    cwd: Path,
    *,
    model: dict[str, Any] | None = None,
    episodes: int = 1,
    **agent: Any,
) -> list[dict[str, Any]]:
    """What became of so many episodes at once."""
    version, path = packages
    assert server.certificate is not None
    given = {
        "packages": str(path),
        "base_url": server.base_url,
        "model": {"api_key": KEY, "retries": 3, "retry_delay": 0.001, **(model or {})},
        "agent": agent,
        "episodes": episodes,
    }
    paths = os.pathsep.join([str(path), environment()["PYTHONPATH"]])
    own = {"PYTHONPATH": paths, "GIVEN": json.dumps(given), "SSL_CERT_FILE": str(server.certificate[0])}
    done = python(EPISODES, cwd=cwd, env={**OTHERS, **own}, within=120)
    assert done.stderr == ""
    assert KEY not in done.stdout
    for trajectory in list(cwd.glob("*.jsonl")):
        assert KEY not in trajectory.read_text()
    found = json.loads(done.stdout)
    assert found["version"].startswith(version)
    ends: list[dict[str, Any]] = found["ends"]
    return ends


def answer(message: dict[str, Any], *, finish_reason: str = "tool_calls", **usage: Any) -> Raw:
    """A message with fields that our own `Completion` doesn't have."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    body = {"id": "a", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return Raw(200, json.dumps(body))


def without_id(name: str, **arguments: Any) -> dict[str, Any]:
    made = tool_call(name, arguments)
    del made["id"]
    return made


def test_trouble_passes_and_nothing_is_lost(packages: tuple[str, Path], tls: tuple[Path, Path], tmp_path: Path) -> None:
    """All that a server may do to a client before an answer, and all that an answer may hold."""
    details = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    write = without_id("execute_bash", command="printf 42 > /testbed/answer.txt")
    steps: list[Step] = [
        refusal(500, "broken"),
        HangUp(),
        Raw(429, "slow down", {"Retry-After": "0"}),
        answer({"content": None, "reasoning_content": "A thought…", "tool_calls": [write]}, **details),
        answer({"content": "Both.", "tool_calls": [tool_call("execute_bash", {"command": "true"})] * 2}, **details),
        SUBMIT,
    ]
    with ModelServer(steps, certificate=tls) as server:
        [end] = play(packages, server, tmp_path)
    assert server.violations == []
    assert (end["reason"], end["turns"], end["answer"]) == ("submitted", 3, "42"), end["error"]
    assert end["usage"] == {"prompt": 210, "completion": 45, "cached": 128, "reasoning": 14}
    records = [json.loads(line) for line in (tmp_path / "0.jsonl").read_text().splitlines()]
    tries = [(one["turn"], one["attempt"], one["delay"] > 0) for one in records if one["type"] == "retry"]
    assert tries == [(1, 1, True), (1, 2, True), (1, 3, False)]
    first, *later = server.requests
    assert [request.body for request in later[:3]] == [first.body] * 3, "a repeated try asks the same"
    resent = server.requests[4].messages[2]
    assert resent["reasoning_content"] == "A thought…"
    assert [one["role"] for one in server.requests[5].messages].count("tool") == 3
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert "from-environment" not in str([(request.headers, request.body) for request in server.requests])


@pytest.mark.parametrize(
    ("refused", "reason", "shown"),
    [
        (refusal(400, "too much", code="context_length_exceeded"), "context_exceeded", "too much"),
        (refusal(401, f"the key {KEY} is wrong"), "model_error", "check the API key"),
        (Raw(200, "<html>hello</html>", {"Content-Type": "text/html"}), "model_error", "<html>hello</html>"),
        (Raw(200, b"not gzip", {"Content-Encoding": "gzip"}), "model_error", "no connection"),
    ],
)
def test_a_refusal_has_its_reason(
    refused: Raw, reason: str, shown: str, packages: tuple[str, Path], tls: tuple[Path, Path], tmp_path: Path
) -> None:
    with ModelServer([call("execute_bash", command="true"), refused], certificate=tls) as server:
        [end] = play(packages, server, tmp_path, model={"retries": 0})
    assert (end["reason"], end["turns"]) == (reason, 1)
    assert shown in end["error"]


def test_a_server_that_never_answers(packages: tuple[str, Path], tls: tuple[Path, Path], tmp_path: Path) -> None:
    """Nor does one whose answer stops in the middle: the time is that of the whole."""
    with ModelServer([Raw(200, b" " * 100, {"Content-Length": "101"})], certificate=tls) as server:
        [end] = play(packages, server, tmp_path, model={"retries": 0, "request_timeout": 0.5})
    assert (end["reason"], end["turns"]) == ("model_error", 0)
    assert "no reply within 0.5 s" in end["error"]


def test_what_is_asked_for_is_what_is_sent(packages: tuple[str, Path], tls: tuple[Path, Path], tmp_path: Path) -> None:
    """Whatever the package knows of today's API: fields of tomorrow's, the schema, and text of any kind arrive as they are."""
    sampling = {"temperature": 0.25, "top_p": 0.5, "seed": 7, "max_tokens": 99, "extra_body": {"top_k": 5, "min_p": {"a": None}}}
    submit = {"thought": "naïve – \u4e16\u754c \U0001f30d", "tool": "submit", "arguments": {}}
    with ModelServer([answer({"content": json.dumps(submit)}, finish_reason="stop")], certificate=tls) as server:
        [end] = play(packages, server, tmp_path, model=sampling, protocol="json")
    assert end["reason"] == "submitted", end["error"]
    [request] = server.requests
    start = json.loads((tmp_path / "0.jsonl").read_text().splitlines()[0])
    expected = {"model": "test-model", "messages": start["messages"], "top_k": 5, "min_p": {"a": None}}
    expected |= {name: sampling[name] for name in ("temperature", "top_p", "seed", "max_tokens")}
    form = request.body.pop("response_format")
    assert request.body == expected
    assert [one["properties"]["tool"]["const"] for one in form["json_schema"]["schema"]["anyOf"]] == [
        tool["function"]["name"] for tool in start["tools"]
    ]


def turns(number: int) -> Iterable[Step]:
    return [*[call("execute_bash", command="true")] * number, SUBMIT]


def test_an_episode_keeps_its_connection(packages: tuple[str, Path], tls: tuple[Path, Path], tmp_path: Path) -> None:
    with ModelServer(turns(20), certificate=tls) as server:
        [end] = play(packages, server, tmp_path)
    assert (end["reason"], end["turns"]) == ("submitted", 21), end["error"]
    assert server.connections == 1


def test_episodes_at_once_share_theirs(packages: tuple[str, Path], tls: tuple[Path, Path], tmp_path: Path) -> None:
    """Each needs one at most, however many turns it has."""
    episodes, deep = 8, 5

    def model(request: Request) -> Answer:
        number = re.findall(r"task (\d+)", request.messages[1]["content"])[0]
        if len(request.observations) and len(request.messages) > 2 * deep:
            return SUBMIT
        return call("execute_bash", command=f"printf {number} > /testbed/answer.txt")

    with ModelServer(model, certificate=tls) as server:
        ends = play(packages, server, tmp_path, episodes=episodes)
    assert [(end["reason"], end["answer"]) for end in ends] == [("submitted", str(number)) for number in range(episodes)]
    assert 1 <= server.connections <= episodes
    assert len(server.requests) > 4 * episodes
