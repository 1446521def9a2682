"""The protocol: what clients are told, what they ask of a Guest, and how its answers are put.

On stdio there is one client, so the server's lifespan has its sandbox. Over HTTP the SDK enters the lifespan once for all
sessions; what one session has belongs to its connection. Sessions are what revisions of the protocol up to 2025-11-25 have. Since
2026-07-28 requests over HTTP stand alone: nothing says which of them are one client's, or when it has left. Such a request is
refused with the revisions that are served, and clients that know both begin a session then.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from lisrt.egress.proxy import Proxy
from lisrt.mcp.guest import Answer, Fault, File, Guest, Settings
from lisrt.nat.policy import Nat
from lisrt.plan import DEFAULT_WORKDIR

__all__ = ["build"]

T = TypeVar("T")
Context = ServerRequestContext[Any, Any]

#: Seconds between two words to a client that has asked to hear how a call gets on. Some give up after 60 s of silence.
PROGRESS = 5.0
_STATE = "lisrt"

_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def build(settings: Settings, *, over_http: bool) -> Server[Any]:
    """A server to be run on stdio, or over HTTP with sessions."""
    tools = [_tool(definition.mcp(), settings) for definition in settings.definitions()]
    names = {tool.name for tool in tools}

    async def list_tools(_context: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name not in names:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name!r}; the tools are {', '.join(sorted(names))}.")
        guest = _guest_of_connection(context, settings) if over_http else context.lifespan_context
        work = guest.call(params.name, params.arguments or {})
        try:
            return _result(await _ended(work, _progress_of(context)))
        except Fault as fault:
            raise MCPError(types.INTERNAL_ERROR, str(fault), data={"sandbox": "failed"}) from fault

    server: Server[Any] = Server(
        "lisrt",
        version=importlib.metadata.version("lisrt"),
        title="lisrt sandbox",
        instructions=instructions(settings),
        lifespan=_nobody if over_http else _one_guest(settings),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    if over_http:
        server.add_request_handler("server/discover", types.RequestParams, _refuse_to_be_discovered)
    return server


def instructions(settings: Settings) -> str:
    """What the model is told of its sandbox: of what is mounted, the names inside, never those on the host."""
    sandbox = settings.sandbox
    parts = [
        "These tools work in a Linux sandbox that belongs to this session alone. Nothing of the user's machine is in it but what "
        f"is said here. The working directory is {sandbox.get('workdir') or f'the image’s, or {DEFAULT_WORKDIR}'}."
    ]
    for mount in sandbox.get("mounts", ()):
        parts.append(f"{mount.target} is a directory or file of the user's{'' if mount.writable else ', read-only'}.")
    parts.append(_network(sandbox.get("network", "none")))
    parts.append("All else that is written is deleted when the session ends; get_file hands files over.")
    return " ".join(parts)


def _network(network: Any) -> str:
    if isinstance(network, Proxy):
        return f"Network: a proxy, which is set in the environment, leads to {', '.join(map(str, network.allow))}."
    if isinstance(network, Nat) or network == "nat":
        return "Network: public addresses."
    return "Network: the user's machine's." if network == "host" else "There is no network."


def _tool(schema: dict[str, Any], settings: Settings) -> types.Tool:
    reads_only = schema["name"] == "get_file"
    touches_host = any(mount.writable for mount in settings.sandbox.get("mounts", ()))
    is_open = settings.sandbox.get("network", "none") not in ("none", "filtered") and schema["name"] == "execute_bash"
    hints = types.ToolAnnotations(
        read_only_hint=reads_only, destructive_hint=touches_host and not reads_only, open_world_hint=is_open
    )
    return types.Tool(
        name=schema["name"], description=schema["description"], input_schema=dict(schema["inputSchema"]), annotations=hints
    )


# Whose sandbox


def _one_guest(settings: Settings) -> Callable[[Server[Any]], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def lifespan(_server: Server[Any]) -> AsyncIterator[Guest]:
        guest = Guest(settings)
        try:
            yield guest
        finally:
            with anyio.CancelScope(shield=True):
                await guest.close()

    return lifespan


@asynccontextmanager
async def _nobody(_server: Server[Any]) -> AsyncIterator[None]:
    yield None


def _guest_of_connection(context: Context, settings: Settings) -> Guest:
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        raise _without_session(context)
    # The connection is the SDK's own place for what lasts as long as a session; handlers have no other way to it (2.3).
    connection = context.session._connection
    guest: Guest | None = connection.state.get(_STATE)
    if guest is None:
        guest = connection.state[_STATE] = Guest(settings)
        connection.exit_stack.push_async_callback(guest.close)
    return guest


async def _refuse_to_be_discovered(context: Context, _params: types.RequestParams) -> types.DiscoverResult:
    raise _without_session(context)


def _without_session(context: Context) -> MCPError:
    data = types.UnsupportedProtocolVersionErrorData(
        supported=list(HANDSHAKE_PROTOCOL_VERSIONS), requested=context.protocol_version
    )
    text = f"A sandbox belongs to a session, and over HTTP revision {context.protocol_version} has none. Begin with initialize."
    return MCPError(types.UNSUPPORTED_PROTOCOL_VERSION, text, data=data.model_dump(mode="json"))


# A call


async def _ended(work: Coroutine[Any, Any, T], tell: Callable[[float], Awaitable[None]]) -> T:
    """The result of what may take long. Cancelled, it has seen the end of it.

    In a task of its own, which is cancelled once: the SDK's scopes cancel again at every step, and so would break off the wait in
    which a command is seen dead.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    task = loop.create_task(work)
    try:
        while not (await asyncio.wait([task], timeout=PROGRESS))[0]:
            await tell(loop.time() - begun)
    except BaseException:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not complain that nobody has
        raise
    return task.result()


def _progress_of(context: Context) -> Callable[[float], Awaitable[None]]:
    async def tell(seconds: float) -> None:
        await context.session.report_progress(seconds, None, f"running for {seconds:.0f} s")

    return tell


def _result(answer: Answer) -> types.CallToolResult:
    seen = answer.seen
    content: list[types.ContentBlock] = [types.TextContent(text=text) for text in (answer.news, seen.text) if text]
    if answer.file is not None:
        content.append(_content(answer.file))
    meta: dict[str, Any] = {"lisrt/outcome": seen.outcome}
    if seen.details.get("exit_code") is not None:
        meta["lisrt/exitCode"] = seen.details["exit_code"]
    # No structured content: some clients show the model that in the text's place.
    return types.CallToolResult(content=content, is_error=seen.outcome == "refused", _meta=meta)


def _content(file: File) -> types.ContentBlock:
    """An image by its first bytes, whatever its name: models refuse a request with one that is not what it is said to be."""
    kind = next((kind for start, kind in _IMAGES if file.data.startswith(start)), None)
    if file.data[:4] == b"RIFF" and file.data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is not None:
        return types.ImageContent(data=base64.b64encode(file.data).decode(), mime_type=kind)
    uri = "sandbox://" + quote(file.path)  # not file:, which would be a path of the client's
    resource: types.TextResourceContents | types.BlobResourceContents
    try:
        resource = types.TextResourceContents(uri=uri, mime_type="text/plain", text=file.data.decode())
    except UnicodeDecodeError:
        data = base64.b64encode(file.data).decode()
        resource = types.BlobResourceContents(uri=uri, mime_type="application/octet-stream", blob=data)
    return types.EmbeddedResource(resource=resource)
