"""`lisrt run`: an episode from the command line, over real HTTP."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.fresh import environment
from support.model_server import ModelServer, call, refusal, say
from support.procs import sleeping
from support.waiting import eventually

pytest.importorskip("openai")

pytestmark = pytest.mark.usefixtures("working_host")

PROGRAM = "print(sum(map(int, open('documents/data.txt'))))"
WORK = [
    call("execute_bash", command="ls documents; wc -l < documents/data.txt"),
    call("str_replace_editor", command="create", path="/testbed/sum.py", file_text=PROGRAM),
    call("execute_bash", command="mkdir -p output && python3 sum.py | tee answer.txt > output/sum.txt"),
    call("submit"),
]


def run_command(server: ModelServer, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "lisrt", "run", "Add the numbers up."]
    return [*command, "--model", "m", "--base-url", server.base_url, *arguments]


def lisrt_run(server: ModelServer, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = run_command(server, *arguments)
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


def test_a_single_file_comes_in(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("forty-two")
    with ModelServer([call("execute_bash", command="cp documents/notes.txt answer.txt"), call("submit")]) as server:
        done = lisrt_run(server, tmp_path, "--input", "notes.txt")
    assert (done.stdout, done.returncode) == ("forty-two\n", 0), done.stderr


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_what_there_is(tmp_path: Path, number: signal.Signals, marker: str) -> None:
    """Ctrl-C, or Slurm at the end of its patience: answer, output and the trajectory's end are written; the status says it."""
    work = f"echo half > answer.txt; echo x > output/file; sleep {marker}"
    with ModelServer([call("execute_bash", command=work)]) as server:
        command = run_command(server, "--output", "out")
        with subprocess.Popen(command, env=environment(HOME=str(tmp_path)), cwd=tmp_path, stdout=subprocess.PIPE) as process:
            trajectory = tmp_path / "out/trajectory.jsonl"
            eventually(lambda: trajectory.exists() and "response" in trajectory.read_text(), within=30)
            eventually(lambda: sleeping(marker), within=20)
            process.send_signal(number)
            stdout, _ = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (128 + number, b"half\n")
    assert (tmp_path / "out/files/file").read_text() == "x\n"
    end = json.loads(trajectory.read_text().splitlines()[-1])
    assert (end["type"], end["exit_reason"], end["answer"]) == ("end", "stopped", "half\n")


def test_nohup_is_respected(tmp_path: Path, marker: str) -> None:
    """A hangup that the caller ignores ends nothing."""
    with ModelServer([call("execute_bash", command=f"echo 42 > answer.txt; sleep {marker}"), call("submit")]) as server:
        command = ["nohup", *run_command(server, "--output", "out", "--quiet")]
        with subprocess.Popen(command, env=environment(HOME=str(tmp_path)), cwd=tmp_path, stdout=subprocess.PIPE) as process:
            [sleep] = eventually(lambda: sleeping(marker), within=30)
            process.send_signal(signal.SIGHUP)
            os.kill(sleep, signal.SIGKILL)
            stdout, _ = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (0, b"42\n")


def test_steps_that_nobody_reads_end_nothing(tmp_path: Path) -> None:
    """stderr into a pipe that is closed: the episode goes on, the answer and the record are whole, the status is its own."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with ModelServer(WORK[2:]) as server, os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            run_command(server, "--output", "out"),
            env=environment(HOME=str(tmp_path)),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=closed,
            timeout=60,
        )
    assert done.returncode == 0
    end = json.loads((tmp_path / "out/trajectory.jsonl").read_text().splitlines()[-1])
    assert (end["type"], end["exit_reason"]) == ("end", "submitted")


def test_a_model_that_only_talks(tmp_path: Path) -> None:
    """It is reminded, and given up after five replies; what it said is told."""
    with ModelServer([say("I think the answer is 42.")] * 20) as server:
        done = lisrt_run(server, tmp_path)
    assert done.returncode == 1
    assert "no_tool_calls after 5 turns" in done.stderr and "42" in done.stderr
    assert len(server.requests) == 5


def test_each_step_is_shown_unless_quiet(tmp_path: Path) -> None:
    """A line for each tool call on stderr, and none with --quiet; stdout is the answer alone."""
    steps = [call("execute_bash", command="echo 42 > answer.txt\nls"), call("submit")]
    for quiet in ([], ["--quiet"]):
        with ModelServer(steps) as server:
            done = lisrt_run(server, tmp_path, *quiet)
        assert done.stdout == "42\n"
        assert ("turn 1: execute_bash echo 42 > answer.txt\\nls -> exited" in done.stderr) is not bool(quiet)


def test_an_output_directory_is_used_once(tmp_path: Path) -> None:
    """Status 2, the option and the reason: two episodes are not mixed, and nothing is overwritten."""
    with ModelServer([call("submit"), call("submit")]) as server:
        assert lisrt_run(server, tmp_path, "--output", "out").returncode == 0
        before = (tmp_path / "out/trajectory.jsonl").read_text()
        again = lisrt_run(server, tmp_path, "--output", "out")
    assert (again.returncode, again.stdout) == (2, "")
    assert "--output" in again.stderr and "another run" in again.stderr
    assert (tmp_path / "out/trajectory.jsonl").read_text() == before


@pytest.mark.parametrize("arguments", [["--timeout", "0"], ["--command-timeout", "-1"], ["--mount", "nope:/x"]])
def test_a_mistake_costs_nothing(tmp_path: Path, arguments: list[str]) -> None:
    """Status 2 with the option's name, no request to the model, no directory."""
    with ModelServer([call("submit")]) as server:
        done = lisrt_run(server, tmp_path, *arguments)
        assert server.requests == []
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[0] in done.stderr
    assert not (tmp_path / "lisrt-output").exists()


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


WITHOUT_OPENAI = "import sys; sys.modules['openai'] = None; from lisrt.cli import main; main()"


def test_without_the_openai_package(tmp_path: Path) -> None:
    """A server on a plain connection needs none; for another one a line says which, and nothing is begun."""
    start = [sys.executable, "-c", WITHOUT_OPENAI, "run", "x", "--model", "m", "--output", "out", "--base-url"]
    with ModelServer([call("submit")]) as server:
        for url, status in (("https://127.0.0.1:1/v1", 2), (server.base_url, 0)):
            done = subprocess.run(
                [*start, url], env=environment(HOME=str(tmp_path)), cwd=tmp_path, text=True, capture_output=True, timeout=60
            )
            assert done.returncode == status, done.stderr
            assert (tmp_path / "out").exists() is (status == 0)
            assert ("pip install 'lisrt[agent]'" in done.stderr) is (status == 2)
            assert "Traceback" not in done.stderr


def test_what_is_said_at_the_end(tmp_path: Path) -> None:
    """How to go on where a budget has run out; and that there is no answer, where that might be overlooked."""
    with ModelServer(lambda _: call("execute_bash", command="true")) as server:
        done = lisrt_run(server, tmp_path, "--max-turns", "1", "--output", "out", "--force-answer")
    assert "go on with: lisrt run --resume out --max-turns N, with more than before" in done.stderr
    assert "the model is asked for an answer" in done.stderr and "no tool call" not in done.stderr
    with ModelServer([call("submit")]) as server:
        done = lisrt_run(server, tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no answer" in done.stderr
