"""The tools in a real sandbox: exact on files, plain about mistakes, silent on the sandbox's own faults."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from lisrt import AsyncSandbox, SandboxGone
from lisrt.agent.tools import TOOLS, AsyncTools, Observation

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("working_host")

Scenario = Callable[[AsyncSandbox, AsyncTools], Awaitable[T]]


def in_sandbox(scenario: Scenario[T], **settings: Any) -> T:
    """Run a scenario in a sandbox of its own."""

    async def run() -> T:
        async with AsyncSandbox() as box:
            options = {"working_dir": "/testbed", "command_timeout": 30.0, "max_output": 10_000, **settings}
            return await scenario(box, AsyncTools(box, **options))

    return asyncio.run(run())


def observe(name: str, arguments: Any, **settings: Any) -> Observation:
    """One call in a fresh sandbox; arguments that are no str are encoded."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return in_sandbox(lambda _box, tools: tools.call(name, text), **settings)


def edit(data: bytes, **arguments: Any) -> tuple[bytes, Observation]:
    """What one editor call makes of a file with `data`."""

    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> tuple[bytes, Observation]:
        await box.write("/testbed/file", data)
        observation = await tools.call(
            "str_replace_editor", json.dumps({"path": "/testbed/file", **arguments})
        )
        return await box.read("/testbed/file"), observation

    return in_sandbox(scenario)


def bash(command: str, **settings: Any) -> Observation:
    return observe("execute_bash", {"command": command}, **settings)


# --- execute_bash ---


def test_bash_tells_exit_code_and_streams_apart() -> None:
    observation = bash("echo to out; echo to err >&2; exit 3")
    assert observation.text == "Exit code: 3\n[stdout]\nto out\n\n[stderr]\nto err\n"
    assert (observation.outcome, observation.details["exit_code"]) == ("exited", 3)


def test_bash_without_output_says_so() -> None:
    assert bash("true").text == "Exit code: 0\n(no output)"


def test_bash_names_a_signal() -> None:
    observation = bash("kill -KILL $$")
    assert "SIGKILL" in observation.text
    assert (observation.outcome, observation.details["signal"]) == ("signaled", 9)


def test_bash_keeps_what_was_printed_before_a_timeout() -> None:
    observation = bash("echo early; echo problem >&2; sleep 3600", command_timeout=0.5)
    assert "Timed out after 0.5 s" in observation.text
    assert "early" in observation.text
    assert "problem" in observation.text
    assert observation.outcome == "timed_out"


def test_each_command_is_a_new_bash_in_the_working_directory() -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> list[str]:
        commands = ["mkdir -p sub; cd sub; export N=3; echo kept > file", 'pwd; echo "[$N]"; cat sub/file']
        return [
            (await tools.call("execute_bash", json.dumps({"command": command}))).text for command in commands
        ]

    assert in_sandbox(scenario)[1] == "Exit code: 0\n[stdout]\n/testbed\n[]\nkept\n"


def test_bash_is_bash_and_its_stdin_is_empty() -> None:
    assert "[stdout]\nyes\n0\n" in bash("[[ a == a ]] && echo yes; wc -c").text


def test_long_output_loses_its_middle_and_says_how_much() -> None:
    observation = bash(
        "printf start; head -c 50000 /dev/zero | tr '\\0' x; printf end; echo short >&2", max_output=1000
    )
    assert "start" in observation.text
    assert "end\n[stderr]\nshort" in observation.text
    assert "49008 characters left out" in observation.text
    assert len(observation.text) < 1200


def test_output_that_the_sandbox_dropped_is_named_too() -> None:
    text = bash("printf start; head -c 9000000 /dev/zero | tr '\\0' x; printf end", max_output=1000).text
    assert "start" in text
    assert text.endswith("end")
    assert "bytes that were not kept" in text


def test_a_script_too_long_to_start_is_the_models_to_mend() -> None:
    observation = bash(": " + "x" * 3_000_000)
    assert observation.outcome == "refused"
    assert "too long" in observation.text


def test_a_working_directory_that_is_gone_is_made_again() -> None:
    """Without it no command could ever start; where it can't be made, the answer names it."""

    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> list[Observation]:
        commands = ["cd /; rm -rf /testbed/work", "pwd", "cd /; rmdir /testbed/work; echo > /testbed/work", "pwd"]
        await box.run(["mkdir", "/testbed/work"])
        return [await tools.call("execute_bash", json.dumps({"command": command})) for command in commands]

    _, made, _, refused = in_sandbox(scenario, working_dir="/testbed/work")
    assert (made.outcome, "/testbed/work\n" in made.text) == ("exited", True)
    assert refused.outcome == "refused"
    assert "/testbed/work" in refused.text


def test_what_a_program_does_to_the_file_server_is_an_observation() -> None:
    """Killed or starved from inside, it is no fault of the sandbox: a model could end its episode unscored at will."""
    killer = "import os\nwhile True:\n for pid in range(os.getpid() + 1, 4000):\n  try: os.kill(pid, 9)\n  except OSError: pass"

    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> list[Observation]:
        await box.write("killer.py", killer)
        await box.sh("echo x > file; python3 killer.py 2>/dev/null &")
        views = [{"command": "view", "path": path} for path in ("/testbed/file", "/" + "x" * 300_000)]
        return [await tools.call("str_replace_editor", json.dumps(view)) for view in views]

    for observation in in_sandbox(scenario, working_dir="/testbed"):
        assert observation.outcome in ("done", "refused")


# --- str_replace_editor: view ---


@pytest.mark.parametrize(
    "name", ["notes.txt", "data.csv", "prog.py", "no_suffix", "my file (2).md", "-n", "$(touch x)"]
)
def test_any_text_file_can_be_viewed(name: str) -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> str:
        await box.write(f"/testbed/{name}", "one\n\ttwo\nthree")
        return (
            await tools.call(
                "str_replace_editor", json.dumps({"command": "view", "path": f"/testbed/{name}"})
            )
        ).text

    text = in_sandbox(scenario)
    assert text == f"/testbed/{name} (3 lines)\n     1\tone\n     2\t\ttwo\n     3\tthree"


def test_view_of_a_range() -> None:
    data = b"".join(b"line %d\n" % number for number in range(1, 101))
    text = edit(data, command="view", view_range=[99, -1])[1].text
    assert text == "/testbed/file (lines 99 to 100 of 100 lines)\n    99\tline 99\n   100\tline 100"


@pytest.mark.parametrize(
    "view_range", [[0, 1], [3, 5], [2, 1], [1], "1,2", [1, "two"], [1.5, 2], [True, 2], {}, 7]
)
def test_a_wrong_range_is_answered(view_range: Any) -> None:
    observation = edit(b"a\nb\n", command="view", view_range=view_range)[1]
    assert observation.outcome == "refused"
    assert "view_range" in observation.text


def test_view_of_an_empty_file() -> None:
    assert edit(b"", command="view")[1].text == "/testbed/file is empty."


def test_view_of_what_is_no_text() -> None:
    observation = edit(b"\x7fELF\0\0", command="view")[1]
    assert observation.outcome == "refused"
    assert "not text" in observation.text


def test_view_of_a_huge_file_points_to_programs() -> None:
    observation = edit(b"x" * (10 * 1024 * 1024 + 1), command="view")[1]
    assert observation.outcome == "refused"
    assert "larger than 10 MiB" in observation.text


def test_view_of_a_long_file_keeps_head_and_tail() -> None:
    text = edit(b"".join(b"line %d\n" % number for number in range(1, 5001)), command="view")[1].text
    assert "     1\tline 1\n" in text
    assert text.endswith("  5000\tline 5000")
    assert "characters left out" in text
    assert len(text) < 10_100


def test_view_of_a_directory_shows_two_levels_of_everything_but_hidden() -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> str:
        await box.sh(
            "mkdir -p tree/.hidden tree/sub/deep; cd tree; echo x > .hidden/no; echo x > .no; "
            "printf 12345 > 'a b.txt'; echo x > sub/data.csv; echo x > sub/deep/far; ln -s $'to\\xff' link; "
            "echo x > $'new\\nline\\xfe'"
        )
        return (await tools.call("str_replace_editor", '{"command": "view", "path": "tree"}')).text

    head, *entries = in_sandbox(scenario).split("\n")
    assert head.startswith("/testbed/tree/ (6 entries")
    assert entries == [
        "a b.txt (5 bytes)",
        "link -> to\\udcff",
        "new\\nline\\udcfe (2 bytes)",
        "sub/",
        "sub/data.csv (2 bytes)",
        "sub/deep/",
    ]


def test_a_hidden_directory_asked_for_is_shown() -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> str:
        await box.write("/testbed/.config/file", "x")
        return (
            await tools.call("str_replace_editor", '{"command": "view", "path": "/testbed/.config"}')
        ).text

    assert "file (1 byte)" in in_sandbox(scenario)


# --- str_replace_editor: create ---


@pytest.mark.parametrize(
    "text", ["-n", "no newline", "two\n", "", "tab\t \\n 'quotes' \"$(x)\" `y`\r\n", "é\u2028漢\n"]
)
def test_create_writes_exactly_the_text_and_makes_parents(text: str) -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> bytes:
        arguments = {"command": "create", "path": "/testbed/new place/$HOME/f", "file_text": text}
        assert (await tools.call("str_replace_editor", json.dumps(arguments))).outcome == "done"
        return await box.read("/testbed/new place/$HOME/f")

    assert in_sandbox(scenario) == text.encode()


def test_create_of_a_large_file() -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> int:
        arguments = {"command": "create", "path": "big", "file_text": "x" * 3_000_000}
        await tools.call("str_replace_editor", json.dumps(arguments))
        return len(await box.read("/testbed/big"))

    assert in_sandbox(scenario) == 3_000_000


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 100])
def test_create_never_overwrites(data: bytes) -> None:
    after, observation = edit(data, command="create", file_text="new")
    assert after == data
    assert observation.outcome == "refused"
    assert "exists already" in observation.text


def test_create_over_a_directory_or_below_a_file_is_answered() -> None:
    assert (
        observe("str_replace_editor", {"command": "create", "path": "/testbed", "file_text": "x"}).outcome
        == "refused"
    )
    assert edit(b"x", command="create", path="/testbed/file/below", file_text="x")[1].outcome == "refused"


# --- str_replace_editor: str_replace and insert ---


AWKWARD = b"\tindent\r\nbad \xff\xfe\r\n\x1b[31mred\x1b[0m\nunique word here\nno end"


def test_replace_leaves_every_other_byte() -> None:
    after, observation = edit(
        AWKWARD, command="str_replace", old_str="unique word", new_str="two\tnew\nlines"
    )
    assert after == AWKWARD.replace(b"unique word", b"two\tnew\nlines")
    assert "     4\ttwo\tnew\n     5\tlines here" in observation.text


def test_replace_without_new_text_deletes() -> None:
    assert edit(b"keep drop keep2", command="str_replace", old_str=" drop")[0] == b"keep keep2"


def test_replace_of_everything() -> None:
    after, observation = edit(b"all", command="str_replace", old_str="all", new_str="")
    assert after == b""
    assert "empty" in observation.text


def test_an_ambiguous_replace_changes_nothing() -> None:
    after, observation = edit(b"word\nother\nword\n", command="str_replace", old_str="word", new_str="x")
    assert after == b"word\nother\nword\n"
    assert "2 times, at lines 1, 3" in observation.text
    assert observation.outcome == "refused"


def test_insert_leaves_every_other_byte() -> None:
    after, observation = edit(AWKWARD, command="insert", insert_line=5, new_str="last")
    assert after == AWKWARD + b"\nlast"
    assert "     6\tlast" in observation.text
    assert edit(AWKWARD, command="insert", insert_line=0, new_str="first")[0] == b"first\r\n" + AWKWARD


def test_the_lines_around_an_edit_are_shown() -> None:
    data = b"".join(b"line %d\n" % number for number in range(1, 21))
    text = edit(data, command="insert", insert_line=10, new_str="new")[1].text
    shown = [line.split("\t")[1] for line in text.split("\n")[1:]]
    assert shown == [*(f"line {n}" for n in range(7, 11)), "new", *(f"line {n}" for n in range(11, 15))]


def test_an_edit_keeps_the_mode_of_a_file() -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> str:
        await box.write("/testbed/run", "#!/bin/sh\necho old\n", mode=0o755)
        arguments = {"command": "str_replace", "path": "run", "old_str": "old", "new_str": "new"}
        await tools.call("str_replace_editor", json.dumps(arguments))
        return (await box.sh("stat -c %a run; ./run")).stdout

    assert in_sandbox(scenario) == "755\nnew\n"


@pytest.mark.parametrize("command", ["view", "str_replace", "insert"])
@pytest.mark.parametrize("path", ["/testbed/missing", "/testbed/missing/deep", "/dev/null/x"])
def test_a_missing_file_is_named_and_not_made(command: str, path: str) -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> tuple[Observation, bool]:
        arguments = {"command": command, "path": path, "old_str": "a", "new_str": "b", "insert_line": 0}
        observation = await tools.call("str_replace_editor", json.dumps(arguments))
        return observation, (await box.run(["test", "-e", path])).ok

    observation, exists = in_sandbox(scenario)
    assert observation.outcome == "refused"
    assert path in observation.text
    assert not exists


@pytest.mark.parametrize("command", ["view", "create", "str_replace", "insert"])
def test_special_files_are_refused_at_once(command: str) -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> Observation:
        await box.run(["mkfifo", "/testbed/fifo"])
        arguments = {
            "command": command,
            "path": "fifo",
            "old_str": "a",
            "new_str": "b",
            "insert_line": 0,
            "file_text": "x",
        }
        return await tools.call("str_replace_editor", json.dumps(arguments))

    assert in_sandbox(scenario).outcome == "refused"


# --- arguments ---


MISTAKES = [
    ("no_such_tool", "{}"),
    ("", "{}"),
    ("execute_bash", ""),
    ("execute_bash", "{"),
    ("execute_bash", "[]"),
    ("execute_bash", '"ls"'),
    ("execute_bash", {"command": 5}),
    ("execute_bash", {"command": None}),
    ("execute_bash", {"command": ["ls"]}),
    ("execute_bash", {"command": " "}),
    ("execute_bash", {"command": "a\0b"}),
    ("execute_bash", {"command": "echo \ud83d"}),
    ("execute_bash", {"command": "ls", "timeout": "soon"}),
    ("str_replace_editor", {}),
    ("str_replace_editor", {"command": "view"}),
    ("str_replace_editor", {"command": "undo_edit", "path": "/testbed"}),
    ("str_replace_editor", {"command": "view", "path": ""}),
    ("str_replace_editor", {"command": "view", "path": "a\0b"}),
    ("str_replace_editor", {"command": "view", "path": "x" * 5000}),
    ("str_replace_editor", {"command": "view", "path": 5}),
    ("str_replace_editor", {"command": "view", "path": "/testbed", "view_range": [1, 2]}),
    ("str_replace_editor", {"command": "create", "path": "f"}),
    ("str_replace_editor", {"command": "create", "path": "f", "file_text": {"a": 1}}),
    ("str_replace_editor", {"command": "str_replace", "path": "f"}),
    ("str_replace_editor", {"command": "str_replace", "path": "f", "old_str": "a", "new_str": 5}),
    ("str_replace_editor", {"command": "str_replace", "path": "/testbed", "old_str": "a"}),
    ("str_replace_editor", {"command": "insert", "path": "f", "insert_line": "1", "new_str": "x"}),
    ("str_replace_editor", {"command": "insert", "path": "f", "insert_line": True, "new_str": "x"}),
    ("str_replace_editor", {"command": "insert", "path": "f", "insert_line": 1.5, "new_str": "x"}),
    ("str_replace_editor", {"command": "insert", "path": "f", "insert_line": 0}),
    ("submit", {"answer": "42"}),
    ("submit", "nonsense"),
]


def test_every_mistake_is_answered_and_none_is_raised() -> None:
    async def scenario(_box: AsyncSandbox, tools: AsyncTools) -> list[Observation]:
        texts = [(name, made if isinstance(made, str) else json.dumps(made)) for name, made in MISTAKES]
        return [await tools.call(name, text) for name, text in texts]

    for (name, arguments), observation in zip(MISTAKES, in_sandbox(scenario), strict=True):
        assert observation.outcome == "refused", (name, arguments, observation)
        assert observation.text.startswith("Error: "), (name, arguments, observation)


def test_parameters_of_other_commands_do_no_harm() -> None:
    """Models fill in every parameter they know of."""
    blank = {"file_text": "", "old_str": "", "new_str": "", "insert_line": 0, "view_range": None}
    observation = edit(b"one\n", **{**blank, "command": "view"})[1]
    assert observation.text.endswith("     1\tone")


def test_submit_takes_no_arguments() -> None:
    assert [observe("submit", text).outcome for text in ("{}", "", " ")] == ["submitted"] * 3


def test_the_schema_is_the_papers() -> None:
    parameters = {tool.name: tool.parameters for tool in TOOLS}
    assert {name: set(schema["properties"]) for name, schema in parameters.items()} == {
        "execute_bash": {"command", "timeout"},
        "str_replace_editor": {
            "command",
            "path",
            "file_text",
            "old_str",
            "new_str",
            "insert_line",
            "view_range",
        },
        "submit": set(),
    }
    assert parameters["str_replace_editor"]["required"] == ["command", "path"]
    json.dumps([tool.chat() for tool in TOOLS])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("execute_bash", {"command": "true"}),
        ("str_replace_editor", {"command": "view", "path": "/testbed"}),
        ("str_replace_editor", {"command": "create", "path": "f", "file_text": "x"}),
        ("str_replace_editor", {"command": "str_replace", "path": "f", "old_str": "a", "new_str": "b"}),
    ],
)
def test_a_sandbox_that_is_gone_is_no_observation(name: str, arguments: dict[str, Any]) -> None:
    async def scenario(box: AsyncSandbox, tools: AsyncTools) -> None:
        await box.close()
        with pytest.raises(SandboxGone):
            await tools.call(name, json.dumps(arguments))

    in_sandbox(scenario)
