"""The SDK's own clients, over real stdio and real HTTP; and requests by hand, for what they would not send."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult
from support.command import Cli, ended
from support.waiting import eventually

VERSION = "2025-11-25"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "by-hand", "version": "1"}},
}
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def text(result: CallToolResult) -> str:
    """What the model reads."""
    return "\n".join(block.text for block in result.content if block.type == "text")


async def sh(client: Client, command: str, **more: Any) -> str:
    """A script, and what the model reads of it; a refused call is a failure of the test."""
    result = await client.call_tool("execute_bash", {"command": command, **more})
    assert not result.is_error, text(result)
    return text(result)


async def until(predicate: Callable[[], object], *, what: str, within: float = 20.0) -> None:
    """`eventually`, without holding the loop up."""
    await asyncio.to_thread(eventually, predicate, what=what, within=within)


@contextlib.asynccontextmanager
async def on_stdio(cli: Cli, *arguments: str, mode: str = "auto") -> AsyncIterator[Client]:
    """A client of a `lisrt mcp` that it has started. What that says on stderr is in the file `stderr`."""
    command, *rest = cli.command("mcp", *arguments)
    parameters = StdioServerParameters(command=command, args=rest, env=cli.environment(), cwd=cli.cwd)
    with (cli.cwd / "stderr").open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors), mode=mode) as client:
            yield client


@contextlib.contextmanager
def serving(cli: Cli, *arguments: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A `lisrt mcp` over HTTP, on any free port: its URL, and its process."""
    with cli.started("mcp", "--http", "0", *arguments) as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        assert line.startswith("lisrt: serving http"), line + process.stderr.read().decode()
        yield line.removeprefix("lisrt: serving ").strip(), process
        if process.poll() is None:
            process.terminate()
            status, stdout, errors = ended(process)
            assert (status, stdout) == (143, ""), errors


@contextlib.asynccontextmanager
async def over_http(url: str, *, token: str | None = None, mode: str = "auto") -> AsyncIterator[Client]:
    """A client with a session over HTTP."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def post(url: str, message: dict[str, Any], **headers: str) -> httpx2.Response:
    """One request by hand. `session` is a header, too."""
    named = {"mcp-session-id": headers.pop("session")} if "session" in headers else {}
    with httpx2.Client(timeout=60) as http:
        return http.post(url, json=message, headers={**HEADERS, **named, **headers})


def begin(url: str) -> str:
    """A session by hand, without a stream that stays open: its id."""
    answer = post(url, INITIALIZE)
    assert answer.status_code == 200, answer.text
    session: str = answer.headers["mcp-session-id"]
    accepted = post(url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session=session)
    assert accepted.status_code == 202
    return session


def call(command: str, number: int = 1) -> dict[str, Any]:
    """A request for `execute_bash`."""
    params = {"name": "execute_bash", "arguments": {"command": command}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def said(answer: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC message of an answer, whichever way it came."""
    if "text/event-stream" not in answer.headers["content-type"]:
        message: dict[str, Any] = answer.json()
        return message
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    last: dict[str, Any] = json.loads(lines[-1].removeprefix("data: "))
    return last


def by_hand(cli: Cli, lines: Sequence[str], last: int) -> dict[Any, dict[str, Any]]:
    """Lines to a server's stdin, whose end comes when there is an answer to request `last`; by id, all that came on stdout,
    which must be JSON line by line."""
    answers: dict[Any, dict[str, Any]] = {}
    with cli.started("mcp", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(line + "\n" for line in lines).encode())
        process.stdin.flush()
        while last not in answers:
            line = process.stdout.readline()
            assert line, f"the server has ended after {answers}"
            message = json.loads(line)
            answers[message.get("id")] = message
        process.stdin.close()
        process.stdin = None
        status, stdout, errors = ended(process)
    assert (status, stdout) == (0, ""), errors
    return answers


#: A client in a process of its own, which can be killed. It says `ready` when its command runs.
DOOMED = """
import asyncio, sys
from mcp import Client, StdioServerParameters

async def main():
    target = {target}
    async with Client(target, mode="legacy") as client:
        await client.call_tool("execute_bash", {{"command": "setsid sleep {marker} > /dev/null 2>&1 &"}})
        print("ready", flush=True)
        await client.call_tool("execute_bash", {{"command": "sleep {marker}", "timeout": 500}})

asyncio.run(main())
"""


def on_stdio_target(cli: Cli) -> str:
    """The source of what a doomed client connects to: a server of its own."""
    command, *rest = cli.command("mcp")
    return f"StdioServerParameters(command={command!r}, args={rest!r}, env={cli.environment()!r}, cwd={str(cli.cwd)!r})"
