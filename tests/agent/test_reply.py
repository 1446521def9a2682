"""Replies of servers: what is taken, what is mended, what is refused."""

import json
from typing import Any

import pytest

from lisrt.agent.reply import BadReply, Reply, TokenUsage, ToolCall, parse_arguments, parse_reply


def reply(message: dict[str, Any], **fields: Any) -> Reply:
    body = {"choices": [{"message": message, "finish_reason": "stop"}], **fields}
    return parse_reply(json.dumps(body), turn=3, latency=0.5)


def function(name: Any, arguments: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def test_a_plain_reply() -> None:
    got = reply({"role": "assistant", "content": "hi"}, usage={"prompt_tokens": 7, "completion_tokens": 2})
    assert (got.content, got.tool_calls, got.finish_reason, got.latency) == ("hi", (), "stop", 0.5)
    assert got.usage == TokenUsage(7, 2)
    assert got.usage.total == 9


def test_the_raw_message_keeps_what_we_do_not_know() -> None:
    got = reply({"content": "hi", "reasoning_content": "hm", "token_ids": [1, 2]})
    assert got.raw["reasoning_content"] == "hm"
    assert got.as_history() == {"role": "assistant", "content": "hi", "reasoning_content": "hm"}
    assert got.as_history(with_reasoning=False) == {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize("usage", [None, 3, [], {}, {"prompt_tokens": "7", "completion_tokens": None}])
def test_missing_figures_count_nothing(usage: Any) -> None:
    assert reply({"content": "hi"}, usage=usage).usage == TokenUsage()


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, "x", {"type": "text", "text": "b"}]
    assert reply({"content": parts}).content == "ab"


def test_a_message_without_anything_can_be_sent_back() -> None:
    assert reply({"content": None}).as_history() == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("bad_id", [None, "", 5, "same"])
def test_every_call_has_an_id_of_its_own(bad_id: Any) -> None:
    got = reply({"tool_calls": [function("submit", "{}", id="same"), function("submit", "{}", id=bad_id)]})
    ids = [call.id for call in got.tool_calls]
    assert ids[0] == "same"
    assert len(set(ids)) == 2
    assert all(ids)
    assert [call["id"] for call in got.as_history()["tool_calls"]] == ids


def test_mangled_calls_are_kept_to_be_answered() -> None:
    got = reply(
        {"tool_calls": ["rubbish", {}, {"function": 3}, function(None, None), function("f", {"a": 1})]}
    )
    assert [(call.name, call.arguments) for call in got.tool_calls] == [("", "")] * 4 + [("f", '{"a": 1}')]
    assert {call["function"]["name"] for call in got.as_history()["tool_calls"]} == {"unknown", "f"}


@pytest.mark.parametrize(
    ("written", "sent_back"),
    [
        ('{"b": 1,"a":"é"}', '{"b": 1,"a":"é"}'),
        ('{"cut', "{}"),
        ("[1]", "{}"),
        ("", "{}"),
        ('{"a": "line\nfeed"}', '{"a": "line\\nfeed"}'),
        ("[" * 100_000, "{}"),
    ],
)
def test_history_holds_well_formed_arguments_only(written: str, sent_back: str) -> None:
    assert ToolCall("id", "f", written).as_history()["function"]["arguments"] == sent_back


def test_odd_tool_names_can_be_sent_back() -> None:
    assert (
        ToolCall("id", "a b/ü" + "x" * 100, "").as_history()["function"]["name"] == ("a_b__" + "x" * 100)[:64]
    )


@pytest.mark.parametrize(
    "text", ["nope", "[]", '"x"', "null", "3", "{" * 100_000, '{"a": ' + "1" * 5000 + "}"]
)
def test_arguments_that_are_no_object(text: str) -> None:
    with pytest.raises(ValueError):
        parse_arguments(text)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html><body>It works!</body></html>",
        "null",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": {"0": 1}}',
        '{"choices": [null]}',
        '{"choices": [{}]}',
        '{"choices": [{"message": "hi"}]}',
        '{"choices": [{"message": {"content": 5}}]}',
        '{"choices": [{"message": {"content": "x", "tool_calls": "submit"}}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_completion_is_refused(body: str) -> None:
    with pytest.raises(BadReply) as refused:
        parse_reply(body, turn=1, latency=0.0)
    assert len(str(refused.value)) < 400


def test_half_a_surrogate_pair_cannot_break_the_next_request() -> None:
    got = parse_reply('{"choices": [{"message": {"content": "x\\ud83d"}}]}', turn=1, latency=0.0)
    assert got.content == "x?"
