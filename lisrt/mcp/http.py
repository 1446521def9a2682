"""Many clients, over streamable HTTP: a session each."""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from functools import partial

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from lisrt.mcp.guest import Settings
from lisrt.mcp.server import build
from lisrt.mcp.signals import on_ending_signal

__all__ = ["PATH", "Gate", "serve_http"]

PATH = "/mcp"

#: Bytes of a request. The SDK's 4 MiB would cut off a large file that a model writes.
MAX_REQUEST = 64 << 20
#: Seconds for answers that are being written when the server ends.
GRACE = 2

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


async def serve_http(
    settings: Settings,
    listening: socket.socket,
    *,
    token: str | None,
    is_local: bool,
    max_sessions: int = 64,
    idle_timeout: float = 3600.0,
) -> int | None:
    """Serves until a signal comes, and returns its number. All sandboxes are gone by then.

    token: what clients must send as `Authorization: Bearer`; None lets everybody in who can connect. is_local: the socket is
    loopback's; then the names that browsers may call it by are checked, too, or a web page could have its own name lead here (DNS
    rebinding). With a token from elsewhere that is no way in: a page does not know it. max_sessions: one more gets status 503.
    idle_timeout: seconds after which a session ends that no request and no open stream belongs to.
    """
    app = build(settings, over_http=True).streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MAX_REQUEST,
        session_idle_timeout=idle_timeout,
        max_sessions=max_sessions,
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=is_local,
            allowed_hosts=[*_LOCAL, *(f"{name}:*" for name in _LOCAL)],
            allowed_origins=[f"http://{name}{port}" for name in _LOCAL for port in ("", ":*")],
        ),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(
        uvicorn.Config(
            app if token is None else Gate(app, token),
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
    )
    received = on_ending_signal(partial(server.handle_exit, 0, None), patience=15.0)
    await server.serve(sockets=[listening])
    return received[0] if received else None


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again at its end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Gate:
    """Lets requests through that have the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._knows(scope):
            await self._app(scope, receive, send)
            return
        error = {"code": -32001, "message": "Unauthorized: send the header Authorization: Bearer TOKEN"}
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # in a time that tells nothing of how much of it was right
        return hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"
