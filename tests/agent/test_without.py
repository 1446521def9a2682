"""Capabilities that are taken away, as the paper's analysis does; each beside its positive control."""

import asyncio
import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import ModelServer, call

from lisrt import AsyncSandbox, Proxy
from lisrt.agent import Agent, Episode, ExitReason, Model, Task, read_trajectory

pytestmark = pytest.mark.usefixtures("working_host")


def play(steps: Any, task: Task | None = None, **settings: Any) -> tuple[Episode, ModelServer]:
    with ModelServer(steps) as server:
        agent = Agent(Model("m", server.base_url), **settings)
        episode = asyncio.run(agent.run(task or Task("the task")))
    assert server.violations == []
    return episode, server


@pytest.fixture
def web() -> Iterator[int]:
    """A web server of this host."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("without", [(), ("network",)])
def test_the_network(web: int, without: tuple[str, ...]) -> None:
    """What the sandbox may reach is its network's business; the agent's part is that nobody opens another one."""
    fetch = f"python3 -c \"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{web}/').status)\""
    opened = functools.partial(AsyncSandbox, network="none" if without else "host")
    _, server = play([call("execute_bash", command=fetch), call("submit")], without=without, open_sandbox=opened)
    assert ("200" in server.requests[1].observations[0]) is not bool(without)


def test_execution() -> None:
    """There is no tool that runs anything; files can be read and written, and the answer is one."""
    script = [
        call("execute_bash", command="touch ran"),
        call("bash", command="touch ran"),
        call("str_replace_editor", command="create", path="/testbed/answer.txt", file_text="42"),
        call("str_replace_editor", command="view", path="/testbed"),
        call("submit"),
    ]
    episode, server = play(script, without=("execution",))
    assert (episode.exit_reason, episode.answer) == (ExitReason.SUBMITTED, "42")
    assert "there is no tool 'execute_bash'" in server.requests[1].observations[0]
    assert "ran" not in server.requests[4].observations[0].replace("/testbed/", "")
    assert [one["function"]["name"] for one in server.requests[0].body["tools"]] == ["str_replace_editor", "submit"]
    _, control = play(script)
    assert "ran (0 bytes)" in control.requests[4].observations[0]


@pytest.mark.parametrize("as_directory", [False, True])
def test_files(tmp_path: Path, as_directory: bool) -> None:
    """Nothing can be written, by tools or programs; the task's files can be read, and the answer comes with submit."""
    script = [
        call("execute_bash", command="echo x > answer.txt; echo x > /tmp/x; echo x > documents/a.txt; cat documents/a.txt"),
        call("str_replace_editor", command="create", path="/testbed/new", file_text="x"),
        call("str_replace_editor", command="view", path="/testbed/documents/a.txt"),
        call("submit", answer="forty-two"),
    ]
    (tmp_path / "a.txt").write_text("given")
    task = Task("read it", input_dir=tmp_path) if as_directory else Task("read it", files={"a.txt": "given"})
    episode, server = play(script, task, without=("files",))
    assert (episode.exit_reason, episode.answer, episode.answer_from) == (ExitReason.SUBMITTED, "forty-two", "call")
    ran, refused, seen = (server.requests[turn].observations[0] for turn in (1, 2, 3))
    assert ran.count("Read-only file system") == 3 and "given" in ran
    assert "command must be one of view" in refused
    assert "     1\tgiven" in seen
    assert "answer.txt" not in json.dumps(server.requests[0].messages)
    control_task = Task("read it", files={"a.txt": "given"})
    control, server = play([*script[:3], call("submit")], control_task)
    assert "Read-only" not in server.requests[1].observations[0]
    assert (control.answer, control.answer_from) == ("x\n", "file")


def test_submit_without_an_answer_is_refused_where_it_must_have_one() -> None:
    episode, server = play([call("submit"), call("submit", answer="now")], without=("files",))
    assert "answer is missing" in server.requests[1].observations[0]
    assert episode.answer == "now"


def test_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("given")
    script = [call("execute_bash", command="cat documents/a.txt; touch x"), call("submit", answer="done")]
    with ModelServer(script) as server:
        done = subprocess.run(
            [sys.executable, "-m", "lisrt", "run", "x", "--model", "m", "--base-url", server.base_url, "--input", "in",
             "--without", "files", "--without", "network", "--output", "out"],
            cwd=tmp_path, env=environment(HOME=str(tmp_path)), text=True, capture_output=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    observation = server.requests[1].observations[0]
    assert "given" in observation and "Read-only file system" in observation
    start = read_trajectory(tmp_path / "out/trajectory.jsonl")[0]
    assert start["agent"]["without"] == ["files", "network"]


@pytest.mark.parametrize(
    ("without", "options"),
    [("network", {"network": "host"}), ("network", {"network": Proxy(allow=["example.org"])}), ("files", {})],
)
def test_a_sandbox_that_has_what_was_taken_away_is_refused(without: str, options: dict[str, Any]) -> None:
    """No episode is begun in it: it would be counted as one without."""
    opened = functools.partial(AsyncSandbox, **options)
    episode, server = play([], without=(without,), open_sandbox=opened)
    assert (episode.exit_reason, len(server.requests)) == (ExitReason.SANDBOX_ERROR, 0)
    assert "the agent is to" in (episode.error or "")


@pytest.mark.parametrize(
    "options",
    [
        {"without": ("files",), "shell": "persistent"},
        {"without": ("files",), "checkpoint": Path("x")},
        {"without": ("execution",), "protocol": "bash"},
        {"without": ("sleep",)},
        {"without": ("files",), "profile": "lis-0.2"},
    ],
)
def test_what_does_not_go_together(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Agent(Model("m", "http://localhost:1/v1"), **options)
