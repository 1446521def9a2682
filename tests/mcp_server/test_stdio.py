"""Beginnings and ends on stdio: clients that vanish, signals, lines that are no messages, a machine without the SDK."""

import asyncio
import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from support.command import Cli, ended
from support.fresh import environment, program
from support.procs import assert_gone, sleeping
from support.waiting import eventually

from mcp_server.clients import DOOMED, INITIALIZE, by_hand, call, on_stdio, on_stdio_target, sh

READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}
HELLO = [json.dumps(INITIALIZE), json.dumps(READY)]


def test_two_clients(cli: Cli) -> None:
    """Each has a sandbox of its own."""

    async def scenario() -> None:
        async with on_stdio(cli) as one, on_stdio(cli) as other:
            await sh(one, "echo secret > file; echo $$ > /tmp/x")
            assert "No such file" in await sh(other, "cat file /tmp/x")

    asyncio.run(scenario())


def test_a_client_that_leaves(cli: Cli, marker: str) -> None:
    """What it has left in the background ends with its session."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            await sh(client, f"setsid sleep {marker} > /dev/null 2>&1 &")
            assert sleeping(marker)

    asyncio.run(scenario())
    assert_gone(marker)
    assert (cli.cwd / "stderr").read_text() == ""


def test_a_client_that_is_killed(cli: Cli, marker: str) -> None:
    """Its server sees stdin end, kills the command that runs and destroys the sandbox."""
    with program(DOOMED.format(target=on_stdio_target(cli), marker=marker), cwd=cli.cwd) as doomed:
        doomed.expect("ready")
        eventually(lambda: len(sleeping(marker)) == 2, what="both sleeps", within=20)
        doomed.process.kill()
        assert_gone(marker, within=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal(cli: Cli, marker: str, number: signal.Signals) -> None:
    """Ends it while a command runs and its client stays; the status says so."""
    with cli.started("mcp", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for line in [*HELLO, json.dumps(call(f"sleep {marker}"))]:
            process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        eventually(lambda: sleeping(marker), what="the sleep", within=20)
        process.send_signal(number)
        process.wait(timeout=20)
        assert_gone(marker)
        status, stdout, errors = ended(process)
    assert status == 128 + number, errors
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in stdout.splitlines())


@pytest.mark.slow
def test_a_signal_when_nobody_reads(cli: Cli, marker: str) -> None:
    """An answer that can't be written holds nothing up for long."""
    cli.killed = True
    with cli.started("mcp", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        lists = [json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/list"}) for number in range(2, 60)]
        for line in [*HELLO, json.dumps(call(f"sleep {marker} > /dev/null 2>&1 & echo; :")), *lists]:
            process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        eventually(lambda: sleeping(marker), what="the sleep", within=20)
        process.terminate()
        assert process.wait(timeout=20) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert_gone(marker, within=10)


def test_lines_that_are_no_messages(cli: Cli) -> None:
    """They are answered or passed over, and what comes after them is served; stdout has nothing but messages."""
    wrong = {**call("true"), "params": {"name": "execute_bash", "arguments": "not an object"}}
    lines = ["no JSON", '{"unclosed": {"json', "[]", "\0\x7f", *HELLO, "{}", ""]
    answers = by_hand(cli, [*lines, json.dumps({**wrong, "id": 7}), json.dumps(call("echo served", 8))], last=8)
    assert "serverInfo" in answers[0]["result"]
    assert answers[7]["error"]["code"] == -32602
    assert "served" in answers[8]["result"]["content"][0]["text"]


def test_ten_megabytes(cli: Cli) -> None:
    """As a file they are written, as a script refused, and the session goes on."""
    size = 10 << 20

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            script = await client.call_tool("execute_bash", {"command": ": " + "x" * size})
            assert script.is_error and "too long to start" in script.content[0].text
            arguments: dict[str, Any] = {"command": "create", "path": "/testbed/large", "file_text": "é" * (size // 2)}
            assert not (await client.call_tool("str_replace_editor", arguments)).is_error
            assert str(size) in await sh(client, "wc -c < large")

    asyncio.run(scenario())


def test_nothing_of_the_host(cli: Cli) -> None:
    """Neither its environment nor its files nor its processes."""
    (cli.cwd / "secret").write_text("secret")

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            seen = await sh(client, f"env; ls {cli.cwd} {cli.scratch}; ls /proc; cat /proc/1/cmdline")
            assert "LISRT_" not in seen.replace("__lisrt", "") and "secret" not in seen

    asyncio.run(scenario())


@pytest.mark.parametrize("missing", ["mcp", "mcp_types"])
def test_without_the_sdk(cli: Cli, missing: str) -> None:
    """One line that says what to install; also for a version that is too old. Everything else works without it."""
    source = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['lisrt', 'mcp']; from lisrt.cli import main; main()"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'lisrt[mcp]'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--image", "nowhere"], 125, "nowhere"),
        (["--token-file", "/dev/null"], 2, "token"),
        (["--http", "x"], 2, "[HOST:]PORT"),
        (["--http", "0.0.0.0:0"], 2, "everybody"),
        (["--mount", "/nowhere:/x"], 2, "/nowhere"),
        (["--command-timeout", "0"], 2, "above 0"),
    ],
)
def test_mistakes_on_the_command_line(cli: Cli, arguments: list[str], status: int, words: str) -> None:
    """Are said before anything is served."""
    done = cli("mcp", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
