"""Calls in the text of a reply, for models and servers without function calling."""

import json
from typing import Any

import pytest
from support.model_server import ModelServer, Request, say

from lisrt.agent import TOOLS, Agent, Episode, ExitReason, Model
from lisrt.agent.protocol import PROTOCOLS, calling
from lisrt.agent.reply import Reply, TokenUsage

SUBMITS = {
    "bash": "done\n```submit\n```",
    "xml": "<function=submit>\n</function>",
    "json": '{"thought": "done", "tool": "submit", "arguments": {}}',
}
WRITES = {
    "bash": "First I look.\n```bash\necho 6 > n\n```\nand then\n```sh\nexpr $(cat n) '*' 7 | tee answer.txt\n```\n",
    "xml": "I look.\n<function=execute_bash>\n<parameter=command>\necho 6 > n\n</parameter>\n</function>\n"
    "<function=execute_bash><parameter=command>expr $(cat n) '*' 7 | tee answer.txt</parameter></function>",
    "json": json.dumps({"thought": "", "tool": "execute_bash", "arguments": {"command": "expr 6 '*' 7 | tee answer.txt"}}),
}


def said(text: str) -> Reply:
    return Reply(text, (), "stop", TokenUsage(), 0.0, {"role": "assistant", "content": text})


def found(protocol: str, text: str) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in calling(protocol).calls(said(text), 1)]


def play(protocol: str, replies: Any, **settings: Any) -> tuple[Episode, ModelServer]:
    with ModelServer(replies) as server:
        agent = Agent(Model("m", server.base_url), protocol=protocol, **settings)
        episode = agent.run_sync("the task")
    assert server.violations == []
    return episode, server


@pytest.mark.usefixtures("working_host")
@pytest.mark.parametrize("protocol", ["bash", "xml", "json"])
def test_an_episode_in_text(protocol: str) -> None:
    """All calls are carried out in order, their answers are one message of the user, and no tool is in the request."""
    episode, server = play(protocol, [say(WRITES[protocol]), say(SUBMITS[protocol])])
    assert (episode.exit_reason, episode.answer) == (ExitReason.SUBMITTED, "42\n"), episode.error
    first, second = server.requests
    assert "tools" not in first.body and "tool_choice" not in first.body
    assert [message["role"] for message in second.messages] == ["system", "user", "assistant", "user"]
    assert "42" in second.messages[-1]["content"]
    assert second.messages[2]["content"] == WRITES[protocol]
    if protocol != "json":
        assert "[answer 1: execute_bash]" in second.messages[-1]["content"]
        assert "[answer 2: execute_bash]" in second.messages[-1]["content"]


@pytest.mark.usefixtures("working_host")
@pytest.mark.parametrize("protocol", ["bash", "xml", "json"])
def test_words_alone_are_answered_with_the_form(protocol: str) -> None:
    episode, server = play(protocol, [say("Let me think."), say(SUBMITS[protocol])])
    assert (episode.exit_reason, episode.turns) == (ExitReason.SUBMITTED, 2)
    reminder = server.requests[1].messages[-1]["content"]
    assert {"bash": "```bash", "xml": "<function=", "json": '"tool"'}[protocol] in reminder


@pytest.mark.parametrize("protocol", ["bash", "xml", "json"])
def test_the_model_is_told_how(protocol: str) -> None:
    words = calling(protocol).instructions(TOOLS)
    assert "submit" in words
    assert ("str_replace_editor" in words) is (protocol != "bash")
    assert calling("native").instructions(TOOLS) == ""


def test_a_script_may_hold_fences_of_its_own() -> None:
    text = "````bash\ncat > x.md <<'E'\n```python\nprint()\n```\nE\n````"
    assert found("bash", text) == [("execute_bash", {"command": "cat > x.md <<'E'\n```python\nprint()\n```\nE\n"})]
    assert found("bash", "```python\nprint()\n```") == []
    assert found("bash", "```bash\nnever closed") == []


def test_parameters_are_text_as_it_stands() -> None:
    body = "a < b && c\n\ttabbed </not>\n"
    text = f"<function=execute_bash><parameter=command>\n{body}\n</parameter></function>"
    assert found("xml", text) == [("execute_bash", {"command": body})]
    assert found("xml", "<function=submit>") == [("submit", {})]
    assert found("xml", "a function=x is no call") == []


@pytest.mark.parametrize(
    "text",
    ["", "words", "{", "[]", '{"tool": 7}', '{"tool": "x"', "}{", "{" * 100_000, '{"arguments": {}}'],
)
def test_what_is_no_json_call(text: str) -> None:
    assert found("json", text) == []


def test_json_among_words_and_with_text_for_arguments() -> None:
    assert found("json", 'So:\n```json\n{"tool": "submit", "arguments": {}}\n```') == [("submit", {})]
    assert found("json", '{"tool": "execute_bash", "arguments": "{\\"command\\": \\"ls\\"}"}') == [
        ("execute_bash", {"command": "ls"})
    ]


def test_json_asks_the_server_for_its_schema() -> None:
    fields = calling("json").fields(TOOLS)
    schema = fields["response_format"]["json_schema"]["schema"]
    assert [one["properties"]["tool"]["const"] for one in schema["anyOf"]] == [tool.name for tool in TOOLS]
    assert calling("json").fields(TOOLS, last=True) == {}
    assert calling("native").fields(TOOLS, last=True)["tool_choice"] == "none"


def test_a_protocol_is_known() -> None:
    assert set(PROTOCOLS) == {"native", "bash", "xml", "json"}
    with pytest.raises(ValueError, match="native, bash, xml, json"):
        Agent(Model("m", "http://localhost:1/v1"), protocol="morse")


# --- thoughts ---


@pytest.mark.usefixtures("working_host")
@pytest.mark.parametrize("kept", ["resend", "drop"])
@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": "deep thought"},
        {"content": "", "reasoning": "deep thought"},
        {"content": "<think>deep thought</think>\n\nA look."},
        {"content": "deep thought</think>A look."},
    ],
)
def test_thoughts_are_resent_or_dropped_and_never_answered(kept: str, message: dict[str, Any]) -> None:
    from support.model_server import Completion, call, tool_call

    first = Completion({"role": "assistant", "tool_calls": [tool_call("execute_bash", {"command": "true"})], **message})

    def step(request: Request) -> Any:
        return first if len(request.messages) == 2 else call("submit")

    with ModelServer(step) as server:
        agent = Agent(Model("m", server.base_url, reasoning=kept))
        episode = agent.run_sync("the task")
    assert episode.exit_reason is ExitReason.SUBMITTED
    sent = server.requests[1].messages[2]
    assert ("deep thought" in json.dumps(sent)) is (kept == "resend")
    if kept == "resend":
        assert {name: sent.get(name) for name in message} == message  # byte for byte: servers cache by prefix
    else:
        assert (sent["content"] or "") in ("", "A look.")
