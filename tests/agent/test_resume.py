"""An episode whose process ends in the middle of it goes on, and its record says what was done twice."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import ModelServer, Request, call, calls, tool_call
from support.waiting import eventually

from lisrt import AsyncSandbox, Sandbox, saving
from lisrt.agent import (
    Agent,
    AgentLimits,
    Episode,
    ExitReason,
    Model,
    Task,
    effective,
    read_trajectory,
    replayed,
)
from lisrt.agent.view import Trajectory

pytestmark = pytest.mark.usefixtures("working_host")

#: An episode in a process of its own, begun or resumed: PATH of the trajectory, directory of the checkpoint ("" for none), URL.
EPISODE = """
import asyncio, os, sys
from pathlib import Path
from lisrt.agent import Agent, Model
path, checkpoint, url = sys.argv[1:]
agent = Agent(Model("m", url), checkpoint=Path(checkpoint) if checkpoint else None)
if os.path.exists(path):
    asyncio.run(agent.resume(path))
else:
    agent.run_sync("count to three", trajectory=path)
"""


def killed_at(step: int, path: Path, checkpoint: Path | None, server: ModelServer) -> None:
    """Runs an episode in a process that is killed when the server has `step` requests, the last of them unanswered."""
    command = [sys.executable, "-c", EPISODE, str(path), str(checkpoint or ""), server.base_url]
    process = subprocess.Popen(command, env=environment())
    try:
        eventually(lambda: len(server.requests) >= step, within=30)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Counter:
    """A model that counts: each turn adds a line to a file, and turn `hangs` is answered only in the second process."""

    def __init__(self, hangs: int) -> None:
        self.hangs, self.first = hangs, True
        self.let_go = asyncio.Event()

    def __call__(self, request: Request) -> Any:
        turn = sum(message["role"] == "assistant" for message in request.messages) + 1
        if turn == self.hangs and self.first:
            self.first = False
            import threading

            threading.Event().wait(60)
        if turn <= 3:
            return call("execute_bash", command=f"echo {turn} >> counted; cat counted")
        if turn == 4:
            return call("execute_bash", command="cp counted answer.txt")
        return call("submit")


def killed_twice(path: Path, model: Counter, server: ModelServer) -> None:
    """Two processes get as far as the answers of two turns, each from the beginning."""
    killed_at(3, path, None, server)
    model.first = True
    killed_at(6, path, None, server)


def resume(path: Path, checkpoint: Path | None, server: ModelServer, **options: Any) -> Episode:
    agent = Agent(Model("m", server.base_url), checkpoint=checkpoint)
    return asyncio.run(agent.resume(path, **options))


def test_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    """Files and conversation are those of the checkpoint, and what had run since is named. Checkpoints are spared where turns
    are as quick as here: it is that of the first turn or of the second."""
    path, checkpoint = tmp_path / "t.jsonl", tmp_path / "checkpoint"
    with ModelServer(Counter(hangs=3)) as server:
        killed_at(3, path, checkpoint, server)
        episode = resume(path, checkpoint, server)
        assert server.violations == []
    assert (episode.exit_reason, episode.answer, episode.turns) == (ExitReason.SUBMITTED, "1\n2\n3\n", 5)
    [again] = [record for record in read_trajectory(path) if record["type"] == "resume"]
    assert (again["from_checkpoint"], again["uncertain"]) == (True, [])
    assert again["turn"] + len(again["taken_back"]) == 2 and again["turn"] > 0
    last = server.requests[-1].messages
    assert replayed(effective(read_trajectory(path))[:-3]).messages[: len(last)] == last
    assert [len(request.messages) for request in server.requests[-2:]] == [8, 10]


def test_without_a_checkpoint_it_begins_again_and_says_what_had_run(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with ModelServer(Counter(hangs=3)) as server:
        killed_at(3, path, None, server)
        episode = resume(path, None, server)
    assert (episode.exit_reason, episode.answer, episode.turns) == (ExitReason.SUBMITTED, "1\n2\n3\n", 5)
    [again] = [record for record in read_trajectory(path) if record["type"] == "resume"]
    assert (again["kept"], again["turn"], again["from_checkpoint"]) == (1, 0, False)
    assert again["taken_back"] == ["call_a", "call_a"]
    assert again["lost"] == {"prompt": 20, "completion": 10, "cached": 0, "reasoning": 0}
    assert (episode.usage.prompt, episode.usage.completion) == (70, 35), "those of the two turns before were paid for, too"
    assert len([record for record in effective(read_trajectory(path)) if record["type"] == "tool"]) == 5


def test_tokens_of_turns_that_were_taken_back_twice_count_once_each(tmp_path: Path) -> None:
    """Three processes begin it, two of them are killed; a budget is for all of them together."""
    path = tmp_path / "t.jsonl"
    model = Counter(hangs=3)
    with ModelServer(model) as server:
        killed_twice(path, model, server)
        episode = resume(path, None, server)
    assert (episode.exit_reason, episode.turns) == (ExitReason.SUBMITTED, 5)
    lost = [record["lost"]["prompt"] for record in read_trajectory(path) if record["type"] == "resume"]
    assert lost == [20, 40]
    assert episode.usage.prompt == 90
    overview = Trajectory(path).overview
    assert (overview.resumes, overview.taken_back, overview.usage["prompt"]) == (2, 4, 90)


def test_a_call_that_was_running_is_uncertain(tmp_path: Path) -> None:
    """It was asked for and never ended: nobody knows what it did."""
    path, checkpoint = tmp_path / "t.jsonl", tmp_path / "checkpoint"
    mark = tmp_path / "marks"
    mark.mkdir()
    slow = calls(
        tool_call("execute_bash", {"command": "echo quick"}, id="quick"),
        tool_call("execute_bash", {"command": "sleep 60"}, id="slow"),
    )

    def step(request: Request) -> Any:
        turn = sum(message["role"] == "assistant" for message in request.messages) + 1
        if turn == 1:
            return call("execute_bash", command="echo kept > answer.txt")
        return slow if len(server.requests) == 2 else call("submit")

    with ModelServer(step) as server:
        command = [sys.executable, "-c", EPISODE, str(path), str(checkpoint), server.base_url]
        process = subprocess.Popen(command, env=environment())
        eventually(lambda: path.exists() and any(record.get("id") == "quick" for record in read_trajectory(path)), within=30)
        process.kill()
        process.wait()
        episode = resume(path, checkpoint, server)
    assert (episode.exit_reason, episode.answer) == (ExitReason.SUBMITTED, "kept\n")
    [again] = [record for record in read_trajectory(path) if record["type"] == "resume"]
    assert (again["taken_back"], again["uncertain"]) == (["quick"], ["slow"])


def test_half_a_line_at_the_end_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with ModelServer(Counter(hangs=2)) as server:
        killed_at(2, path, None, server)
        with path.open("ab") as file:
            file.write(b'{"type": "tool", "turn": 1, "obs')
        episode = resume(path, None, server)
    assert episode.exit_reason is ExitReason.SUBMITTED
    assert read_trajectory(path)[-1]["type"] == "end"


def test_what_can_not_be_resumed(tmp_path: Path) -> None:
    path, empty = tmp_path / "t.jsonl", tmp_path / "empty.jsonl"
    empty.write_text("")
    with ModelServer([call("submit"), call("submit")]) as server:
        agent = Agent(Model("m", server.base_url))
        agent.run_sync("the task", trajectory=path)
        for wrong, words in ((path, "has submitted"), (empty, "no beginning")):
            with pytest.raises(ValueError, match=words):
                asyncio.run(agent.resume(wrong))
        with pytest.raises(FileNotFoundError):
            asyncio.run(agent.resume(tmp_path / "nothing"))
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:2]))
        other = Agent(Model("m", server.base_url), protocol="xml")
        with pytest.raises(ValueError, match="begun with protocol 'native'"):
            asyncio.run(other.resume(path))


def test_a_task_with_files_needs_them_again(tmp_path: Path) -> None:
    """Where there is no checkpoint: the trajectory has their names alone."""
    path = tmp_path / "t.jsonl"
    task = Task("read it", files={"a/b.txt": "words"})
    script = [call("execute_bash", command="cp documents/a/b.txt answer.txt"), call("submit")]
    with ModelServer(script) as server:
        agent = Agent(Model("m", server.base_url), limits=AgentLimits(max_turns=5))
        path.write_bytes(first_lines(agent, tmp_path))
        with pytest.raises(ValueError, match="name them again"):
            asyncio.run(agent.resume(path))
        episode = asyncio.run(agent.resume(path, task=task))
    assert (episode.exit_reason, episode.answer) == (ExitReason.SUBMITTED, "words")


def first_lines(agent: Agent, tmp_path: Path) -> bytes:
    """The beginning of a trajectory of a task with files, whose sandbox could not be made."""
    from dataclasses import replace

    def refuse() -> Any:
        raise OSError(24, "no more descriptors")

    whole = tmp_path / "whole.jsonl"
    replace(agent, open_sandbox=refuse).run_sync(Task("read it", files={"a/b.txt": "words"}), trajectory=whole)
    return whole.read_bytes().splitlines(keepends=True)[0]


def test_two_processes_do_not_write_one_trajectory(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with ModelServer(Counter(hangs=2)) as server:
        command = [sys.executable, "-c", EPISODE, str(path), "", server.base_url]
        process = subprocess.Popen(command, env=environment())
        try:
            eventually(lambda: len(server.requests) >= 2, within=30)
            with pytest.raises(FileExistsError, match="another run"):
                resume(path, None, server)
        finally:
            process.kill()
            process.wait()


# --- what a sandbox has written, on a disk ---


def test_files_are_saved_and_restored(tmp_path: Path) -> None:
    """Modes, links, deletions and names of all kinds, while a program goes on."""
    with Sandbox() as box:
        box.sh("echo one > a; chmod 750 a; ln -s a b; ln a c; mkdir -p 'd e'; rm -rf /home/user; sleep 3600 & echo $! > pid")
        box.save(tmp_path / "saved")
        assert box.sh("kill -0 $(cat pid)").ok
        box.sh("echo two > a")
        box.save(tmp_path / "saved")
    image = saving.restore(tmp_path / "saved")
    try:
        with Sandbox(image) as again:
            seen = again.sh("cat a b c; stat -c %a:%h a; ls -d 'd e'; ls /home").check().stdout
            assert seen == "two\ntwo\ntwo\n750:2\nd e\n"
    finally:
        saving.forget(image)
    blobs = list((tmp_path / "saved/blobs").iterdir())
    assert len(blobs) == 1, "an earlier save is replaced"


def test_a_sandbox_above_a_snapshot_is_saved_whole(tmp_path: Path) -> None:
    with Sandbox() as box:
        box.sh("echo below > x; echo gone > y")
        box.snapshot()
        box.sh("echo above > z; rm y")
        box.save(tmp_path)
    image = saving.restore(tmp_path)
    try:
        with Sandbox(image) as again:
            assert again.sh("cat x z; ls y").stdout == "below\nabove\n"
    finally:
        saving.forget(image)


def test_what_can_not_be_saved(tmp_path: Path) -> None:
    from lisrt import HostError, ImageError

    with Sandbox(writable="tmpfs:16MiB") as box, pytest.raises(HostError, match="memory"):
        box.save(tmp_path)
    with pytest.raises(ImageError, match="nothing that a sandbox has saved"):
        saving.restore(tmp_path / "nothing")

    async def same() -> None:
        async with AsyncSandbox() as box:
            await box.save(tmp_path / "x")

    asyncio.run(same())
    assert os.listdir(tmp_path / "x/blobs")


def test_what_was_lost_uses_up_no_budget(tmp_path: Path) -> None:
    """Twice two turns were for nothing; the five that count are within it."""
    path = tmp_path / "t.jsonl"
    model = Counter(hangs=3)
    with ModelServer(model) as server:
        killed_twice(path, model, server)
        limited = Agent(Model("m", server.base_url), limits=AgentLimits(max_tokens=76))
        episode = asyncio.run(limited.resume(path))
    assert (episode.exit_reason, episode.usage.total) == (ExitReason.SUBMITTED, 135)
