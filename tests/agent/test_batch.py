"""Many tasks at once: each ends exactly once, whatever the others, the sandboxes or the process do."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import ModelServer, Request, call, refusal
from support.waiting import eventually

from lisrt import AsyncSandbox, SetupError
from lisrt.agent import (
    Agent,
    AgentLimits,
    BadTask,
    Batch,
    ExitReason,
    Model,
    Task,
    TaskResult,
    read_tasks,
    read_trajectory,
)

pytestmark = pytest.mark.usefixtures("working_host")


def number_of(request: Request) -> int:
    """Which task it is: its prompt says so."""
    match = re.search(r"task (\d+)", request.messages[1]["content"])
    assert match
    return int(match[1])


def solver(request: Request) -> Any:
    """Writes the task's number, then submits."""
    if request.messages[-1]["role"] == "user":
        return call("execute_bash", command=f"echo {number_of(request)} > answer.txt; cp answer.txt output/")
    return call("submit")


def tasks(count: int) -> Iterator[Task]:
    for number in range(count):
        yield Task(f"This is task {number}.", id=f"t/{number}")


def run(batch: Batch) -> list[TaskResult]:
    async def collect() -> list[TaskResult]:
        return [result async for result in batch]

    return asyncio.run(collect())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_every_task_has_its_result_its_files_and_its_trajectory(tmp_path: Path) -> None:
    with ModelServer(solver) as server:
        results = run(Batch(Agent(Model("m", server.base_url)), tasks(12), concurrency=4, folder=tmp_path))
        assert server.violations == []
    assert {one.task.id: one.episode.answer for one in results} == {f"t/{number}": f"{number}\n" for number in range(12)}
    written = lines(tmp_path)
    assert sorted(one["task"] for one in written) == sorted(f"t/{number}" for number in range(12))
    for one in written:
        assert (one["exit_reason"], one["attempts"], one["faults"]) == ("submitted", 1, [])
        assert (tmp_path / one["output"] / "answer.txt").read_text() == one["answer"]
        assert read_trajectory(tmp_path / one["trajectory"])[-1]["answer"] == one["answer"]
    assert len(list((tmp_path / "episodes").iterdir())) == 12


def test_results_come_without_a_loop_and_may_be_left(tmp_path: Path) -> None:
    with ModelServer(solver) as server:
        agent = Agent(Model("m", server.base_url))
        assert sorted(one.task.id for one in Batch(agent, tasks(3)).results()) == ["t/0", "t/1", "t/2"]
        assert [one.task.id for one in Batch(agent, ["this is task 5"]).results()] == ["task-1"]
        for result in Batch(agent, tasks(100), folder=tmp_path, concurrency=2).results():
            assert result.episode.exit_reason is ExitReason.SUBMITTED
            break
    assert 1 <= len(lines(tmp_path)) < 50


def test_tasks_are_taken_when_there_is_room() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Task]:
        while True:
            taken.append(len(taken))
            yield Task(f"task {len(taken)}")

    async def five() -> None:
        seen = 0
        async for _ in Batch(Agent(Model("m", server.base_url)), endless(), concurrency=3):
            seen += 1
            if seen == 5:
                return

    with ModelServer(solver) as server:
        asyncio.run(five())
    assert 5 <= len(taken) <= 5 + 2 * 3 + 1


def test_a_fault_of_a_sandbox_is_another_attempt(tmp_path: Path) -> None:
    """Of the first two one can't be made and one dies at work; neither is a result of the model's."""
    opened: Counter[str] = Counter()
    living: list[AsyncSandbox] = []

    @asynccontextmanager
    async def faulty() -> Any:
        opened["all"] += 1
        if opened["all"] == 1:
            raise SetupError("no room", stage="overlay", errno=28)
        async with AsyncSandbox() as box:
            living.append(box)
            yield box

    def watch(_task: str, record: dict[str, Any]) -> None:
        if record["type"] == "response" and opened["all"] == 2:
            living[-1]._box.channel.kill()  # as the host might

    with ModelServer(solver) as server:
        agent = Agent(Model("m", server.base_url), open_sandbox=faulty)
        [result] = run(Batch(agent, [Task("task 1", id="x")], folder=tmp_path, watch=watch))
        assert (result.episode.exit_reason, result.attempts) == (ExitReason.SUBMITTED, 3)
        assert result.faults == ("sandbox_error", "sandbox_died")
        opened["all"] = 0
        [given_up] = run(Batch(agent, [Task("task 1")], fault_retries=1, watch=watch))
        assert (given_up.episode.exit_reason, given_up.attempts) == (ExitReason.SANDBOX_DIED, 2)
    assert sorted(path.name for path in (tmp_path / "episodes/x").glob("*.jsonl")) == [
        "trajectory-2.jsonl", "trajectory-3.jsonl", "trajectory.jsonl",
    ]  # fmt: skip


def test_bad_lines_are_results_and_the_others_run(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("x")
    folder = tmp_path / "set"
    (folder / "in").mkdir(parents=True)
    (folder / "in/a.txt").write_text("seen")
    file = folder / "tasks.jsonl"
    good = [
        {"prompt": "task 1", "id": "plain"},
        {"problem_statement": "task 2", "id": 2, "input_files": json.dumps({"doc.txt": "text"}), "ground_truth": "B"},
        {"prompt": "task 3", "input": "in", "answer_file": "/testbed/answer.txt"},
    ]
    bad = [
        "{", "[]", '"x"', "{}", '{"prompt": ""}', '{"prompt": 7}', '{"prompt": "a", "id": "plain"}',
        '{"prompt": "a", "input": "no"}',
        '{"prompt": "a", "input": "../../secret"}', '{"prompt": "a", "input": "/etc"}', '{"prompt": "a", "files": {"../x": "y"}}',
        '{"prompt": "a", "files": {"/x": "y"}}', '{"prompt": "a", "files": {"": "y"}}', '{"prompt": "a", "files": 1}',
        '{"prompt": "a", "answer_file": "relative"}', "\udcff", "[" * 100_000,
    ]  # fmt: skip
    text = "\n".join([*map(json.dumps, good), "", *bad]) + "\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    found = list(read_tasks(file))
    assert [one.id for one in found[:3]] == ["plain", "2", "line-3"]
    assert all(isinstance(one, BadTask) and "line " in one.error for one in found[3:]), found
    assert len(found) == 3 + len(bad)
    assert isinstance(found[1], Task) and (found[1].data, found[1].files) == ({"ground_truth": "B"}, {"doc.txt": "text"})
    with ModelServer(solver) as server:
        results = run(Batch(Agent(Model("m", server.base_url)), found, folder=tmp_path / "out"))
    assert Counter(one.episode.exit_reason for one in results) == {ExitReason.SUBMITTED: 3, ExitReason.BAD_TASK: len(bad)}
    assert len({one["task"] for one in lines(tmp_path / "out")}) == len(found)


def test_one_folder_has_one_run(tmp_path: Path) -> None:
    with ModelServer(solver) as server:
        agent = Agent(Model("m", server.base_url))
        run(Batch(agent, tasks(1), folder=tmp_path))
        with pytest.raises(FileExistsError, match="holds a run already"):
            run(Batch(agent, tasks(1), folder=tmp_path))
        with pytest.raises(FileNotFoundError, match="no run to resume"):
            run(Batch(agent, tasks(1), folder=tmp_path / "none", resume=True))

        async def twice() -> None:
            async for _ in Batch(agent, tasks(2), folder=tmp_path / "x", concurrency=1):
                async for _ in Batch(agent, tasks(2), folder=tmp_path / "x", resume=True):
                    pass

        with pytest.raises(FileExistsError, match="another process"):
            asyncio.run(twice())
    with pytest.raises(ValueError):
        Batch(agent, [], resume=True)


def test_a_stopped_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    stop: asyncio.Event

    async def some() -> list[TaskResult]:
        nonlocal stop
        stop = asyncio.Event()
        found = []
        async for result in Batch(agent, tasks(10), concurrency=2, folder=tmp_path, stop=stop):
            found.append(result)
            if len(found) == 3:
                stop.set()
        return found

    with ModelServer(solver) as server:
        agent = Agent(Model("m", server.base_url))
        first = asyncio.run(some())
        ended = [one for one in first if one.episode.exit_reason is ExitReason.SUBMITTED]
        assert 3 <= len(ended) < 10
        batch = Batch(agent, tasks(10), concurrency=2, folder=tmp_path, resume=True)
        rest = run(batch)
    assert batch.before == {"submitted": len(ended)}
    assert {one.task.id for one in rest}.isdisjoint(one.task.id for one in ended)
    assert sorted(one["task"] for one in lines(tmp_path)) == sorted(f"t/{number}" for number in range(10))


def test_one_task_that_fails_inside_lisrt_ends_alone(tmp_path: Path) -> None:
    """Its trajectory can't be written: a recorded reason, and the others' results."""
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes/bad").write_text("a file where a directory is wanted")
    with ModelServer(solver) as server:
        all_of_them = [Task("task 1", id="bad"), Task("task 2", id="good")]
        results = {
            one.task.id: one.episode for one in run(Batch(Agent(Model("m", server.base_url)), all_of_them, folder=tmp_path))
        }
    assert results["good"].exit_reason is ExitReason.SUBMITTED
    assert results["bad"].exit_reason is ExitReason.INTERNAL_ERROR
    assert "FileExistsError" in (results["bad"].error or "")


def test_a_server_that_is_gone_does_not_use_up_all_tasks(tmp_path: Path) -> None:
    """None is begun any more once so many in a row have failed for it; they are done when it is back."""
    down = True

    def step(request: Request) -> Any:
        return refusal(503, "down") if down and number_of(request) >= 5 else solver(request)

    with ModelServer(step) as server:
        agent = Agent(Model("m", server.base_url, retries=0))
        batch = Batch(agent, tasks(100), concurrency=2, folder=tmp_path)
        results = run(batch)
        reasons = Counter(one.episode.exit_reason for one in results)
        assert reasons[ExitReason.SUBMITTED] == 5
        assert 10 <= reasons[ExitReason.MODEL_ERROR] <= 10 + 2
        assert "in a row" in (batch.gave_up or "") and "503" in (batch.gave_up or "")
        down = False
        again = Batch(agent, tasks(100), concurrency=8, folder=tmp_path, resume=True)
        run(again)
    assert again.gave_up is None
    assert [one["exit_reason"] for one in lines(tmp_path)] == ["submitted"] * 100


def test_refusals_of_single_requests_don_t_end_a_batch() -> None:
    """A filter's, for example: the server is there, as the first task shows."""

    def step(request: Request) -> Any:
        return refusal(400, "a filter says no") if 0 < number_of(request) < 20 else solver(request)

    with ModelServer(step) as server:
        agent = Agent(Model("m", server.base_url, retries=0))
        batch = Batch(agent, tasks(25), concurrency=1)
        results = run(batch)
    assert (len(results), batch.gave_up) == (25, None)
    assert {one.episode.http_status for one in results if one.episode.exit_reason is ExitReason.MODEL_ERROR} == {400}


def test_one_batch_may_run_in_two_loops() -> None:
    """One after the other; each is a run of its own."""
    with ModelServer(solver) as server:
        batch = Batch(Agent(Model("m", server.base_url)), list(tasks(3)))
        for _ in range(2):
            assert [one.episode.exit_reason for one in batch.results()] == [ExitReason.SUBMITTED] * 3


def test_errors_that_are_not_in_a_row_don_t_end_a_batch() -> None:
    def step(request: Request) -> Any:
        return refusal(400, "no") if number_of(request) % 3 else solver(request)

    with ModelServer(step) as server:
        batch = Batch(Agent(Model("m", server.base_url, retries=0)), tasks(30), concurrency=1, max_model_errors=3)
        results = run(batch)
    assert (len(results), batch.gave_up) == (30, None)
    with pytest.raises(ValueError, match="max_model_errors"):
        Batch(Agent(Model("m", "http://localhost:1/v1")), [], max_model_errors=0)


#: A batch in a process of its own: the folder, the base URL, a directory that sandboxes write into, how many tasks.
BATCH = """
import asyncio, functools, sys
from lisrt import AsyncSandbox, Mount
from lisrt.agent import Agent, Batch, Model, Task
folder, url, shared, count, resume = sys.argv[1:]
made = functools.partial(AsyncSandbox, mounts=[Mount(shared, "/ran", writable=True)])
tasks = [Task(f"This is task {n}.", id=f"t{n}") for n in range(int(count))]
async def main():
    agent = Agent(Model("m", url), open_sandbox=made)
    async for _ in Batch(agent, tasks, concurrency=8, folder=folder, resume=resume == "yes"):
        pass
asyncio.run(main())
"""


def test_a_batch_that_is_killed_loses_nothing_and_runs_nothing_twice_unrecorded(tmp_path: Path) -> None:
    """SIGKILL in the middle of a hundred tasks, three times over. Every tool call leaves a file on the host."""
    ran, folder = tmp_path / "ran", tmp_path / "run"
    ran.mkdir()
    ids = iter(range(1_000_000))

    def step(request: Request) -> Any:
        task = number_of(request)
        if sum(message["role"] == "assistant" for message in request.messages) < 3:
            one = f"c{next(ids)}"
            from support.model_server import calls, tool_call

            command = f"touch /ran/t{task}-{one}; echo {task} > answer.txt"
            return calls(tool_call("execute_bash", {"command": command}, id=one))
        return call("submit")

    def start(resume: str) -> subprocess.Popen[bytes]:
        arguments = [str(folder), server.base_url, str(ran), "100", resume]
        return subprocess.Popen([sys.executable, "-c", BATCH, *arguments], env=environment())

    def ended() -> int:
        path = folder / "results.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def reached(process: subprocess.Popen[bytes], goal: int) -> bool:
        return ended() >= goal or process.poll() is not None

    with ModelServer(step) as server:
        process = start("no")
        for goal in (15, 40, 65):
            eventually(partial(reached, process, goal), within=120)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start("yes")
        assert process.wait(timeout=240) == 0
        assert server.violations == []
    results = lines(folder)
    assert sorted(one["task"] for one in results) == sorted(f"t{number}" for number in range(100))
    assert {one["exit_reason"] for one in results} == {"submitted"}
    assert all(one["answer"] == f"{one['task'][1:]}\n" for one in results)
    known: set[str] = set()
    for one in results:
        for record in read_trajectory(folder / one["trajectory"]):
            if record["type"] == "tool":
                known.add(f"{one['task']}-{record['id']}")
            elif record["type"] == "resume":
                known |= {f"{one['task']}-{id}" for id in (*record["taken_back"], *record["uncertain"])}
    assert set(os.listdir(ran)) <= known


def test_too_few_open_files_are_told_before_anything_is_begun(tmp_path: Path) -> None:
    """On most hosts a process begins with 1,024: hundreds of episodes would fail here and there."""
    program = """
import asyncio, resource
from lisrt.agent import Agent, Batch, Model, Task
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
def tasks():
    print("begun")
    yield Task("x")
async def main():
    async for _ in Batch(Agent(Model("m", "http://127.0.0.1:1/v1")), tasks(), concurrency=CONCURRENCY):
        pass
asyncio.run(main())
"""
    for concurrency, words in ((200, "setrlimit(resource.RLIMIT_NOFILE, (2528, 4096))"), (512, "Use a smaller concurrency")):
        script = program.replace("CONCURRENCY", str(concurrency))
        done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
        assert words in done.stderr and "begun" not in done.stdout
    with ModelServer(solver) as server:
        file = tmp_path / "tasks.jsonl"
        file.write_text("\n".join(json.dumps({"prompt": f"task {number}"}) for number in range(4)))
        options = ["--tasks", str(file), "--model", "m", "--base-url", server.base_url, "-n", "200", "--output", f"{tmp_path}/o"]
        command = ["prlimit", "--nofile=1024:8192", sys.executable, "-m", "lisrt", "run", *options]
        done = subprocess.run(command, env=environment(HOME=str(tmp_path)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_limits_of_an_episode_hold_in_a_batch() -> None:
    with ModelServer(lambda _: call("execute_bash", command="true")) as server:
        agent = Agent(Model("m", server.base_url), limits=AgentLimits(max_turns=2))
        results = run(Batch(agent, tasks(4)))
    assert {one.episode.exit_reason for one in results} == {ExitReason.MAX_TURNS}
