"""`lisrt run`: an episode from the command line, over real HTTP."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.fresh import environment
from support.model_server import ModelServer, call, refusal

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("working_host")

PROGRAM = "print(sum(map(int, open('documents/data.txt'))))"
WORK = [
    call("execute_bash", command="ls documents; wc -l < documents/data.txt"),
    call("str_replace_editor", command="create", path="/testbed/sum.py", file_text=PROGRAM),
    call("execute_bash", command="mkdir -p output && python3 sum.py | tee answer.txt > output/sum.txt"),
    call("submit"),
]


def lisrt_run(server: ModelServer, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lisrt", "run", "Add the numbers up."]
    command += ["--model", "m", "--base-url", server.base_url, *arguments]
    return subprocess.run(command, env=environment(HOME=str(tmp_path)), cwd=tmp_path, text=True, capture_output=True, timeout=120)


def test_an_episode_from_prompt_to_answer(tmp_path: Path) -> None:
    """The answer is on stdout, the output files and the trajectory in the output directory, the exit status 0."""
    documents = tmp_path / "in"
    documents.mkdir()
    (documents / "data.txt").write_text("".join(f"{number}\n" for number in range(100)))
    with ModelServer(WORK) as server:
        done = lisrt_run(server, tmp_path, "--input", str(documents), "--output", "out")
    assert (done.stdout, done.returncode) == (f"{sum(range(100))}\n", 0), done.stderr
    assert (tmp_path / "out/files/sum.txt").read_text() == done.stdout
    records = [json.loads(line) for line in (tmp_path / "out/trajectory.jsonl").read_text().splitlines()]
    assert len(records) > len(WORK)


def test_the_outcome_for_machines(tmp_path: Path) -> None:
    """--json prints one object with the documented keys."""
    with ModelServer([call("execute_bash", command="echo 42 > answer.txt"), call("submit")]) as server:
        done = lisrt_run(server, tmp_path, "--json")
    outcome = json.loads(done.stdout)
    assert {"answer", "exit_reason", "turns", "usage", "output", "trajectory"} <= outcome.keys()
    assert (outcome["answer"], outcome["exit_reason"], outcome["turns"]) == ("42\n", "submitted", 2)
    assert Path(tmp_path, outcome["trajectory"]).is_file()


def test_a_model_that_does_not_submit(tmp_path: Path) -> None:
    """Exit status 1, and the reason on stderr."""
    with ModelServer([call("execute_bash", command="true")]) as server:
        done = lisrt_run(server, tmp_path, "--max-turns", "1")
    assert done.returncode == 1
    assert "max_turns" in done.stderr


def test_a_server_that_refuses(tmp_path: Path) -> None:
    """Exit status 1; the message names the base URL."""
    with ModelServer([refusal(401, "no such key")]) as server:
        done = lisrt_run(server, tmp_path)
    assert done.returncode == 1
    assert server.base_url in done.stderr


def test_a_sandbox_that_can_not_be_made(tmp_path: Path) -> None:
    """Exit status 125: that is not the model's failure."""
    with ModelServer(WORK) as server:
        done = lisrt_run(server, tmp_path, "--image", "no-such-image")
    assert done.returncode == 125, done.stderr
    assert "no-such-image" in done.stderr
