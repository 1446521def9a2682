"""lisrt mcp"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lisrt.agent.tools import SHELLS
from lisrt.cli.options import require_image, sandbox_arguments, sandbox_options, seconds
from lisrt.cli.streams import tell
from lisrt.mcp import Settings, load_sdk

TOKEN_VARIABLE = "LISRT_MCP_TOKEN"
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Address:
    """Where to listen, looked up."""

    family: int
    where: tuple[Any, ...]

    @property
    def is_local(self) -> bool:
        """Whether only programs of this host can connect."""
        return ipaddress.ip_address(self.where[0].partition("%")[0]).is_loopback


def _address(_context: click.Context, option: click.Parameter, value: str | None) -> Address | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not [HOST:]PORT", param=option)
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise click.BadParameter(f"{host}: {error.strerror or error}", param=option) from None
    return Address(found[0], found[4])


@click.command("mcp")
@click.option(
    *("--http", "address"),
    metavar="[HOST:]PORT",
    callback=_address,
    help="Serve many clients over HTTP, at http://HOST:PORT/mcp; on 127.0.0.1 without HOST, on any free port with 0.",
)
@click.option(
    "--shell",
    type=click.Choice(SHELLS),
    default="persistent",
    show_default=True,
    help="persistent: directory and variables stay from command to command.",
)
@click.option("--command-timeout", type=float, callback=seconds, default=120.0, show_default=True, help="Seconds per command.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False),
    help=f"With --http: what clients must send as their bearer token; else ${TOKEN_VARIABLE}. Needed for any HOST but loopback.",
)
@click.option("--max-sessions", type=click.IntRange(1), default=64, show_default=True, help="With --http: clients at a time.")
@click.option(
    "--idle-timeout",
    type=float,
    callback=seconds,
    default=3600.0,
    show_default=True,
    help="With --http: seconds after which a session ends that nobody is connected for.",
)
@sandbox_options
def command(
    address: Address | None,
    shell: str,
    command_timeout: float,
    token_file: str | None,
    max_sessions: int,
    idle_timeout: float,
    **options: Any,
) -> int:
    """Give the clients of the Model Context Protocol a sandbox each: Claude, editors, agents.

    A client starts this program and speaks with it on stdin and stdout. What it may have of this machine is said here:
    --mount for directories, --allow for hosts. Its sandbox is made at its first call and destroyed when it leaves.

    Exits 0 when the client has left, 130 or 143 after Ctrl-C or SIGTERM, 125 when the host can't do it.
    """
    try:
        load_sdk()
    except ModuleNotFoundError as error:
        raise click.ClickException(str(error)) from None
    settings = Settings(sandbox_arguments(**options), shell=shell, command_timeout=command_timeout)
    require_image(options["image"])
    if address is None:
        if token_file is not None:
            raise click.UsageError("--token-file is for --http: on stdin and stdout there is nobody else")
        return _over_stdio(settings)
    token = _token(token_file)
    if token is None and not address.is_local:
        raise click.UsageError(
            f"on {address.where[0]} everybody who reaches it could run programs here: --token-file or ${TOKEN_VARIABLE} says"
            " who may"
        )
    return _over_http(settings, address, token, max_sessions, idle_timeout)


def _over_stdio(settings: Settings) -> int:
    from lisrt.mcp.stdio import serve_stdio

    if sys.stdin.isatty():
        tell("lisrt: speaking the Model Context Protocol on stdin and stdout, for a program to talk to; Ctrl-C ends it")
    return _status(asyncio.run(serve_stdio(settings)))


def _over_http(settings: Settings, address: Address, token: str | None, max_sessions: int, idle_timeout: float) -> int:
    from lisrt.mcp.http import PATH, serve_http

    with socket.socket(address.family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address.where)
        listening.listen(128)
        host, port = listening.getsockname()[:2]
        tell(f"lisrt: serving http://{f'[{host}]' if ':' in host else host}:{port}{PATH}")
        if token is None:
            tell(f"lisrt: without a token every user of this machine can connect: --token-file or ${TOKEN_VARIABLE} sets one")
        serving = serve_http(
            settings, listening, token=token, is_local=address.is_local, max_sessions=max_sessions, idle_timeout=idle_timeout
        )
        return _status(asyncio.run(serving))


def _status(number: int | None) -> int:
    return 0 if number is None else 128 + number


def _token(file: str | None) -> str | None:
    try:
        text = Path(file).read_text() if file is not None else os.environ.get(TOKEN_VARIABLE)
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), param_hint="--token-file") from None
    if text is None:
        return None
    token = text.strip()
    if len(token) < SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
        where = "--token-file" if file is not None else f"${TOKEN_VARIABLE}"
        text = f"{where}: a token is at least {SHORTEST_TOKEN} visible ASCII characters; openssl rand -hex 32 makes one"
        raise click.UsageError(text)
    return token
