"""Prompts: the parameters arrive, the user's text stays as it is."""

from typing import Any

import pytest

from lisrt.agent import Prompts
from lisrt.agent.prompts import PLACEHOLDERS, fill

LIMITS: dict[str, Any] = {"max_turns": 7, "command_timeout": 2.5}


def test_defaults_name_every_place_and_limit() -> None:
    texts = Prompts().render("the task", **LIMITS)
    for part in (
        "/testbed",
        "/testbed/documents",
        "/testbed/output",
        "/testbed/answer.txt",
        "7 turns",
        "2.5 seconds",
    ):
        assert part in texts["system"]
    assert "the task" in texts["task"]
    assert "/testbed/answer.txt" in texts["task"]
    assert "/testbed/answer.txt" in texts["reminder"]


def test_nothing_is_left_to_fill_in() -> None:
    for text in Prompts().render("the task", **LIMITS).values():
        assert not any(f"{{{name}}}" in text for name in PLACEHOLDERS)


def test_paths_are_parameters() -> None:
    prompts = Prompts(working_dir="/w", input_dir="/w/in", output_dir="/w/out", answer_file="/w/a.md")
    texts = prompts.render("the task", **LIMITS)
    assert "/testbed" not in texts["system"] + texts["task"] + texts["reminder"]
    assert "/w/in" in texts["system"]
    assert "/w/a.md" in texts["task"]


@pytest.mark.parametrize(
    "task",
    [
        "{",
        "}",
        "{}",
        "{0}",
        "{x!r:>{y}}",
        "{task}",
        "{working_dir}",
        "{{double}}",
        "\\boxed{1}",
        "\\1 \\g<0>",
    ],
)
def test_a_task_is_quoted_exactly(task: str) -> None:
    assert Prompts(task="Do: {task}\n").render(task, **LIMITS)["task"] == f"Do: {task}\n"


def test_a_template_may_hold_braces_of_its_own() -> None:
    texts = Prompts(system='Answer {"in": "JSON"} in {output_dir}').render("t", **LIMITS)
    assert texts["system"] == 'Answer {"in": "JSON"} in /testbed/output'


def test_fill_is_a_single_pass() -> None:
    assert fill("{a}{b}", {"a": "{b}", "b": "{a}"}) == "{b}{a}"


@pytest.mark.parametrize(
    "wrong",
    [{"working_dir": "testbed"}, {"answer_file": ""}, {"input_dir": "/a\0b"}, {"task": "no placeholder"}],
)
def test_unusable_prompts_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Prompts(**wrong)
