"""The endpoint and everything that can be wrong with it, over real HTTP."""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any

import pytest
from support.model_server import HangUp, ModelServer, Raw, Step, refusal, say

from lisrt.agent import TOOLS, Model
from lisrt.agent.client import (
    ContextExceeded,
    ModelError,
    Retry,
    connection,
    retry_after,
    retry_delay,
)
from lisrt.agent.reply import Reply
from lisrt.agent.tools import schemas
from lisrt.agent.transport import load_openai, require

pytest.importorskip("openai")



@pytest.fixture(autouse=True, params=["directly", "through openai"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to a server are one to whoever asks."""
    if request.param == "through openai":
        monkeypatch.setattr("lisrt.agent.transport.goes_directly", lambda _url: False)
    name: str = request.param
    return name


HELLO = [{"role": "user", "content": "hello"}]
KEY = "sk-very-secret"


def ask(base_url: str, **settings: Any) -> tuple[Reply, list[Retry]]:
    """One completion, and the retries on the way to it."""
    retries: list[Retry] = []

    async def complete() -> Reply:
        model = Model(
            "test-model", base_url, **{"api_key": KEY, "retries": 3, "retry_delay": 0.001, **settings}
        )
        async with connection(model) as client:
            return await client.complete(HELLO, {"tools": schemas(TOOLS)}, turn=1, on_retry=retries.append)

    return asyncio.run(complete()), retries


def ask_scripted(steps: Iterable[Step], **settings: Any) -> tuple[Reply, list[Retry], ModelServer]:
    with ModelServer(steps) as server:
        reply, retries = ask(server.base_url, **settings)
    return reply, retries, server


def failure_of(steps: Iterable[Step], **settings: Any) -> tuple[ModelError, ModelServer]:
    with ModelServer(steps) as server, pytest.raises(ModelError) as raised:
        ask(server.base_url, **settings)
    assert server.base_url in str(raised.value)
    assert KEY not in str(raised.value)
    return raised.value, server


def closed_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def test_a_request_carries_what_was_set() -> None:
    reply, retries, server = ask_scripted(
        [say("hi")], temperature=0.25, top_p=0.5, seed=7, max_tokens=99, extra_body={"top_k": 5}
    )
    assert (reply.content, retries) == ("hi", [])
    body = server.requests[0].body
    wanted = {
        "model": "test-model",
        "temperature": 0.25,
        "top_p": 0.5,
        "seed": 7,
        "max_tokens": 99,
        "top_k": 5,
    }
    assert {name: body[name] for name in wanted} == wanted
    assert [tool["function"]["name"] for tool in body["tools"]] == [
        "execute_bash",
        "str_replace_editor",
        "submit",
    ]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_what_was_not_set_is_the_servers_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's environment goes to a server that was named explicitly."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "from-environment")
    _, _, server = ask_scripted([say("hi")], api_key=None)
    assert set(server.requests[0].body) == {"model", "messages", "tools"}
    assert "from-environment" not in str(server.requests[0].headers)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_passing_trouble_is_tried_again(status: int) -> None:
    reply, retries, _ = ask_scripted(
        [HangUp(), refusal(status, "busy"), Raw(status, "<html>busy</html>"), say("hi")]
    )
    assert reply.content == "hi"
    assert [retry.attempt for retry in retries] == [1, 2, 3]
    assert "no connection" in retries[0].reason
    assert "busy" in retries[1].reason and str(status) in retries[1].reason


def test_tries_are_bounded() -> None:
    error, server = failure_of([refusal(500, "broken")] * 10, retries=2)
    assert len(server.requests) == 3
    assert "broken" in str(error)
    assert "try 3 of 3" in str(error)


def test_no_retries_means_one_try() -> None:
    _, server = failure_of([refusal(503, "busy"), say("hi")], retries=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_final(status: int) -> None:
    error, server = failure_of([refusal(status, f"no, {KEY} will not do"), say("hi")])
    assert len(server.requests) == 1
    assert f"HTTP {status}" in str(error)
    assert not isinstance(error, ContextExceeded)


def test_a_wrong_path_says_so() -> None:
    with ModelServer([]) as server, pytest.raises(ModelError, match=r"404.*often in /v1"):
        ask(server.base_url.removesuffix("/v1"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The key and the conversation go where somebody has named, and nowhere else."""
    with ModelServer([say("hi")]) as other:
        where = f"{other.base_url}/chat/completions"
        error, server = failure_of([Raw(status, "", {"Location": where})])
    assert other.requests == []
    assert len(server.requests) == 1
    assert f"if '{other.base_url}' is right, make it the base URL" in str(error)


def test_a_redirect_to_nowhere() -> None:
    error, _ = failure_of([Raw(302, "", {"Location": "http://[x/"})])
    assert "if 'http://[x' is right" in str(error)


@pytest.mark.parametrize("key", ["x", "token", "1"])
def test_a_placeholder_of_a_key_spoils_no_message(key: str) -> None:
    error, _ = failure_of([Raw(400, json.dumps({"error": {"message": MAXIMUM}}))], api_key=key)
    assert isinstance(error, ContextExceeded) and MAXIMUM in str(error)


def test_a_prompt_that_is_quoted_decides_nothing() -> None:
    quoted = Raw(500, json.dumps({"error": {"message": "crashed at: what is insufficient_quota?"}}))
    assert len(ask_scripted([quoted, say("hi")])[1]) == 1


def test_a_redirect_on_the_same_host() -> None:
    error, server = failure_of([Raw(308, "", {"Location": "/api/v1/chat/completions/"})])
    assert f"if '{server.base_url.removesuffix('/v1')}/api/v1' is right" in str(error)


def test_a_refusal_in_the_body_of_a_success() -> None:
    """As some gateways do. Another error object is a reply that is none."""
    busy = Raw(200, json.dumps({"error": {"message": "overloaded", "code": 503}}))
    reply, retries, _ = ask_scripted([busy, say("hi")])
    assert (reply.content, len(retries)) == ("hi", 1)
    assert "HTTP 503: overloaded" in retries[0].reason
    error, server = failure_of([Raw(200, json.dumps({"error": {"message": "no", "code": 401}}))])
    assert "HTTP 401: no" in str(error) and len(server.requests) == 1
    spoken = Raw(200, json.dumps({"error": {"message": "slow down", "code": "429"}, "choices": None}))
    assert len(ask_scripted([spoken, say("hi")])[1]) == 1
    for code in (200, "5030", None, True, [503]):
        failure_of([Raw(200, json.dumps({"error": {"message": "odd", "code": code}})), say("hi")])


@pytest.mark.parametrize(
    ("refused", "settings", "words"),
    [
        (refusal(401, "no key"), {"api_key": None}, "set OPENAI_API_KEY"),
        (refusal(401, "wrong key"), {}, "check the API key"),
        (refusal(429, "You exceeded your current quota", code="insufficient_quota"), {}, "no credit left"),
        (refusal(400, '"auto" tool choice requires --enable-auto-tool-choice'), {}, 'protocol "bash"'),
        (refusal(400, "tiny does not support tools"), {}, 'protocol "bash"'),
    ],
)
def test_what_to_do_is_said(refused: Raw, settings: dict[str, Any], words: str) -> None:
    error, server = failure_of([refused, say("hi")], **settings)
    assert len(server.requests) == 1
    assert words in str(error)


@pytest.mark.parametrize("key", [KEY * 10, "sk-with\\backslash", "sk-\"quoted'"])
@pytest.mark.parametrize("before", [0, 150, 190, 380])
def test_a_key_that_comes_back_is_in_no_message(key: str, before: int) -> None:
    """Not half of it, either, where a text is cut; and not as Python or JSON would write it."""
    said = f"{'x' * before} {key} {json.dumps(key)} {key!r}"
    for answer in (
        Raw(200, said), Raw(401, said), Raw(500, said), Raw(302, "", {"Location": f"/{said}"}),
        Raw(200, json.dumps({"error": {"message": said, "code": 500}})),
    ):  # fmt: skip
        with ModelServer([answer]) as server, pytest.raises(ModelError) as raised:
            ask(server.base_url, api_key=key, retries=0)
        assert key[:12] not in str(raised.value).replace("\\\\", "\\"), answer


def test_retry_after_is_honoured() -> None:
    """Our own back-off would be a thousand seconds: the server's word takes its place."""
    _, retries, _ = ask_scripted(
        [Raw(429, "slow down", {"Retry-After": "0.01"}), say("hi")], retry_delay=1000.0
    )
    assert [retry.delay for retry in retries] == [0.01]


def test_delays_double_up_to_a_bound_and_vary() -> None:
    for attempt, full in ((1, 2.0), (2, 4.0), (3, 8.0), (50, 60.0), (5000, 60.0)):
        delays = {retry_delay(2.0, attempt, None) for _ in range(50)}
        assert full / 2 <= min(delays) <= max(delays) <= full
        assert len(delays) > 1
    assert retry_delay(2.0, 1, 30.0) == 30.0
    assert retry_delay(2.0, 1, 1e9) == 600.0


def test_retry_after_in_all_its_forms() -> None:
    now = 1_800_000_000.0
    forms = {
        "7": 7.0,
        "0.5": 0.5,
        "-3": 0.0,
        formatdate(now + 90, usegmt=True): 90.0,
        "soon": None,
        "nan": None,
    }
    assert {form: retry_after({"retry-after": form}, now=now) for form in forms} == forms
    assert retry_after({}, now=time.time()) is None


def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(ModelError, match="is the server running") as raised:
        ask(url, retries=2)
    assert url in str(raised.value)


def test_a_server_that_never_answers() -> None:
    release = threading.Event()

    def wait(_request: object) -> HangUp:
        release.wait()
        return HangUp()

    try:
        error, server = failure_of([wait, wait, wait], request_timeout=0.2, retries=1)
    finally:
        release.set()
    assert "no reply within 0.2 s" in str(error)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "body",
    [
        "<!doctype html><title>Welcome</title>",
        "",
        "{}",
        '{"choices": []}',
        '{"error": {"message": "x"}}',
        "[1]",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_rubbish_is_an_error_that_shows_it(body: str, kind: str) -> None:
    error, server = failure_of([Raw(200, body, {"Content-Type": kind}), say("hi")])
    assert len(server.requests) == 1
    assert (body or "(empty body)")[:40] in str(error)


def test_bytes_that_are_no_text() -> None:
    failure_of([Raw(200, b"\xff\xfe\x00\x01" * 50)])
    failure_of([Raw(200, b"not gzip", {"Content-Encoding": "gzip"})], retries=0)


MAXIMUM = "This model's maximum context length is 8192 tokens. However, you requested 9000"
FULL_CONTEXT: list[tuple[int, dict[str, Any]]] = [
    (400, {"error": {"message": "too much", "code": "context_length_exceeded"}}),
    (500, {"error": {"message": "no room", "code": 500, "type": "exceed_context_size_error"}}),
    (400, {"error": {"message": MAXIMUM, "code": None}}),
    (400, {"message": MAXIMUM, "object": "error", "code": 400}),
    (400, {"error": {"message": "the request exceeds the available context size, try increasing it"}}),
    (400, {"message": "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens)."}),
    (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
    (
        400,
        {"error": {"message": "The input token count (9) exceeds the maximum number of tokens allowed (5)."}},
    ),
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}),
]


@pytest.mark.parametrize(("status", "body"), FULL_CONTEXT)
def test_a_full_context_is_told_apart(status: int, body: dict[str, Any]) -> None:
    error, server = failure_of([Raw(status, json.dumps(body)), say("hi")])
    assert isinstance(error, ContextExceeded)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://host/v1"},
        {"base_url": "http://"},
        {"api_key": "key\n"},
        {"api_key": "schlüssel"},
        {"api_key": " key"},
        {"request_timeout": 0},
        {"request_timeout": float("nan")},
        {"retries": -1},
        {"retry_delay": -0.1},
        {"max_tokens": 0},
        {"base_url": "http://host:port/v1"},
        {"base_url": "http://host:0/v1"},
        {"base_url": "http://host:70000/v1"},
        {"temperature": float("nan")},
        {"extra_body": {"x": float("inf")}},
        {"extra_body": {"x": {1, 2}}},
        {"extra_body": {"x": "\ud800"}},
        {"name": "m\ud800"},
        {"base_url": "http://a\x00b/v1"},
    ],
)
def test_impossible_settings_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        Model(**{"name": "m", "base_url": "http://host/v1", **wrong})
    assert "schlüssel" not in str(refused.value)


def test_the_key_is_in_no_repr_and_no_settings() -> None:
    model = Model("m", "https://user:pass@host:8000/v1?token=abc", api_key=KEY)
    shown = repr(model.settings())
    assert not any(secret in shown for secret in (KEY, "pass", "abc"))
    assert model.public_url == "https://host:8000/v1"
    assert KEY not in repr(model)


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Where it is needed at all."""
    monkeypatch.setitem(sys.modules, "openai", None)
    if way == "directly":
        require("http://127.0.0.1:1/v1")
    with pytest.raises(ModuleNotFoundError) as raised:
        require("https://127.0.0.1:1/v1") if way == "directly" else load_openai()
    assert "pip install 'lisrt[agent]'" in str(raised.value)
    assert "\n" not in str(raised.value)
