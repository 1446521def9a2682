"""What a client can do in its sandbox, in both eras of the protocol, on stdio."""

import asyncio
import base64
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from support.command import Cli
from support.procs import assert_gone, init_of, sleeping

from mcp_server.clients import on_stdio, sh, text, until

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@ERAS
def test_what_is_offered(cli: Cli, mode: str) -> None:
    """The tools with their schemas, and no `submit`; and what the model is told of the sandbox."""

    async def scenario() -> None:
        async with on_stdio(cli, "--command-timeout", "7", mode=mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"execute_bash", "str_replace_editor", "get_file"}
            assert {"command", "timeout", "restart"} == set(tools["execute_bash"].input_schema["properties"])
            assert "7 if left out" in tools["execute_bash"].input_schema["properties"]["timeout"]["description"]
            assert tools["get_file"].annotations.read_only_hint and not tools["execute_bash"].annotations.destructive_hint
            assert "There is no network" in client.instructions
            assert client.server_info.name == "lisrt"
            assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--allow", "example.org", "--allow", "*.example.com"], "leads to example.org, *.example.com."),
        (["--network", "nat"], "Network: public addresses."),
        (["--network", "host"], "Network: the user's machine's."),
        (["--network", "filtered"], "There is no network."),
    ],
)
def test_the_network_is_told(cli: Cli, options: list[str], words: str) -> None:
    """To the model in words; to the client as a hint, by which it may ask before a command."""

    async def scenario() -> None:
        async with on_stdio(cli, *options) as client:
            assert words in client.instructions
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert tools["execute_bash"].annotations.open_world_hint is ("filtered" not in options)

    asyncio.run(scenario())


@ERAS
def test_a_session(cli: Cli, mode: str) -> None:
    """Commands and edits see the same files; the shell goes on; a failing program is no error of the call."""

    async def scenario() -> None:
        async with on_stdio(cli, mode=mode) as client:
            made = await client.call_tool(
                "str_replace_editor", {"command": "create", "path": "/testbed/a/b.py", "file_text": "print(6 * 7)\n"}
            )
            assert not made.is_error
            assert "42" in await sh(client, "cd a; export NAME=value; python3 b.py")
            assert "/testbed/a value" in await sh(client, 'echo "$PWD $NAME"')
            edited = await client.call_tool(
                "str_replace_editor", {"command": "str_replace", "path": "a/b.py", "old_str": "7", "new_str": "8"}
            )
            assert "print(6 * 8)" in text(edited)
            failed = await client.call_tool("execute_bash", {"command": "exit 3"})
            assert (failed.is_error, failed.meta["lisrt/outcome"], failed.meta["lisrt/exitCode"]) == (False, "exited", 3)

    asyncio.run(scenario())


def test_a_fresh_shell(cli: Cli) -> None:
    """--shell fresh: nothing goes on but files."""

    async def scenario() -> None:
        async with on_stdio(cli, "--shell", "fresh") as client:
            await sh(client, "cd /tmp; export NAME=value; echo kept > /testbed/file")
            assert "/testbed .kept" in await sh(client, 'echo "$PWD $NAME.$(cat file)"')

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("execute_bash", {}, "command is missing"),
        ("execute_bash", {"command": ["ls"]}, "must be of type string"),
        ("execute_bash", {"command": "true", "timeout": 601}, "up to 600 seconds"),
        ("execute_bash", {"command": "true", "shell": "zsh"}, "no parameter 'shell'"),
        ("str_replace_editor", {"command": "create", "path": "/x"}, "file_text is missing"),
        ("str_replace_editor", {"command": "view", "path": "/nowhere"}, "No such file"),
        ("get_file", {"path": "/nowhere"}, "No such file"),
        ("get_file", {"path": ""}, "path is empty"),
        ("get_file", {}, "path is missing"),
        ("get_file", {"path": "/usr"}, "s a directory"),
    ],
)
def test_a_call_that_is_refused(cli: Cli, name: str, arguments: dict[str, Any], words: str) -> None:
    """It is the model's to read and to mend."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            result = await client.call_tool(name, arguments)
            assert result.is_error and result.meta["lisrt/outcome"] == "refused"
            assert words in text(result)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["submit", "bash", "nonsense"])
def test_a_tool_that_is_not_there(cli: Cli, name: str) -> None:
    """An error of the protocol, as it wants it; also for the tool of the agent that ends an episode."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            with pytest.raises(MCPError, match="There is no tool") as caught:
                await client.call_tool(name, {})
            assert caught.value.error.code == -32602

    asyncio.run(scenario())


def test_a_command_that_takes_too_long(cli: Cli, marker: str) -> None:
    """Its output so far is the answer, and no error; its tree is dead; the shell goes on."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            await sh(client, "cd /tmp")
            result = await client.call_tool(
                "execute_bash", {"command": f"echo begun; setsid sleep {marker} & sleep {marker}", "timeout": 0.5}
            )
            assert (result.is_error, result.meta["lisrt/outcome"]) == (False, "timed_out")
            assert "begun" in text(result)
            await asyncio.to_thread(assert_gone, marker)
            assert "/tmp" in await sh(client, "pwd")

    asyncio.run(scenario())


@ERAS
def test_a_call_that_is_cancelled(cli: Cli, marker: str, mode: str) -> None:
    """The command's whole tree dies, and the session goes on with its files."""

    async def scenario() -> None:
        async with on_stdio(cli, mode=mode) as client:
            await sh(client, "echo kept > file")
            task = asyncio.create_task(sh(client, f"setsid sleep {marker} & sleep {marker}"))
            await until(lambda: len(sleeping(marker)) == 2, what="two sleeps")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(assert_gone, marker, within=10)
            assert "kept" in await sh(client, "cat file")

    asyncio.run(scenario())


def test_scripts_take_turns(cli: Cli) -> None:
    """Two at a time would each lose what the other has set; a view meanwhile need not wait."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            first = asyncio.create_task(sh(client, "touch begun; until [ -e go ]; do sleep 0.02; done; A=1"))
            while (await client.call_tool("get_file", {"path": "begun"})).is_error:
                pass
            second = asyncio.create_task(sh(client, "touch second; B=2"))
            for _ in range(20):  # in which it would have run
                assert (await client.call_tool("get_file", {"path": "second"})).is_error
            await client.call_tool("str_replace_editor", {"command": "create", "path": "/testbed/go", "file_text": ""})
            await asyncio.gather(first, second)
            assert "12" in await sh(client, 'echo "$A$B"')

    asyncio.run(scenario())


@pytest.mark.parametrize("in_a_call", [True, False])
@ERAS
def test_a_sandbox_that_dies(cli: Cli, marker: str, mode: str, in_a_call: bool) -> None:
    """The call it died in is told that it was the sandbox; the next one gets another, and the news."""

    async def scenario() -> None:
        async with on_stdio(cli, mode=mode) as client:
            await sh(client, f"echo lost > file; sleep {marker} > /dev/null 2>&1 &")
            await until(lambda: sleeping(marker), what="the sleep")
            task = asyncio.create_task(client.call_tool("execute_bash", {"command": f"sleep {marker if in_a_call else 0}"}))
            if in_a_call:
                await until(lambda: len(sleeping(marker)) == 2, what="both sleeps")
            else:
                await task
            os.kill(init_of(sleeping(marker).pop()), signal.SIGKILL)
            await asyncio.to_thread(assert_gone, marker)
            if in_a_call:
                with pytest.raises(MCPError, match="The sandbox has died") as caught:
                    await task
                assert caught.value.error.data == {"sandbox": "failed"}
            seen = await sh(client, "cat file; echo new > file")
            assert "files, background processes and the shell's state are lost" in seen
            assert "No such file" in seen
            assert "lost" not in await sh(client, "cat file")

    asyncio.run(scenario())


def test_a_sandbox_that_can_not_be_made(cli: Cli, tmp_path: Path) -> None:
    """The session begins, the call says why, and that it was not the program."""
    (tmp_path / "scratch").rmdir()
    (tmp_path / "scratch").write_text("in the way")

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            assert (await client.list_tools()).tools
            with pytest.raises(MCPError, match="No sandbox could be made: .*scratch") as caught:
                await sh(client, "true")
            assert caught.value.error.data == {"sandbox": "failed"}

    asyncio.run(scenario())
    (tmp_path / "scratch").unlink()
    (tmp_path / "scratch").mkdir()


def test_files_are_handed_over(cli: Cli) -> None:
    """Images by what they are, not by their names; text; bytes; and nothing larger than a client takes."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            await sh(client, f"echo {base64.b64encode(PNG).decode()} | base64 -d > plot.dat")
            await sh(client, "printf 'gr\\303\\274n' > text")
            await sh(client, "printf '\\377\\000' > fake.png; head -c 512001 /dev/zero > large")
            await sh(client, "mkfifo fifo; ln -s /testbed/text link")
            image = (await client.call_tool("get_file", {"path": "plot.dat"})).content[-1]
            assert (image.type, image.mime_type, base64.b64decode(image.data)) == ("image", "image/png", PNG)
            words = (await client.call_tool("get_file", {"path": "/testbed/link"})).content[-1]
            assert (words.resource.text, words.resource.uri) == ("grün", "sandbox:///testbed/link")
            data = (await client.call_tool("get_file", {"path": "fake.png"})).content[-1]
            assert base64.b64decode(data.resource.blob) == b"\xff\0"
            for path, why in (("large", "larger than 512000 bytes"), ("fifo", "not a regular file")):
                refused = await client.call_tool("get_file", {"path": path})
                assert refused.is_error and why in text(refused)

    asyncio.run(scenario())


def test_mounts_and_what_is_said_of_them(cli: Cli, tmp_path: Path) -> None:
    """Their names inside are told, the host's are not; read-only ones are that; what is written to others is on the host."""
    for name in ("shown", "shared"):
        (tmp_path / name).mkdir()
    (tmp_path / "shown" / "file").write_text("of the host")
    options = ["-m", f"{tmp_path}/shown:/testbed/in", "-m", f"{tmp_path}/shared:/testbed/out:rw", "-e", "NAME=value"]

    async def scenario() -> None:
        async with on_stdio(cli, *options, "--workdir", "/testbed/out") as client:
            assert "/testbed/in is a directory or file of the user's, read-only." in client.instructions
            assert "/testbed/out is a directory or file of the user's." in client.instructions
            assert str(tmp_path) not in client.instructions
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert tools["execute_bash"].annotations.destructive_hint
            assert "of the host" in await sh(client, 'cat ../in/file && echo "$NAME" > made')
            refused = await client.call_tool(
                "str_replace_editor", {"command": "str_replace", "path": "/testbed/in/file", "old_str": "of", "new_str": "off"}
            )
            assert refused.is_error and "Read-only" in text(refused)

    asyncio.run(scenario())
    assert (tmp_path / "shared" / "made").read_text() == "value\n"
    assert (tmp_path / "shown" / "file").read_text() == "of the host"


@pytest.mark.slow
def test_progress(cli: Cli) -> None:
    """A client that asks for it hears that a command still runs: here before the command could end."""

    async def scenario() -> None:
        async with on_stdio(cli) as client:
            heard: list[float] = []

            async def on_progress(progress: float, _total: float | None, _message: str | None) -> None:
                heard.append(progress)
                await client.call_tool("str_replace_editor", {"command": "create", "path": "/testbed/heard", "file_text": ""})

            result = await client.call_tool(
                "execute_bash",
                {"command": "until [ -e heard ]; do sleep 0.1; done"},
                progress_callback=on_progress,
            )
            assert heard and not result.is_error and result.meta["lisrt/exitCode"] == 0

    asyncio.run(scenario())
