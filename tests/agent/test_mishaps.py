"""What a hostile review has found: each once lost work, crashed an episode, or let somebody else decide."""

import asyncio
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import Completion, ModelServer, Request, bash, call, calls, refusal, say, tool_call

from lisrt import AsyncSandbox, Limits, Sandbox, saving
from lisrt.agent import (
    Agent,
    AgentLimits,
    Batch,
    Episode,
    ExitReason,
    Model,
    Task,
    TaskResult,
    Tools,
    read_trajectory,
)
from lisrt.agent.folder import RunFolder
from lisrt.store.catalog import Catalog

pytestmark = pytest.mark.usefixtures("working_host")

SUBMIT = call("submit")


def turn_of(request: Request) -> int:
    return sum(message["role"] == "assistant" for message in request.messages) + 1


def batch(server: ModelServer, count: int, folder: Path, **options: Any) -> list[TaskResult]:
    settings = options.pop("settings", {})
    model = Model("m", server.base_url, retries=0, **options.pop("model", {}))

    async def run() -> list[TaskResult]:
        made = Batch(Agent(model, **settings), [Task("x", id=f"n{n}") for n in range(count)], folder=folder, **options)
        return [one async for one in made]

    return asyncio.run(run())


def play(steps: Any, trajectory: Path | None = None, **settings: Any) -> tuple[Episode, ModelServer]:
    with ModelServer(steps) as server:
        episode = Agent(Model("m", server.base_url, retries=0), **settings).run_sync("x", trajectory=trajectory)
    assert server.violations == []
    return episode, server


# --- checkpoints ---


def test_a_named_image_survives_that_the_same_files_are_restored(tmp_path: Path) -> None:
    with Sandbox() as box:
        box.sh("echo mine > f")
        box.snapshot().save("mishap-mine")
        box.save(tmp_path)
    try:
        saving.forget(saving.restore(tmp_path))
        assert "mishap-mine" in Catalog().names()
    finally:
        Catalog().remove("mishap-mine")


def test_episodes_with_equal_files_don_t_take_them_from_each_other(tmp_path: Path) -> None:
    """All are stopped after the same first turn, and go on at once."""
    stop: list[asyncio.Event] = []

    def first(request: Request) -> Any:
        if turn_of(request) == 1:
            return bash("echo same > f; touch -d @1000000000 f")
        asyncio.run_coroutine_threadsafe(set_stop(), loops[0])
        time.sleep(0.3)
        return SUBMIT

    loops: list[asyncio.AbstractEventLoop] = []

    async def set_stop() -> None:
        stop[0].set()

    async def run(server: ModelServer) -> None:
        loops.append(asyncio.get_running_loop())
        stop.append(asyncio.Event())
        tasks = [Task("x", id=f"n{n}") for n in range(8)]
        agent = Agent(Model("m", server.base_url))
        async for one in Batch(agent, tasks, concurrency=8, folder=tmp_path, checkpoint=True, stop=stop[0]):
            assert one.episode.exit_reason in (ExitReason.STOPPED, ExitReason.SUBMITTED)

    with ModelServer(first) as server:
        asyncio.run(run(server))
    with ModelServer(lambda _: call("submit")) as server:
        results = batch(server, 8, tmp_path, concurrency=8, checkpoint=True, resume=True)
    assert results
    assert {(one.episode.exit_reason, one.attempts) for one in results} == {(ExitReason.SUBMITTED, 1)}


def test_a_checkpoint_of_a_resumed_sandbox_is_whole(tmp_path: Path) -> None:
    """Also when the store has lost, meanwhile, what the first one was restored from."""
    with Sandbox() as box:
        box.sh("echo one > a")
        box.save(tmp_path / "1")
    name = saving.restore(tmp_path / "1")
    with Sandbox(name) as box:
        box.sh("echo two > b")
        box.save(tmp_path / "2", above=tmp_path / "1")
    saving.forget(name)
    subprocess.run(["rm", "-r", tmp_path / "1"], check=True)
    env = {"LISRT_HOME": str(tmp_path / "another-store")}
    program = f"""
from lisrt import Sandbox, saving
name = saving.restore({str(tmp_path / "2")!r})
with Sandbox(name) as box:
    print(box.sh("cat a b").stdout)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment(**env), capture_output=True, text=True, timeout=60)
    assert done.stdout == "one\ntwo\n\n", done.stderr


@pytest.mark.parametrize("spoil", ["mkdir -p $(printf 'd/%.0s' $(seq 300))", "touch .wh.x"])
def test_files_that_can_t_be_kept_end_no_episode(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "t.jsonl"
    episode, _ = play([bash(spoil), bash("echo 1 > answer.txt"), SUBMIT], path, checkpoint=tmp_path / "c")
    assert (episode.exit_reason, episode.answer) == (ExitReason.SUBMITTED, "1\n")
    notes = [record for record in read_trajectory(path) if record["type"] == "checkpoint"]
    assert notes[0]["directory"] is None and notes[0]["error"]


def test_a_restore_that_fails_once_costs_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(lambda request: bash("echo kept > f") if turn_of(request) == 1 else refusal(400, "no")) as server:
        [first] = batch(server, 1, tmp_path, checkpoint=True)
    assert first.episode.exit_reason is ExitReason.MODEL_ERROR
    real, tries = saving.restore, []

    def once(directory: Any) -> str:
        tries.append(directory)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        return real(directory)

    monkeypatch.setattr(saving, "restore", once)
    script = [bash("cp f answer.txt"), SUBMIT]
    with ModelServer(script) as server:
        [second] = batch(server, 1, tmp_path, checkpoint=True, resume=True)
    assert (second.episode.exit_reason, second.episode.answer) == (ExitReason.SUBMITTED, "kept\n")
    assert second.faults == ("sandbox_error",)


def test_a_resumed_sandbox_has_the_same_limits() -> None:
    opened = functools.partial(AsyncSandbox, limits=Limits(pids=50))
    with pytest.raises(ValueError, match="open_saved"):
        Agent(Model("m", "http://localhost:1/v1"), open_sandbox=opened, checkpoint=Path("c"))


# --- results ---


def test_what_was_the_servers_fault_is_done_again(tmp_path: Path) -> None:
    """A server that is down for a minute does not use up a file of tasks."""
    with ModelServer(lambda _: refusal(401, "wrong key")) as server:
        assert {one.episode.exit_reason for one in batch(server, 3, tmp_path)} == {ExitReason.MODEL_ERROR}
    with ModelServer(lambda _: SUBMIT) as server:
        assert {one.episode.exit_reason for one in batch(server, 3, tmp_path, resume=True)} == {ExitReason.SUBMITTED}
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sorted((one["task"], one["exit_reason"]) for one in lines) == [(f"n{n}", "submitted") for n in range(3)]
    assert len((tmp_path / "faults.jsonl").read_text().splitlines()) == 3


def test_half_a_result_leaves_no_trace(tmp_path: Path) -> None:
    """A write that fails half-way, at a limit on the size of files: the lines before and after are whole."""
    program = f"""
import resource, signal
from lisrt.agent.folder import RunFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with RunFolder({str(tmp_path)!r}) as folder:
    folder.add({{"task": "a", "exit_reason": "submitted"}})
    size = folder.results.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    try:
        folder.add({{"task": "b", "exit_reason": "submitted"}})
    except OSError:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        folder.add({{"task": "c", "exit_reason": "submitted"}})
"""
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True, timeout=60)
    with RunFolder(tmp_path, resume=True) as folder:
        assert list(folder.ended) == ["a", "c"]


def test_no_two_ids_share_a_directory(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    ids = ["a b", "a_b", "a/b", ".a", "a", "..", "x" * 300, "x" * 301, "\ud83d", "ü"]
    ids += [folder.place(one).directory.name for one in ids]
    assert len({folder.place(one).directory for one in set(ids)}) == len(set(ids))


def test_equal_ids_are_one_task_and_a_bad_one(tmp_path: Path) -> None:
    async def run(server: ModelServer) -> list[TaskResult]:
        made = Batch(Agent(Model("m", server.base_url)), [Task("x", id="same"), Task("y", id="same")], folder=tmp_path)
        return [one async for one in made]

    with ModelServer(lambda _: SUBMIT) as server:
        results = asyncio.run(run(server))
    assert sorted(one.episode.exit_reason for one in results) == ["bad_task", "submitted"]


def test_whoever_leaves_results_need_not_wait(tmp_path: Path) -> None:
    """For a model that thinks for an hour."""

    def slow(request: Request) -> Any:
        if "quick" not in request.messages[1]["content"]:
            time.sleep(20)
        return SUBMIT

    with ModelServer(slow) as server:
        started = time.monotonic()
        for _ in Batch(Agent(Model("m", server.base_url)), ["quick", "slow"], concurrency=2).results():
            break
        assert time.monotonic() - started < 15


# --- what models send ---


@pytest.mark.parametrize("profile", ["default", "lis-0.2"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "true", "timeout": 10**400},
        {"command": "true", "timeout": 1e308},
        {"command": "true\0"},
        {"command": "\ud800"},
    ],
)
def test_no_argument_of_a_command_is_a_crash(profile: str, arguments: dict[str, Any]) -> None:
    with Sandbox() as box:
        assert Tools(box, profile=profile).call("execute_bash", json.dumps(arguments)).text


@pytest.mark.parametrize("profile", ["default", "lis-0.2"])
@pytest.mark.parametrize(
    "values", [{"path": "a\0b"}, {"path": "\ud800"}, {"insert_line": 10**400}, {"view_range": [10**400, -1]}]
)
def test_no_argument_of_an_edit_is_a_crash(profile: str, values: dict[str, Any]) -> None:
    with Sandbox() as box:
        for command in ("view", "create", "insert"):
            arguments = {"command": command, "path": "f", "file_text": "x", "new_str": "x", "insert_line": 0, **values}
            wanted = {
                name: value for name, value in arguments.items() if profile != "default" or name in ("command", "path", *values)
            }
            assert Tools(box, profile=profile).call("str_replace_editor", json.dumps(wanted)).text


def test_figures_of_a_server_that_can_t_be() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "x"}}], "usage": {"prompt_tokens": 10**400}}
    from support.model_server import Raw

    episode, _ = play(lambda _: Raw(200, json.dumps(body)), limits=AgentLimits(max_turns=1))
    assert (episode.exit_reason, episode.usage.prompt) == (ExitReason.MAX_TURNS, 0)


@pytest.mark.parametrize("protocol", ["bash", "xml"])
def test_replies_that_repeat_themselves_hold_nobody_up(protocol: str) -> None:
    """Half a megabyte of the same line: what took minutes, for all episodes of the process, ends within the time of a test."""
    from lisrt.agent.protocol import calling
    from lisrt.agent.reply import MAX_CALLS, Reply, TokenUsage

    for line in ("```bash\n", "<parameter=a>\n", "<function=f>\n", "```\n", "<function=f><parameter=a>x"):
        reply = Reply(line * 50_000, (), None, TokenUsage(), 0.0, {})
        assert len(calling(protocol).calls(reply, 1)) <= MAX_CALLS


def test_thoughts_are_not_ended_by_a_script_that_speaks_of_them() -> None:
    script = "```bash\ngrep -c '</think>' data || echo none > answer.txt\n```"
    episode, _ = play([say(script), say("```submit\n```")], protocol="bash")
    assert episode.answer == "none\n"


# --- limits ---


def test_a_conversation_that_was_trimmed_goes_on(tmp_path: Path) -> None:
    """Nobody has counted it yet: it is sent, and the server's next figure counts."""

    def step(request: Request) -> Any:
        size = sum(len(message["content"] or "") for message in request.messages)
        last = turn_of(request) > 12
        return Completion((SUBMIT if last else bash("seq 300")).message, "tool_calls", prompt_tokens=size // 4)

    path = tmp_path / "t.jsonl"
    episode, _ = play(step, path, on_overflow="trim", limits=AgentLimits(max_context=2000))
    assert episode.exit_reason is ExitReason.SUBMITTED, episode.error
    assert [record for record in read_trajectory(path) if record["type"] == "trim"]


def test_an_answer_can_be_asked_for_after_the_time_is_up() -> None:
    """In the middle of three calls: each is answered, or the server would refuse the conversation."""
    made = [tool_call("execute_bash", {"command": "sleep 60"}, id=name) for name in ("a", "b", "c")]

    def step(request: Request) -> Any:
        return say("42") if "no more tools" in request.messages[-1]["content"] else calls(*made)

    episode, _ = play(step, force_answer=True, limits=AgentLimits(wall_timeout=1.0))
    assert (episode.exit_reason, episode.answer, episode.answer_from) == (ExitReason.TIMEOUT, "42", "reply")


def test_the_time_of_tools_binds_within_a_reply(tmp_path: Path) -> None:
    made = [tool_call("execute_bash", {"command": "sleep 0.4"}, id=str(number)) for number in range(6)]
    path = tmp_path / "t.jsonl"
    episode, _ = play(lambda _: calls(*made), path, limits=AgentLimits(max_tool_time=0.5))
    outcomes = [record["outcome"] for record in read_trajectory(path) if record["type"] == "tool"]
    assert episode.exit_reason is ExitReason.MAX_TOOL_TIME
    assert outcomes == ["exited", "exited", "not_run", "not_run", "not_run", "not_run"]


def test_the_wall_clock_goes_on_with_a_resumed_episode(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    limits = AgentLimits(wall_timeout=2.0, max_turns=1)
    with ModelServer(lambda _: bash("sleep 1.2; echo x > f")) as server:
        agent = Agent(Model("m", server.base_url), limits=limits, checkpoint=tmp_path / "c")
        assert agent.run_sync("x", trajectory=path).exit_reason is ExitReason.MAX_TURNS
        more = Agent(agent.model, limits=AgentLimits(wall_timeout=2.0, max_turns=50), checkpoint=tmp_path / "c")
        episode = asyncio.run(more.resume(path))
    assert episode.exit_reason is ExitReason.TIMEOUT
    assert 2.0 <= episode.duration < 4.0


# --- strangers' files ---


@pytest.mark.parametrize(
    "line",
    [
        'resume = "evil"', 'input = "/etc"', 'output = "/tmp/x"', 'tasks = "t.jsonl"', 'prompts = "p.toml"', 'image = "x"',
        'extra_body = "{}"', 'input_root = "/"', 'launcher = "bwrap"',
    ],
)  # fmt: skip
def test_a_file_that_merely_lies_there_decides_nothing_of_reach(tmp_path: Path, line: str) -> None:
    (tmp_path / "lisrt.toml").write_text(f"[run]\n{line}\n")
    with ModelServer([]) as server:
        done = subprocess.run(
            [sys.executable, "-m", "lisrt", "run", "x", "--model", "m", "--base-url", server.base_url],
            cwd=tmp_path, env=environment(HOME=str(tmp_path), OPENAI_API_KEY="sk-x"), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 125 and server.requests == [], done.stderr
    assert "only a file that was named may do" in done.stderr or "unknown key" in done.stderr


def test_control_characters_of_a_server_don_t_reach_the_terminal(tmp_path: Path) -> None:
    with ModelServer(lambda _: refusal(400, "no \x1b]0;pwned\x07")) as server:
        done = subprocess.run(
            [sys.executable, "-m", "lisrt", "run", "x", "--model", "m", "--base-url", server.base_url],
            cwd=tmp_path, env=environment(HOME=str(tmp_path)), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert "\x1b" not in done.stderr and "pwned" in done.stderr


def test_the_options_of_a_run_are_the_users_alone(tmp_path: Path) -> None:
    with ModelServer(lambda _: SUBMIT) as server:
        subprocess.run(
            [sys.executable, "-m", "lisrt", "run", "x", "--model", "m", "--base-url", f"{server.base_url}?key=secret",
             "--output", "o"],
            cwd=tmp_path, env=environment(HOME=str(tmp_path)), capture_output=True, timeout=60,
        )  # fmt: skip
    assert os.stat(tmp_path / "o/run.json").st_mode & 0o077 == 0
    assert "secret" not in (tmp_path / "o/run.json").read_text()
