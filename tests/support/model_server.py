"""A scripted model behind a real HTTP server, for tests of whatever speaks to an OpenAI-compatible API.

    with ModelServer([call("execute_bash", command="ls"), call("submit")]) as server:
        ... talk to server.base_url ...
    assert server.requests[1].observations == [...]

It is as strict as the strictest API: a request that breaks the chat protocol, a tool call left unanswered
for example, is refused with status 400 and noted in `violations`.
"""

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

CHAT = "/v1/chat/completions"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class Request:
    """One request as it arrived. Header names are lower case."""

    path: str
    headers: Mapping[str, str]
    body: JSON

    @property
    def messages(self) -> list[JSON]:
        messages: list[JSON] = self.body["messages"]
        return messages

    @property
    def observations(self) -> list[str]:
        """The answers to tool calls since the last assistant message."""
        texts: list[str] = []
        for message in reversed(self.messages):
            if message["role"] != "tool":
                break
            texts.append(message["content"])
        return texts[::-1]


@dataclass(frozen=True)
class Completion:
    """A well-formed answer holding one assistant message."""

    message: JSON
    finish_reason: str = "stop"
    prompt_tokens: int = 10
    completion_tokens: int = 5

    def encode(self, model: str) -> bytes:
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        choice = {"index": 0, "message": self.message, "finish_reason": self.finish_reason}
        head = {"id": "chatcmpl-test", "object": "chat.completion", "created": 0, "model": model}
        return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


@dataclass(frozen=True)
class Raw:
    """Any HTTP response."""

    status: int
    body: str | bytes = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class HangUp:
    """Close the connection without a response."""


Answer: TypeAlias = Completion | Raw | HangUp
Step: TypeAlias = Answer | Callable[[Request], Answer]


def say(text: str | None, **options: Any) -> Completion:
    """A message without tool calls."""
    return Completion({"role": "assistant", "content": text}, **options)


def tool_call(name: str, arguments: str | JSON, *, id: str = "call_a") -> JSON:
    """One tool call of a message; a dict of arguments is encoded, a str is sent as it is."""
    encoded = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": encoded}}


def calls(*made: JSON, content: str | None = None, finish_reason: str = "tool_calls") -> Completion:
    """A message with the given tool calls."""
    return Completion({"role": "assistant", "content": content, "tool_calls": list(made)}, finish_reason)


def call(name: str, /, **arguments: Any) -> Completion:
    """A message with one tool call."""
    return calls(tool_call(name, arguments))


def bash(command: str, **arguments: Any) -> Completion:
    """A message that runs a script."""
    return call("execute_bash", command=command, **arguments)


class ModelServer:
    """Serves `/v1/chat/completions` while entered, one step per request.

    certificate: for TLS, and its key. steps: what to answer, in order, or one function of the request for them all. A step may be
    a function, too; it runs in a thread of the server and may block. What it raises fails the test on leaving the server.
    requests: every request so far, refused ones included. violations: what was wrong with the refused ones. connections: how many
    were opened.
    """

    def __init__(
        self, steps: Iterable[Step] | Callable[[Request], Answer], *, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self._next: Callable[[Request], Answer] = steps if callable(steps) else _Script(steps)
        self._lock = threading.Lock()
        self._faults: list[BaseException] = []
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.connections = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.certificate = certificate
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake is a connection's own thread's: a client that breaks it off would hold up all others.
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="model-server")

    @property
    def base_url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "ModelServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        if error is None and self._faults:
            raise self._faults[0]

    def connected(self) -> None:
        """A client has come."""
        with self._lock:
            self.connections += 1

    def answer(self, request: Request) -> Answer:
        """What to send for one request."""
        if request.path != CHAT:
            return refusal(404, f"there is nothing at {request.path}")
        problems = violations(request.body)
        with self._lock:
            self.requests.append(request)
            self.violations += problems
        if problems:
            return refusal(400, "; ".join(problems))
        try:
            return self._next(request)
        except BaseException as fault:
            with self._lock:
                self._faults.append(fault)
            return refusal(400, f"a step of the script failed: {fault!r}")


class _Script:
    """Steps used up one by one."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = iter(steps)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            step = next(self._steps, None)
        if step is None:
            return refusal(400, "the script has ended")
        return step(request) if callable(step) else step


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server.connected()

        def handle(self) -> None:
            with contextlib.suppress(ssl.SSLError, ConnectionError):  # a client that does not like the certificate
                super().handle()

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                body = json.loads(text)
            except ValueError:
                body = None
            if not isinstance(body, dict):
                return self._send(refusal(400, "the body is not a JSON object"), "")
            self._send(server.answer(Request(self.path, headers, body)), str(body.get("model")))

        def _send(self, answer: Answer, model: str) -> None:
            if isinstance(answer, HangUp):
                self.close_connection = True
                return
            if isinstance(answer, Completion):
                answer = Raw(200, answer.encode(model))
            body = answer.body if isinstance(answer.body, bytes) else answer.body.encode()
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the tests look at `requests`."""

    return Handler


def refusal(status: int, message: str, **fields: Any) -> Raw:
    """An error in the API's own form; `fields` go into its error object, `code` for example."""
    return Raw(status, json.dumps({"error": {"message": message, "type": "invalid_request_error", **fields}}))


def violations(body: Mapping[str, Any]) -> list[str]:
    """What a strict API would refuse in a request."""
    problems = []
    if not isinstance(body.get("model"), str):
        problems.append("model must be a string")
    if body.get("stream"):
        problems.append("this server does not stream")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return [*problems, "messages must be a list that is not empty"]
    for tool in body.get("tools", []):
        function = tool.get("function", {})
        if tool.get("type") != "function" or not _NAME.fullmatch(function.get("name", "")):
            problems.append(f"not a tool: {tool}")
        elif function.get("parameters", {}).get("type") != "object":
            problems.append(f"the parameters of {function['name']} are not an object")
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        problems += [f"messages[{index}]: {problem}" for problem in _message_problems(message, waiting)]
    if waiting:
        problems.append(f"tool calls without an answer: {sorted(waiting)}")
    return problems


def _message_problems(message: JSON, waiting: set[str]) -> list[str]:
    """Checks one message; `waiting` holds the ids of the tool calls that are still to be answered."""
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        call_id = message.get("tool_call_id")
        if call_id not in waiting:
            return [f"answers no open tool call: {call_id!r}"]
        waiting.discard(call_id)
        return [] if isinstance(content, str) else ["content must be a string"]
    if waiting:
        return [f"tool calls without an answer before it: {sorted(waiting)}"]
    if role in ("system", "user"):
        return [] if isinstance(content, str) and content else ["content must be a string that is not empty"]
    if role != "assistant":
        return [f"unknown role {role!r}"]
    if "tool_calls" not in message:
        return [] if isinstance(content, str) else ["an assistant message needs content or tool_calls"]
    if not isinstance(message["tool_calls"], list) or not message["tool_calls"]:
        return ["tool_calls must be a list that is not empty"]
    problems = [problem for made in message["tool_calls"] for problem in _call_problems(made, waiting)]
    return (
        problems
        if content is None or isinstance(content, str)
        else [*problems, "content must be a string or null"]
    )


def _call_problems(made: JSON, waiting: set[str]) -> list[str]:
    problems = []
    call_id, function = made.get("id"), made.get("function", {})
    if not isinstance(call_id, str) or not call_id or call_id in waiting:
        problems.append(f"a tool call needs an id of its own, not {call_id!r}")
    else:
        waiting.add(call_id)
    if made.get("type") != "function" or not _NAME.fullmatch(function.get("name", "")):
        problems.append(f"not a function call: {made}")
    try:
        well_formed = isinstance(json.loads(function["arguments"]), dict)
    except (KeyError, TypeError, ValueError):
        well_formed = False
    return problems if well_formed else [*problems, f"arguments must be a JSON object in a string: {made}"]
