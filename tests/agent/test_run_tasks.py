"""`lisrt run --tasks` and `--resume`: a run from the command line, its folder, its end and its going on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fresh import environment
from support.model_server import ModelServer, Request, call
from support.waiting import eventually

from lisrt.agent import read_trajectory

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("working_host")


def command(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lisrt", "run", *arguments],
        cwd=cwd, env=environment(HOME=str(cwd), **(env or {})), text=True, capture_output=True, timeout=120,
    )  # fmt: skip


def solver(request: Request) -> Any:
    if request.messages[-1]["role"] == "user":
        return call("execute_bash", command="cat documents/* > answer.txt")
    return call("submit")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    file = tmp_path / "tasks.jsonl"
    records = [{"id": f"n{number}", "prompt": f"task {number}", "files": {"a.txt": f"text {number}"}} for number in range(6)]
    file.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return file


def test_a_file_of_tasks(tmp_path: Path, tasks: Path) -> None:
    with ModelServer(solver) as server:
        options = ["--model", "m", "--base-url", server.base_url, "--output", "out", "-n", "3"]
        done = command("--tasks", str(tasks), *options, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert (summary["tasks"], summary["ended"], summary["exit_reasons"]) == (6, 6, {"submitted": 6})
        assert summary["usage"]["prompt"] == 120
        results = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
        assert {one["task"]: one["answer"] for one in results} == {f"n{number}": f"text {number}" for number in range(6)}
        assert "n0: submitted after 2 turns" in done.stderr
        again = command("--tasks", str(tasks), *options, cwd=tmp_path)
        assert again.returncode == 2 and "--resume out" in again.stderr
        resumed = command("--resume", "out", cwd=tmp_path)
        assert resumed.returncode == 0 and "6 of 6 (6 submitted; 6 of them before)" in resumed.stderr, resumed.stderr
        assert len((tmp_path / "out/results.jsonl").read_text().splitlines()) == 6


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"task {number}"}) + "\n" for number in range(60)))
    options = ["--model", "m", "--base-url", "http://127.0.0.1:1/v1", "--retries", "0", "-n", "1", "--output", "out"]
    done = command("--tasks", str(file), *options, "--json", cwd=tmp_path)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["exit_reasons"]) == (1, {"model_error": 10})
    assert "10 tasks in a row" in summary["gave_up"]
    assert "gave up: 10 tasks in a row ended with model_error" in done.stderr and "lisrt run --resume out" in done.stderr


def test_bad_lines_are_told_and_the_status_is_1(tmp_path: Path, tasks: Path) -> None:
    tasks.write_text(tasks.read_text() + "{nonsense\n")
    with ModelServer(solver) as server:
        done = command("--tasks", str(tasks), "--model", "m", "--base-url", server.base_url, cwd=tmp_path)
        assert done.returncode == 1
        assert "line-7: bad_task" in done.stderr and "1 bad_task" in done.stderr
        assert "line 7: no JSON: Expecting property name enclosed in double quotes at column 2" in done.stderr
        where = done.stdout.strip()
        tasks.write_text(tasks.read_text().replace("{nonsense", json.dumps({"id": "n6", "prompt": "p", "files": {"a": "b"}})))
        again = command("--resume", where, cwd=tmp_path)
    assert (again.returncode, "7 of 7 (7 submitted; 6 of them before)" in again.stderr) == (0, True), again.stderr
    results = (tmp_path / where / "results.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["task"] for line in results) == [f"n{number}" for number in range(7)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_resume_goes_on(tmp_path: Path, tasks: Path, number: signal.Signals) -> None:
    """With the options of the first time, which it does not have to be told again."""
    hang = True

    def step(request: Request) -> Any:
        if hang and "task 5" in request.messages[1]["content"] and request.messages[-1]["role"] == "tool":
            return call("execute_bash", command="sleep 3600")
        return solver(request)

    with ModelServer(step) as server:
        options = ["--model", "m", "--base-url", server.base_url, "--output", "out", "--checkpoint", "--max-turns", "7"]
        process = subprocess.Popen(
            [sys.executable, "-m", "lisrt", "run", "--tasks", str(tasks), *options],
            cwd=tmp_path, env=environment(HOME=str(tmp_path)), text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        results = tmp_path / "out/results.jsonl"
        eventually(lambda: results.exists() and results.read_text().count("\n") == 5, within=30)
        trajectory = tmp_path / "out/episodes/n5/trajectory.jsonl"
        eventually(
            lambda: any(one["type"] == "response" and one["turn"] == 2 for one in read_trajectory(trajectory)), within=30
        )
        process.send_signal(number)
        _, words = process.communicate(timeout=60)
        assert process.returncode == 128 + number, words
        assert "lisrt run --resume out" in words
        hang = False
        resumed = command("--resume", "out", cwd=tmp_path, env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
        assert resumed.returncode == 0, resumed.stderr
    records = read_trajectory(trajectory)
    [again] = [record for record in records if record["type"] == "resume"]
    assert (again["turn"], again["from_checkpoint"], again["limits"]["max_turns"]) == (1, True, 7)
    assert records[-1]["exit_reason"] == "submitted"
    assert len(results.read_text().splitlines()) == 6
    assert not (tmp_path / "out/episodes/n5/checkpoint").exists()


def test_one_task_is_resumed(tmp_path: Path) -> None:
    """After SIGKILL; from the checkpoint that a single task has by itself. No key is kept."""
    slow = True

    def step(request: Request) -> Any:
        turn = sum(message["role"] == "assistant" for message in request.messages) + 1
        if turn == 1:
            return call("execute_bash", command="echo 1 > answer.txt")
        return call("execute_bash", command="sleep 3600") if slow else call("submit")

    with ModelServer(step) as server:
        options = ["the task", "--model", "m", "--base-url", server.base_url, "--output", "out", "--prices", "1:2:0.5"]
        process = subprocess.Popen(
            [sys.executable, "-m", "lisrt", "run", *options],
            cwd=tmp_path, env=environment(HOME=str(tmp_path), OPENAI_API_KEY="sk-secret"), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        trajectory = tmp_path / "out/trajectory.jsonl"
        eventually(
            lambda: trajectory.exists() and sum(one["type"] == "response" for one in read_trajectory(trajectory)) == 2,
            within=30,
        )
        process.kill()
        process.wait()
        slow = False
        assert "sk-secret" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json*"))
        resumed = command("--resume", "out", "--json", cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        outcome = json.loads(resumed.stdout)
        assert (outcome["answer"], outcome["exit_reason"], outcome["turns"]) == ("1\n", "submitted", 2)
        assert outcome["cost"] > 0
        ended = command("--resume", "out", cwd=tmp_path)
        assert ended.returncode == 2 and "nothing to resume" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a TASK"),
        (["x", "--tasks", "tasks.jsonl"], "name a TASK"),
        (["--tasks", "tasks.jsonl", "--input", "."], "each of --tasks names its own"),
        (["x", "--without", "network", "--network", "nat"], "don't go together"),
        (["x", "--max-cost", "1"], "needs the model's prices"),
        (["x", "--prices", "cheap"], "PROMPT:COMPLETION"),
        (["x", "--extra-body", "[1]"], "JSON object"),
        (["x", "--profile", "lis-0.2", "--shell", "persistent"], "as it was"),
        (["x", "--protocol", "bash", "--without", "execution"], "needs execution"),
        (["x", "--prompts", "tasks.jsonl"], "tasks.jsonl"),
        (["--resume", "."], "holds no run"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, tasks: Path, arguments: list[str], words: str) -> None:
    done = command(*arguments, "--model", "m", "--base-url", "http://127.0.0.1:1/v1", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.replace("\n", " ")
    assert not (tmp_path / "lisrt-output").exists()


# --- settings files ---


def shown(tmp_path: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The start record of a run with those arguments, of one turn."""
    with ModelServer(lambda _: call("submit")) as server:
        extra = {"OPENAI_BASE_URL": server.base_url, "LISRT_MODEL": "m", **(env or {})}
        done = command("the task", "--output", "out", *arguments, cwd=tmp_path, env=extra)
    assert done.returncode == 0, done.stderr
    return read_trajectory(tmp_path / "out/trajectory.jsonl")[0] | {"stderr": done.stderr}


@pytest.mark.parametrize(
    ("flag", "variable", "here", "own", "expected"),
    [
        (None, None, None, None, 100),
        (None, None, None, 4, 4),
        (None, None, 3, 4, 3),
        (None, 2, 3, 4, 2),
        (1, 2, 3, 4, 1),
    ],
)
def test_one_precedence(
    tmp_path: Path, flag: int | None, variable: int | None, here: int | None, own: int | None, expected: int
) -> None:
    """Flag, environment, ./lisrt.toml, the user's own file."""
    if here:
        (tmp_path / "lisrt.toml").write_text(f"[run]\nmax_turns = {here}\n")
    if own:
        (tmp_path / ".config/lisrt").mkdir(parents=True)
        (tmp_path / ".config/lisrt/config.toml").write_text(f'image = "host"\n[run]\nmax-turns = {own}\n')
    arguments = ["--max-turns", str(flag)] if flag else []
    start = shown(tmp_path, *arguments, env={"LISRT_RUN_MAX_TURNS": str(variable)} if variable else {})
    assert start["limits"]["max_turns"] == expected
    assert ("settings of ./lisrt.toml: max_turns" in start["stderr"]) is bool(here)


def test_a_table_for_every_command_that_makes_sandboxes(tmp_path: Path) -> None:
    (tmp_path / "lisrt.toml").write_text('[sandbox]\nmemory = "100MiB"\nenv = ["WHO=file"]\n')
    start = shown(tmp_path)
    assert "100 MiB" in json.dumps(read_trajectory(tmp_path / "out/trajectory.jsonl")[1]["guarantees"]) or start
    done = subprocess.run(
        [sys.executable, "-m", "lisrt", "exec", "--", "sh", "-c", "echo $WHO"],
        cwd=tmp_path, env=environment(HOME=str(tmp_path)), text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "file\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[run]\nbase_url = 'http://evil/v1'\n", "only a file that was named may do"),
        ("[sandbox]\nmount = ['/:/host']\n", "only a file that was named may do"),
        ("[sandbox]\nnetwork = 'host'\n", "only a file that was named may do"),
        ("[run]\napi_key = 'x'\n", "belongs into the environment"),
        ("[run]\nturns = 3\n", "unknown key 'turns'"),
        ("[walk]\nx = 3\n", "unknown key 'walk'"),
        ("run = 3\n", "must be a table"),
        ("[run\n", "lisrt.toml"),
        ("[run]\nmax_turns = 'many'\n", "'--max-turns': 'many' is not a valid integer range (in lisrt.toml)"),
        ("[run]\nmax_turns = inf\n", "'inf' is not a valid integer range (in lisrt.toml)"),
        ("[run]\nforce_answer = 2\n", "'2' is not a valid boolean"),
        ("[run]\nmax_turns = [5]\n", "lisrt.toml: max_turns is a text, a number"),
        ("[run]\nmax_turns = 2026-11-23\n", "lisrt.toml: max_turns is a text, a number"),
        ("[sandbox]\ncpus = {a = 1}\n", "lisrt.toml: cpus is a text, a number"),
        ("[sandbox]\nmemory = 'lots'\n", "(in lisrt.toml)"),
        ("[run]\ntimeout = -1\n", "(in lisrt.toml)"),
        ("[run]\ninput = 'x'\n", "lisrt.toml sets input, which"),
    ],
)
def test_a_settings_file_that_will_not_do(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "lisrt.toml").write_text(text)
    done = command("x", "--model", "m", cwd=tmp_path, env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    assert done.returncode == (2 if "(in " in words or "not a valid" in words else 125), done.stderr
    assert words in " ".join(done.stderr.split())


def test_values_of_all_kinds(tmp_path: Path) -> None:
    """As TOML has them: numbers, truth, lists, one text where a list could stand, tables."""
    (tmp_path / "mine.toml").write_text(
        "[sandbox]\nenv = ['A=1', 'B=2']\nallow = 'example.org'\ncpus = 1.0\npids = 100\nmemory = '200MiB'\n"
        "[run]\nmax_turns = 7.0\nmax_total_tokens = 1e6\nforce-answer = true\ncheckpoint = false\n"
        "extra_body = {top_k = 5, deep = {x = [1, true]}}\nprices = '1:2'\ntemperature = 1\n"
    )
    with ModelServer([call("execute_bash", command="echo $A$B > answer.txt"), call("submit")]) as server:
        done = subprocess.run(
            [sys.executable, "-m", "lisrt", "--config", "mine.toml", "run", "x", "--model", "m", "--base-url", server.base_url],
            cwd=tmp_path, env=environment(HOME=str(tmp_path)), text=True, capture_output=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
    body = server.requests[0].body
    assert (body["top_k"], body["deep"], body["temperature"]) == (5, {"x": [1, True]}, 1.0)
    [run] = (tmp_path / "lisrt-output").iterdir()
    start = read_trajectory(run / "trajectory.jsonl")[0]
    assert (start["limits"]["max_turns"], start["agent"]["force_answer"], start["agent"]["checkpoint"]) == (7, True, False)


def test_what_is_overridden_need_not_be_right(tmp_path: Path) -> None:
    """By the command line, the environment, or a stronger file; and help is there in any case."""
    (tmp_path / ".config/lisrt").mkdir(parents=True)
    (tmp_path / ".config/lisrt/config.toml").write_text("[run]\nmax-turns = 'many'\ntimeout = -1\n")
    (tmp_path / "lisrt.toml").write_text("[run]\nmax_turns = 'few'\n[sandbox]\ncpus = 'lots'\n")
    with ModelServer(lambda _: call("submit")) as server:
        options = ["--model", "m", "--base-url", server.base_url, "--max-turns", "3", "--cpus", "1", "--timeout", "60"]
        done = command("x", *options, cwd=tmp_path, env={"XDG_CONFIG_HOME": str(tmp_path / ".config")})
    assert done.returncode == 0, done.stderr
    assert command("--help", cwd=tmp_path).returncode == 0


def test_a_named_file_may_say_where_the_server_is(tmp_path: Path) -> None:
    with ModelServer(lambda _: call("submit")) as server:
        (tmp_path / "mine.toml").write_text(f'[run]\nmodel = "m"\nbase_url = "{server.base_url}"\n')
        done = subprocess.run(
            [sys.executable, "-m", "lisrt", "--config", "mine.toml", "run", "x"],
            cwd=tmp_path, env=environment(HOME=str(tmp_path)), text=True, capture_output=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "lisrt-output")
