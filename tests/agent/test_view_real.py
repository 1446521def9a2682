"""What real episodes have left is shown: one of `lisrt run`, and those of a batch, one of which was cut off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.fresh import environment
from support.model_server import ModelServer, call

from lisrt.agent import Agent, Batch, Model, Task
from lisrt.agent.view import Call, Place, Run, Trajectory, Turn, find, page, run_page

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("working_host")

WORK = [
    call("execute_bash", command="mkdir -p output; ln -s /etc/passwd output/link; printf 'a\\033[31mb' | tee output/data.txt"),
    call("str_replace_editor", command="create", path="/testbed/answer.txt", file_text="42 <b>\n"),
    call("submit"),
]


def lisrt(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lisrt", *arguments]
    return subprocess.run(command, env=environment(HOME=str(cwd)), cwd=cwd, text=True, capture_output=True, timeout=50)


def test_an_episode_of_lisrt_run(tmp_path: Path) -> None:
    """In the terminal and as a page, with its files."""
    with ModelServer(WORK) as server:
        ran = lisrt(tmp_path, "run", "Do <it>.", "--model", "m", "--base-url", server.base_url, "--output", "out")
    assert ran.returncode == 0, ran.stderr
    done = lisrt(tmp_path, "view", "out")
    assert done.returncode == 0, done.stderr
    for words in ("Do <it>.", "submitted", "create /testbed/answer.txt", "+ 42 <b>", "a\\x1b[31mb", "system calls"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    assert lisrt(tmp_path, "view", "out", "--html", "page.html").returncode == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Do &lt;it&gt;." in text and "data.txt" in text and "<b>\n" not in text and "root:" not in text


def test_the_run_of_a_batch(tmp_path: Path) -> None:
    """Its table and its page; and a task whose process was killed, of which a part is there."""
    with ModelServer([call("submit")] * 3) as server:
        agent = Agent(Model("m", base_url=server.base_url))
        tasks = [Task("One.", id="t-1"), Task("Two.", id="../t 2"), Task("Ten.", id="t-10")]
        results = list(Batch(agent, tasks, concurrency=2, folder=tmp_path / "run").results())
    assert len(results) == 3
    whole = tmp_path / "run/episodes/t-1/trajectory.jsonl"
    cut = tmp_path / "run/episodes/t-3/trajectory.jsonl"
    cut.parent.mkdir()
    cut.write_bytes(whole.read_bytes().replace(b'"id": "t-1"', b'"id": "t-3"')[: os.path.getsize(whole) // 2])
    run = find(tmp_path / "run")
    assert isinstance(run, Run)
    rows = run.rows()
    assert [(row.id, row.reason) for row in rows] == [
        ("../t 2", "submitted"), ("t-1", "submitted"), ("t-3", "not ended"), ("t-10", "submitted"),
    ]  # fmt: skip
    place = rows[0].place
    assert isinstance(place, Place)
    [turn] = [one for one in Trajectory(place.trajectory) if isinstance(one, Turn)]
    assert [step.outcome for step in turn.steps if isinstance(step, Call)] == ["submitted"]
    assert "".join(page(place, Trajectory(place.trajectory))).count("Two.") >= 2
    assert "".join(run_page(run, rows)).count('class="episode"') == 4
