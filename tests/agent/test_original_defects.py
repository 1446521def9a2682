"""What llm-in-sandbox 0.2.0 got wrong is right by default, and is as it was in `profile="lis-0.2"`, for its checkpoint.

E1 to E15 are the editor's; the rest belongs to shell, loop and trajectory.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from support.model_server import HangUp, ModelServer, Raw, call, calls, refusal, say, tool_call

from lisrt import Sandbox
from lisrt.agent import Agent, AgentLimits, Episode, ExitReason, Model, Tools, read_trajectory

pytestmark = pytest.mark.usefixtures("working_host")

OLD = "lis-0.2"


class Desk:
    """A sandbox, its editor and its shell, of one profile."""

    def __init__(self, box: Sandbox, profile: str) -> None:
        self.box = box
        self.tools = Tools(box, profile=profile)

    def edit(self, command: str, path: str = "/testbed/f", **values: Any) -> str:
        return self.tools.call("str_replace_editor", {"command": command, "path": path, **values}).text

    def bash(self, command: str) -> str:
        return self.tools.call("execute_bash", {"command": command}).text


@pytest.fixture(params=["default", OLD])
def desk(request: pytest.FixtureRequest) -> Any:
    with Sandbox() as box:
        yield Desk(box, request.param)


@pytest.fixture
def old(desk: Desk) -> bool:
    return desk.tools.definitions[0].name == "str_replace_editor"


# --- the editor ---


@pytest.mark.parametrize("name", ["notes.txt", "data.csv", "README.md", "x.json", "no-ending"])
def test_e1_any_text_file_can_be_viewed(desk: Desk, old: bool, name: str) -> None:
    desk.box.write(f"/testbed/{name}", "content\n")
    seen = desk.edit("view", f"/testbed/{name}")
    assert ("     1\tcontent" in seen) is not old
    if old:
        assert f"ERROR: Viewing non-Python files is disallowed for saving context. File '/testbed/{name}'" in seen


def test_e2_a_directory_shows_all_files(desk: Desk, old: bool) -> None:
    for name in ("a.txt", "b.py", "sub/c.md"):
        desk.box.write(f"/testbed/d/{name}", "x")
    seen = desk.edit("view", "/testbed/d")
    assert "b.py" in seen and "sub" in seen
    assert ("a.txt" in seen and "c.md" in seen) is not old


def test_e3_create_overwrites_nothing(desk: Desk, old: bool) -> None:
    desk.box.write("/testbed/f", "precious")
    seen = desk.edit("create", file_text="new")
    assert desk.box.read("/testbed/f") == (b"new\n" if old else b"precious")
    assert ("exists already" in seen) is not old


@pytest.mark.parametrize(("text", "of_old"), [("line", b"line\n"), ("line\n", b"line\n\n"), ("-n", b""), ("", b"\n")])
def test_e4_create_writes_exactly_what_was_said(desk: Desk, old: bool, text: str, of_old: bytes) -> None:
    desk.edit("create", file_text=text)
    assert desk.box.read("/testbed/f") == (of_old if old else text.encode())


def test_e5_an_edit_adds_no_line_end(desk: Desk, old: bool) -> None:
    desk.box.write("/testbed/f", "a\nb\n")
    desk.edit("str_replace", old_str="a", new_str="A")
    assert desk.box.read("/testbed/f") == (b"A\nb\n\n" if old else b"A\nb\n")
    desk.edit("insert", insert_line=1, new_str="x")
    assert desk.box.read("/testbed/f") == (b"A\nx\nb\n\n\n" if old else b"A\nx\nb\n")


def test_e6_tabs_stay_tabs(desk: Desk, old: bool) -> None:
    desk.box.write("/testbed/f", "all:\n\tcc x.c\nend\n")
    desk.edit("str_replace", old_str="end", new_str="END")
    assert (b"\tcc" in desk.box.read("/testbed/f")) is not old
    if old:
        assert desk.box.read("/testbed/f") == b"all:\n        cc x.c\nEND\n\n"


def test_e7_what_an_edit_does_not_name_is_untouched(desk: Desk, old: bool) -> None:
    before = b"\x1b[31mred\x1b[0m\r\n\xff\xfe latin\r\nlast\r\n"
    desk.box.write("/testbed/f", before)
    desk.edit("str_replace", old_str="last", new_str="LAST")
    after = desk.box.read("/testbed/f")
    if old:
        assert after == "red\n\ufffd\ufffd latin\nLAST\n\n".encode()
    else:
        assert after == before.replace(b"last", b"LAST")


def test_e8_nothing_is_inserted_into_a_file_that_is_not_there(desk: Desk, old: bool) -> None:
    seen = desk.edit("insert", "/testbed/nothing", insert_line=0, new_str="x")
    exists = desk.bash("cat nothing")
    assert "No such file or directory" in seen
    assert ("has been edited" in seen) is old
    if old:  # cat's complaint became its content
        assert "x\ncat: /testbed/nothing: No such file or directory" in exists
    else:
        assert desk.tools.call("execute_bash", {"command": "cat nothing"}).details["exit_code"] == 1


def test_e9_a_path_is_one_path(desk: Desk, old: bool) -> None:
    seen = desk.edit("create", "/testbed/my file.py", file_text="x")
    assert "/testbed/my file.py" in seen
    there = desk.bash("ls")
    assert ("my file.py" in there) is not old
    desk.edit("view", "/testbed/$(touch injected).py")
    assert ("injected" in desk.bash("ls").replace("$(touch injected)", "")) is old


def test_e10_a_failure_is_no_success(desk: Desk, old: bool) -> None:
    text = "'" * 100_000  # quoted it is longer than one argument may be
    seen = desk.edit("create", file_text=text)
    exists = desk.tools.call("execute_bash", {"command": "test -e f"}).details["exit_code"] == 0
    assert ("File created at" in seen or "Created" in seen) is True
    assert exists is not old


def test_e11_large_files(desk: Desk, old: bool) -> None:
    text = "line of text\n" * 40_000
    desk.edit("create", file_text=text)
    found = desk.tools.call("execute_bash", {"command": "wc -c < f"}).text
    assert (str(len(text)) in found) is not old
    if not old:
        desk.edit("str_replace", old_str="x", new_str="y")
        desk.edit("insert", insert_line=40_000, new_str="end")
        assert desk.box.read("/testbed/f") == (text + "end\n").encode()


@pytest.mark.parametrize(
    "values",
    [
        {"command": "insert", "insert_line": "first", "new_str": "x"},
        {"command": "insert", "insert_line": None, "new_str": 5},
        {"command": "str_replace", "old_str": 1, "new_str": 5},
        {"command": "create", "file_text": {"a": 1}},
        {"command": ["view"]},
        {"command": "view", "view_range": {"from": 1}},
        {"path": 7, "command": "view"},
    ],
)
def test_e12_wrong_types_are_answered(desk: Desk, values: dict[str, Any]) -> None:
    """They ended its episodes with a crash, so that no checkpoint has seen them: both profiles answer."""
    desk.box.write("/testbed/f", "a\n")
    observation = desk.tools.call("str_replace_editor", {"path": "/testbed/f", **values})
    assert observation.outcome in ("refused", "done") and observation.text


@pytest.mark.parametrize("arguments", ['["ls"]', '"ls"', "7", '{"command": "ls"'])
def test_e13_arguments_that_are_no_object(desk: Desk, old: bool, arguments: str) -> None:
    """It claimed to have run something; of what is no JSON it said that nothing was called."""
    observation = desk.tools.call("execute_bash", arguments)
    assert observation.outcome == "refused"
    assert ("not a JSON object" in observation.text) is not old
    if old and arguments.startswith("{"):
        assert "You forgot to use a function call" in observation.text
    elif old:
        assert observation.text == "Exit code: 0\nExecution output of \\[execute_bash]:\n\\[STDOUT]\n"


def test_e14_ranges_that_can_be_meant_are_taken(desk: Desk, old: bool) -> None:
    desk.box.write("/testbed/f.py", "1\n2\n3\n")
    as_text = desk.edit("view", "/testbed/f.py", view_range="[2, 2]")
    assert ("     3\t3" in as_text) is old  # ignored in silence
    outside = desk.edit("view", "/testbed/f.py", view_range=[9, 12])
    assert ("Error: Invalid view_range [9, 12]: start line must be in [1, 4]" in outside) is old
    assert ("the file's lines are 1 to 3" in outside) is not old


def test_e15_an_edit_shows_where_it_was(desk: Desk, old: bool) -> None:
    desk.box.write("/testbed/f", "".join(f"line {number}\n" for number in range(1, 31)))
    seen = desk.edit("str_replace", old_str="line 15\n", new_str="changed\n")
    assert "    11\tline 11" in seen and "    15\tchanged" in seen and "    19\tline 19" in seen
    assert "line 9\n" not in seen and "line 22" not in seen
    assert (
        "The file /testbed/f has been edited. Here's the result of running `cat -n` on a snippet of /testbed/f:" in seen
    ) is old


# --- the shell ---


def test_observations_have_the_form_that_the_checkpoint_knows() -> None:
    with Sandbox() as box:
        desk = Desk(box, OLD)
        assert desk.bash("echo out") == "Exit code: 0\nExecution output of \\[execute_bash]:\n\\[STDOUT]\nout\n"
        failed = desk.bash("echo out; echo err >&2; exit 3")
        head = "Exit code: Error: Exit code 3\nExecution output of \\[execute_bash]:\n"
        assert failed == f"{head}\\[STDOUT]\nout\n\n\\[STDERR]\nerr\n"
        assert desk.bash("") == "Error: No command provided."
        assert desk.tools.call("submit", {}).text == "<<< Finished >>>"
        assert desk.tools.call("foo", {}).text == "Unknown action: foo"
        assert [one.name for one in desk.tools.definitions] == ["str_replace_editor", "execute_bash", "submit"]


def test_long_output_is_cut_by_lines_and_by_characters(desk: Desk, old: bool) -> None:
    many = desk.bash("seq 10000")
    wide = desk.bash("head -c 500000 /dev/zero | tr '\\0' x")
    if old:
        lines = many.splitlines()
        assert [line for line in lines if "Observation truncated in middle for saving context" in line]
        assert lines[3:43] == [str(number) for number in range(1, 41)]
        assert lines[-40:] == [str(number) for number in range(9961, 10001)]
        assert len(wide) > 500_000
    else:
        assert len(many.splitlines()) <= 510 and len(many) < 10_200
        assert len(wide) < 10_200
        assert "left out here" in wide


def test_what_was_printed_before_a_timeout_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a program that itself ends with 124 has not timed out."""
    monkeypatch.setattr("lisrt.agent.tools.lis02.TIMEOUT", 0.5)
    with Sandbox() as box:
        new, of_old = Tools(box, command_timeout=0.5), Tools(box, profile=OLD)
        script = {"command": "echo early; sleep 60"}
        assert "early" in new.call("execute_bash", script).text
        lost = of_old.call("execute_bash", script).text
        assert "The command took too long to execute (>0.5s)" in lost and "early" not in lost
        assert new.call("execute_bash", {"command": "exit 124"}).text.startswith("Exit code: 124")
        assert "took too long" in of_old.call("execute_bash", {"command": "exit 124"}).text


def test_a_program_that_ignores_sigterm_dies_at_the_timeout() -> None:
    with Sandbox() as box:
        seen = Tools(box, command_timeout=0.5).call("execute_bash", {"command": "trap '' TERM; sleep 60; sleep 60"})
        assert seen.outcome == "timed_out"


# --- the loop ---


SUBMIT = call("submit")


def play(steps: Any, files: dict[str, Any] | None = None, **settings: Any) -> tuple[Episode, ModelServer]:
    with ModelServer(steps) as server:
        model = Model("m", server.base_url, retries=2, retry_delay=0.001)
        episode = Agent(model, **settings).run_sync("the task", **(files or {}))
    assert server.violations == []
    return episode, server


@pytest.mark.parametrize("profile", ["default", OLD])
def test_every_call_of_a_turn_is_answered(profile: str) -> None:
    """The original carried out the first and left the others unanswered, which strict APIs refuse."""
    made = [tool_call("execute_bash", {"command": f"touch {name}; ls"}, id=name) for name in ("a", "b")]
    _, server = play([calls(*made), SUBMIT], profile=profile)
    first, second = server.requests[1].observations
    assert "a\n" in first
    assert ("Not carried out" in second) is (profile == OLD)


@pytest.mark.parametrize("profile", ["default", OLD])
@pytest.mark.parametrize("step", [
    calls(tool_call("execute_bash", '{"command": "ls"', id="x")),
    calls(tool_call("execute_bash", "[]", id="x")),
    calls({"id": "", "type": "function", "function": {"name": "execute_bash", "arguments": "{}"}}),
    calls(tool_call("nonsense", {}, id="x")),
    say(None), say(""), say("only words"),
])  # fmt: skip
def test_a_broken_turn_breaks_no_episode(profile: str, step: Any) -> None:
    """Malformed JSON, an empty id without content (KeyError), unknown tools, no call at all: the conversation stays valid."""
    episode, _ = play([step, SUBMIT], profile=profile)
    assert (episode.exit_reason, episode.turns) == (ExitReason.SUBMITTED, 2)


def test_a_hint_stands_below_the_last_message_of_each_turn() -> None:
    def check(request: Any) -> Any:
        return SUBMIT if len(request.messages) > 4 else call("execute_bash", command="true")

    _, server = play(check, profile=OLD, limits=AgentLimits(max_turns=7))
    assert server.requests[0].messages[-1]["content"].endswith("\nSteps Remaining: 7")
    assert server.requests[1].messages[-1]["content"].endswith("\nSteps Remaining: 6")
    _, server = play([SUBMIT])
    assert "remaining" not in json.dumps(server.requests[0].messages).lower()


def test_the_settings_that_the_checkpoint_was_sampled_with() -> None:
    agent = Agent(Model("m", "http://localhost:1/v1"), profile=OLD)
    assert (agent.model.temperature, agent.model.max_tokens) == (1.0, 65536)
    assert agent.limits is not None and agent.prompts is not None
    assert (agent.limits.max_turns, agent.limits.max_context) == (100, 65536)
    assert agent.prompts.answer_file == "/testbed/output/answer.txt"
    assert Agent(Model("o3-mini", "http://localhost:1/v1")).model.temperature is None


@pytest.mark.parametrize("step", [refusal(401, "no"), refusal(500, "x"), HangUp(), Raw(200, "{"), Raw(200, '{"choices": []}')])
def test_a_failing_server_is_a_recorded_reason(tmp_path: Path, step: Any) -> None:
    """The original ended without a word, and a run without a single reply was scored as the model's."""
    path = tmp_path / "t.jsonl"
    episode, _ = play(lambda _: step, {"trajectory": path})
    assert episode.exit_reason is ExitReason.MODEL_ERROR
    assert episode.error
    assert read_trajectory(path)[-1]["exit_reason"] == "model_error"


def test_braces_in_prompts_are_only_text() -> None:
    from lisrt.agent import Prompts

    prompts = Prompts(system="{unknown} {{}} {0} {working_dir}", task="{task} \\boxed{{}}")
    with ModelServer([SUBMIT]) as server:
        Agent(Model("m", server.base_url), prompts=prompts).run_sync("solve {x} and {task}")
    system, user = server.requests[0].messages
    assert system["content"] == "{unknown} {{}} {0} /testbed"
    assert user["content"] == "solve {x} and {task} \\boxed{{}}"


# --- the trajectory ---


def test_the_trajectory_has_what_theirs_lacked(tmp_path: Path) -> None:
    """Prompts as sent, sampling, usage, exit reason, tool latency and ids, times, the sandbox's use, versions; and it is there
    before the episode has ended."""
    path = tmp_path / "t.jsonl"
    there: list[str] = []

    def step(request: Any) -> Any:
        there.append(read_trajectory(path)[-1]["type"])
        return SUBMIT if len(there) == 2 else call("execute_bash", command="head -c 1M /dev/zero > f")

    _, server = play(step, {"trajectory": path})
    assert there == ["sandbox", "tool"]
    records = {record["type"]: record for record in read_trajectory(path)}
    start, tool, end = records["start"], read_trajectory(path)[3], records["end"]
    assert start["messages"] == server.requests[0].messages
    assert {"temperature", "top_p", "seed", "max_tokens"} <= start["model"].keys()
    assert {"lisrt", "openai", "python"} <= start["versions"].keys()
    assert tool["id"] == "call_a" and tool["duration"] > 0 and tool["memory_peak"] > 0
    assert records["response"]["usage"]["prompt"] == 10
    assert records["sandbox"]["guarantees"]
    assert end["exit_reason"] == "submitted" and end["usage"]["prompt"] == 20 and end["tool_time"] > 0
    assert end["sandbox_usage"]["memory_peak"] > 0
    assert all("time" in record for record in read_trajectory(path))
