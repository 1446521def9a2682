"""undo_edit: the bytes before an edit are back, or nothing is touched."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisrt import Sandbox
from lisrt.agent.tools import Observation, Tools
from lisrt.agent.tools.edits import Edit, insert, replace_once
from lisrt.agent.tools.observation import ToolError


@given(st.binary(max_size=50), st.binary(min_size=1, max_size=5), st.binary(max_size=5))
def test_a_replacement_is_undone(data: bytes, old: bytes, new: bytes) -> None:
    try:
        edited, at = replace_once(data, old, new)
    except ToolError:
        return
    assert Edit.of(edited, at, old, new).undone(edited) == data


@given(st.binary(max_size=50), st.integers(0, 10), st.binary(max_size=10))
def test_an_insertion_is_undone(data: bytes, after: int, text: bytes) -> None:
    try:
        edited, at = insert(data, after, text)
    except ToolError:
        return
    edit = Edit.of(edited, at, b"", edited[at : at + len(edited) - len(data)])
    assert edit.undone(edited) == data
    with pytest.raises(ToolError, match="changed by other means"):
        edit.undone(edited + b"x")


@pytest.mark.usefixtures("working_host")
def test_edits_are_taken_back_one_by_one() -> None:
    with Sandbox() as box:
        tools = Tools(box)

        def edit(command: str, **values: Any) -> Observation:
            return tools.call("str_replace_editor", {"command": command, "path": "f", **values})

        edit("create", file_text="one\r\ntwo\t\xff".encode("utf-8", "surrogateescape").decode("latin-1"))
        created = box.read("/testbed/f")
        edit("str_replace", old_str="two", new_str="three")
        edit("insert", insert_line=0, new_str="zero")
        assert edit("undo_edit").text.startswith("Undone: /testbed/f")
        assert edit("undo_edit").outcome == "done"
        assert box.read("/testbed/f") == created
        assert edit("undo_edit").text == "Undone: /testbed/f is gone again."
        with pytest.raises(FileNotFoundError):
            box.read("/testbed/f")
        assert "no edit of /testbed/f is known" in edit("undo_edit").text


@pytest.mark.usefixtures("working_host")
def test_what_others_have_changed_is_left_alone() -> None:
    with Sandbox() as box:
        tools = Tools(box)
        tools.call("str_replace_editor", {"command": "create", "path": "f", "file_text": "a\n"})
        box.sh("echo b >> f")
        refused = tools.call("str_replace_editor", {"command": "undo_edit", "path": "f"})
        assert (refused.outcome, box.read("/testbed/f")) == ("refused", b"a\nb\n")
