"""Over HTTP: a session is a sandbox, and who may have one."""

import asyncio
import signal
from pathlib import Path

import httpx2
import pytest
from mcp.shared.exceptions import MCPError
from support.command import Cli, ended
from support.fresh import program
from support.procs import assert_gone, sleeping
from support.waiting import eventually

from mcp_server.clients import (
    DOOMED,
    HEADERS,
    INITIALIZE,
    VERSION,
    begin,
    call,
    on_stdio,
    over_http,
    post,
    said,
    serving,
    sh,
    text,
    until,
)

TOKEN = "0123456789abcdefghij"


def test_sessions(cli: Cli, marker: str) -> None:
    """Each has a sandbox of its own, also for clients that would rather have none; it goes when its client leaves."""

    async def scenario(url: str) -> None:
        async with over_http(url) as one:
            assert one.protocol_version == VERSION
            async with over_http(url, mode="legacy") as other:
                await sh(other, f"echo secret > file; cd /tmp; sleep {marker} > /dev/null 2>&1 &")
                assert "/tmp" in await sh(other, "pwd")
                assert "No such file" in await sh(one, "cat file")
                assert sleeping(marker)
            await until(lambda: not sleeping(marker), what="the end of the other's sandbox")
            made = await one.call_tool("str_replace_editor", {"command": "create", "path": "/testbed/a", "file_text": "a\n"})
            assert not made.is_error and "a" in await sh(one, "cat a")
            failed = await one.call_tool("execute_bash", {"command": "exit 3"})
            assert (failed.is_error, failed.meta["lisrt/exitCode"]) == (False, 3)

    with serving(cli) as (url, _process):
        asyncio.run(scenario(url))


def test_a_call_that_is_cancelled(cli: Cli, marker: str) -> None:
    """The command's tree dies; the session goes on."""

    async def scenario(url: str) -> None:
        async with over_http(url) as client:
            await sh(client, "echo kept > file")
            task = asyncio.create_task(sh(client, f"setsid sleep {marker} & sleep {marker}"))
            await until(lambda: len(sleeping(marker)) == 2, what="two sleeps")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(assert_gone, marker, within=10)
            assert "kept" in await sh(client, "cat file")

    with serving(cli) as (url, _process):
        asyncio.run(scenario(url))


def test_ten_megabytes(cli: Cli) -> None:
    """More than the SDK would let through by itself."""

    async def scenario(url: str) -> None:
        async with over_http(url) as client:
            arguments = {"command": "create", "path": "/testbed/large", "file_text": "x" * (10 << 20)}
            assert not (await client.call_tool("str_replace_editor", arguments)).is_error
            assert str(10 << 20) in await sh(client, "wc -c < large")
            handed = await client.call_tool("get_file", {"path": "large"})
            assert handed.is_error and "larger than" in text(handed)
            await sh(client, "head -c 512000 /dev/urandom > most")  # the most that this client takes in one event
            assert not (await client.call_tool("get_file", {"path": "most"})).is_error

    with serving(cli) as (url, _process):
        asyncio.run(scenario(url))


def test_a_client_that_is_killed(cli: Cli, marker: str) -> None:
    """Its session ends when nothing has been heard of it for as long as was said: with its command, by then at its own limit."""
    with serving(cli, "--idle-timeout", "1", "--command-timeout", "2") as (url, _process):
        source = DOOMED.format(target=repr(url), marker=marker).replace('"timeout": 500', '"timeout": 3')
        with program(source, cwd=cli.cwd) as doomed:
            doomed.expect("ready")
            eventually(lambda: len(sleeping(marker)) == 2, what="both sleeps", within=20)
            doomed.process.kill()
            assert_gone(marker, within=30)


def test_a_session_that_is_idle(cli: Cli, marker: str) -> None:
    """It ends, with its sandbox; who comes back is told to begin another one."""
    with serving(cli, "--idle-timeout", "0.5") as (url, _process):
        session = begin(url)
        answer = said(post(url, call(f"setsid sleep {marker} > /dev/null 2>&1 & echo begun"), session=session))
        assert "begun" in answer["result"]["content"][0]["text"]
        assert_gone(marker, within=20)
        eventually(lambda: post(url, call("true"), session=session).status_code == 404, what="the end of the session")


def test_a_call_that_takes_longer_than_a_session_may_be_idle(cli: Cli) -> None:
    """Who waits for an answer is not idle."""
    with serving(cli, "--idle-timeout", "0.3") as (url, _process):
        answer = said(post(url, call("sleep 1.5; echo done"), session=begin(url)))
        assert "done" in answer["result"]["content"][0]["text"]


def test_too_many_sessions(cli: Cli) -> None:
    """One more than there may be is refused with 503, and let in when another has left."""
    with serving(cli, "--max-sessions", "2") as (url, _process):
        first, _second = begin(url), begin(url)
        assert post(url, INITIALIZE).status_code == 503
        with httpx2.Client() as http:
            assert http.delete(url, headers={**HEADERS, "mcp-session-id": first}).status_code == 200
        assert said(post(url, call("echo here"), session=begin(url)))["result"]["isError"] is False


def test_a_token(cli: Cli, tmp_path: Path) -> None:
    """Without it, or with another, nobody gets in; it is not among what is said or visible inside."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")

    async def scenario(url: str) -> None:
        async with over_http(url, token=TOKEN) as client:
            assert TOKEN not in await sh(client, "env; ls -R /testbed")
        with pytest.raises(Exception):  # noqa: B017 - the client's, of which there are several
            async with over_http(url, token=TOKEN[:-1]):
                pass

    with serving(cli, "--token-file", str(tmp_path / "token")) as (url, process):
        asyncio.run(scenario(url))
        for header in ({}, {"authorization": TOKEN}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer"}):
            refused = post(url, INITIALIZE, **header)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert post(url, INITIALIZE, authorization=f"bearer {TOKEN}").status_code == 200
        process.terminate()
        status, stdout, errors = ended(process)
    assert (status, stdout) == (143, "")
    assert TOKEN not in errors


def test_a_token_of_the_environment(tmp_path: Path, scratch: Path, working_host: None) -> None:
    """With one, it may listen elsewhere; one that can be guessed is refused."""
    cli = Cli(tmp_path, scratch, {"LISRT_MCP_TOKEN": TOKEN})
    with cli.started("mcp", "--http", "0.0.0.0:0") as process:
        assert process.stderr is not None
        url = process.stderr.readline().decode().removeprefix("lisrt: serving ").strip().replace("0.0.0.0", "127.0.0.1")
        assert post(url, INITIALIZE, authorization=f"Bearer {TOKEN}").status_code == 200
        assert post(url, INITIALIZE, authorization=f"Bearer {TOKEN}", host="node7:8080").status_code == 200
        assert post(url, INITIALIZE).status_code == 401
    cli.assert_clean()
    weak = cli("mcp", "--http", "0", env={"LISRT_MCP_TOKEN": "guess me"})
    assert weak.returncode == 2 and "at least 16" in weak.stderr


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"host": "attacker.example"}, 421),
        ({"host": "127.0.0.1.attacker.example:80"}, 421),
        ({"origin": "http://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:6274"}, 200),
        ({"host": "localhost:80"}, 200),
    ],
)
def test_what_web_pages_send(cli: Cli, header: dict[str, str], status: int) -> None:
    """A page that has its own name lead to this host, or asks from its own origin, begins no session."""
    with serving(cli, "--max-sessions", "1") as (url, _process):
        assert post(url, INITIALIZE, **header).status_code == status
        assert post(url, INITIALIZE).status_code == (503 if status == 200 else 200), "a refused one takes no place"


def test_requests_without_a_session(cli: Cli) -> None:
    """Of a revision that has none: refused, with those that are served. No sandbox is made."""

    async def scenario(url: str) -> None:
        async with over_http(url, mode="2026-07-28") as client:
            with pytest.raises(MCPError, match="A sandbox belongs to a session") as caught:
                await client.call_tool("execute_bash", {"command": "true"})
            assert VERSION in caught.value.error.data["supported"]
            assert len((await client.list_tools()).tools) == 3

    with serving(cli) as (url, _process):
        asyncio.run(scenario(url))
        assert post(url, call("true")).status_code == 400
        assert post(url, call("true"), session="0" * 32).status_code == 404
        assert not cli.owners()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(cli: Cli, marker: str, number: signal.Signals) -> None:
    """Ends it while commands run and streams are open; nothing stays, and the status says so."""

    async def scenario(url: str, stop: object) -> None:
        async with over_http(url) as client, over_http(url) as other:
            await sh(other, f"setsid sleep {marker} > /dev/null 2>&1 &")
            task = asyncio.create_task(sh(client, f"sleep {marker}"))
            await until(lambda: len(sleeping(marker)) == 2, what="both sleeps")
            assert callable(stop)
            stop(number)
            await until(lambda: not sleeping(marker), what="the end of both")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with serving(cli) as (url, process):
        asyncio.run(scenario(url, process.send_signal))
        status, stdout, errors = ended(process)
    assert (status, stdout) == (128 + number, ""), errors


def test_a_port_that_is_taken(cli: Cli) -> None:
    """Is said."""
    with serving(cli) as (url, _process):
        port = url.split(":")[-1].partition("/")[0]
        done = cli("mcp", "--http", port)
    assert done.returncode == 125 and "in use" in done.stderr


def test_stdio_beside_http(cli: Cli) -> None:
    """Two servers of one user know nothing of each other."""

    async def scenario(url: str) -> None:
        async with over_http(url) as one, on_stdio(cli) as other:
            await sh(one, "echo secret > file")
            assert "No such file" in await sh(other, "cat file")

    with serving(cli) as (url, _process):
        asyncio.run(scenario(url))
