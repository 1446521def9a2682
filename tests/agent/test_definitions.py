"""One definition of the tools, in the form that each API wants; and calls under the names that it uses."""

import json
from typing import Any

import pytest

from lisrt import Sandbox
from lisrt.agent.tools import FORMATS, TOOLS, AsyncTools, Tools, schemas

NAMES = ["execute_bash", "str_replace_editor", "submit"]


def test_chat() -> None:
    for made, definition in zip(schemas(TOOLS, "chat"), TOOLS, strict=True):
        assert made["type"] == "function"
        assert made["function"] == {
            "name": definition.name,
            "description": definition.description,
            "parameters": definition.parameters,
        }


def test_responses() -> None:
    made = schemas(TOOLS, "responses")
    assert [one["name"] for one in made] == NAMES
    assert all(one["type"] == "function" and one["strict"] is False and "function" not in one for one in made)


def test_anthropic_has_its_own_tools() -> None:
    bash, editor, submit = schemas(TOOLS, "anthropic")
    assert bash == {"type": "bash_20250124", "name": "bash"}
    assert editor == {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}
    assert submit["input_schema"]["type"] == "object"


def test_mcp() -> None:
    assert [(one["name"], one["inputSchema"]["type"]) for one in schemas(TOOLS, "mcp")] == [(name, "object") for name in NAMES]


def test_every_format_is_json_and_another_is_refused() -> None:
    for format in FORMATS:
        assert json.loads(json.dumps(schemas(TOOLS, format)))
    with pytest.raises(ValueError, match="chat, responses, anthropic, mcp"):
        schemas(TOOLS, "gemini")


def test_what_is_taken_away_is_not_offered() -> None:
    def names(**options: Any) -> list[str]:
        return [one.name for one in AsyncTools(None, **options).definitions]  # type: ignore[arg-type] # nothing is run

    assert names() == NAMES
    assert names(without=("execution",)) == NAMES[1:]
    assert names(without=("files",)) == NAMES
    editor, submit = AsyncTools(None, without=("files", "execution")).definitions  # type: ignore[arg-type]
    assert editor.parameters["properties"]["command"]["enum"] == ["view"]
    assert list(submit.parameters["required"]) == ["answer"]
    for options in (
        {"without": ("thinking",)},
        {"profile": "x"},
        {"shell": "x"},
        {"profile": "lis-0.2", "shell": "persistent"},
    ):
        with pytest.raises(ValueError):
            names(**options)


@pytest.mark.usefixtures("working_host")
def test_a_loop_without_awaiting_and_with_anthropics_names() -> None:
    """A Sandbox, its tools, and calls as Anthropic's models make them."""
    with Sandbox() as box:
        tools = Tools(box)
        assert [one["name"] for one in tools.schemas("anthropic")] == ["bash", "str_replace_based_edit_tool", "submit"]
        assert tools.call("bash", {"command": "echo one > notes"}).details["exit_code"] == 0
        edited = tools.call(
            "str_replace_based_edit_tool",
            {"command": "insert", "path": "/testbed/notes", "insert_line": 1, "insert_text": "two"},
        )
        assert edited.outcome == "done", edited.text
        assert box.read_text("/testbed/notes") == "one\ntwo\n"
        assert tools.call("bash", {"restart": True}).outcome == "done"
        assert tools.call("submit", "{}").outcome == "submitted"
        assert tools.call("nothing", {}).outcome == "refused"


@pytest.mark.usefixtures("working_host")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"command": "insert", "path": "f", "insert_line": "1", "new_str": "x"}, "done"),
        ({"command": "view", "path": "f", "view_range": "[1, 2]"}, "done"),
        ({"command": "view", "path": "f", "view_range": ["1", 2.0]}, "done"),
        ({"command": "view", "path": "f", "view_range": "first two"}, "refused"),
        ({"command": "insert", "path": "f", "insert_line": True, "new_str": "x"}, "refused"),
        ({"command": "insert", "path": "f", "insert_line": 1.5, "new_str": "x"}, "refused"),
        ({"command": "insert", "path": "f", "insert_line": 1, "new_str": 5}, "refused"),
    ],
)
def test_numbers_that_come_as_text(arguments: dict[str, Any], expected: str) -> None:
    """Weak models write them so; what can't be meant is refused, and nothing crashes."""
    with Sandbox() as box:
        box.write("/testbed/f", "1\n2\n3\n")
        assert Tools(box).call("str_replace_editor", arguments).outcome == expected
