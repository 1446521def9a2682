"""The scripted server itself: it must refuse what strict APIs refuse, or it proves nothing."""

from typing import Any

import pytest
from support.model_server import ModelServer, Request, Step, call, calls, say, tool_call, violations

USER = {"role": "user", "content": "hello"}
ASKS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [tool_call("f", {}, id="a"), tool_call("g", {}, id="b")],
}
A = {"role": "tool", "tool_call_id": "a", "content": "1"}
B = {"role": "tool", "tool_call_id": "b", "content": "2"}


def test_a_well_formed_conversation_passes() -> None:
    messages = [USER, ASKS, B, A, {"role": "assistant", "content": "so"}, USER]
    assert violations({"model": "m", "messages": messages}) == []


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": ""}],
        [{"role": "robot", "content": "x"}],
        [USER, A],
        [USER, ASKS],
        [USER, ASKS, A],
        [USER, ASKS, A, USER, B],
        [USER, ASKS, A, A, B],
        [USER, ASKS, A, {"role": "tool", "tool_call_id": "b"}],
        [USER, {"role": "assistant", "content": None}],
        [USER, {"role": "assistant", "content": "x", "tool_calls": []}],
        [USER, {**ASKS, "tool_calls": [tool_call("f", {}, id="")]}],
        [USER, {**ASKS, "tool_calls": [tool_call("f", {}, id="a")] * 2}, A, A],
        [USER, {**ASKS, "tool_calls": [tool_call("f", '{"cut', id="a")]}, A],
        [USER, {**ASKS, "tool_calls": [tool_call("f", "[]", id="a")]}, A],
        [USER, {**ASKS, "tool_calls": [tool_call("no such/name", {}, id="a")]}, A],
    ],
)
def test_a_broken_conversation_does_not(messages: list[dict[str, Any]]) -> None:
    assert violations({"model": "m", "messages": messages})


def test_what_a_step_raises_fails_the_test() -> None:
    openai = pytest.importorskip("openai")

    def broken(_request: Request) -> Any:
        raise AssertionError("seen by the test")

    with pytest.raises(AssertionError, match="seen by the test"), ModelServer([broken]) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
        with client, pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="m", messages=[USER])


def test_the_official_client_understands_it() -> None:
    openai = pytest.importorskip("openai")
    steps: list[Step] = [
        calls(tool_call("f", {"x": 1}, id="a"), content="look"),
        lambda _: say("done"),
        call("g"),
    ]
    with (
        ModelServer(steps) as server,
        openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client,
    ):
        first = client.chat.completions.create(model="m", messages=[USER]).choices[0].message
        assert (first.content, first.tool_calls[0].function.arguments) == ("look", '{"x": 1}')
        answer = {"role": "tool", "tool_call_id": "a", "content": "seen"}
        messages = [USER, first.model_dump(exclude_none=True), answer]
        assert (
            client.chat.completions.create(model="m", messages=messages).choices[0].message.content == "done"
        )
    assert server.requests[1].observations == ["seen"]
    assert server.violations == []
