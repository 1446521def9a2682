"""The openai package, for what it is good at: TLS, proxies, and whatever else lies between here and a hosted API."""

from __future__ import annotations

import importlib
import os
import ssl
from collections.abc import Mapping
from typing import Any

from lisrt.agent.transport.answer import Answer, NoAnswer

__all__ = ["OpenAITransport", "check_certificates", "load_openai"]

# Asks the library for the response as it came. Times are kept by whoever asks: the library's begin anew with each byte.
_OPTIONS = {"headers": {"X-Stainless-Raw-Response": "true"}, "timeout": None}


class OpenAITransport:
    """A client of the openai package, 1, 2 or 3."""

    # The library's pool looks at all its connections for each request: with hundreds in one that was most of what a turn cost.
    users = 32.0

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self._openai = openai = load_openai()
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)  # httpx's in openai 1 and 2, httpx2's in 3
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",
            base_url=base_url,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                # Its own keeps 100 connections open: of 512 episodes the others would make a new one for each turn.
                limits=limits(max_connections=None, max_keepalive_connections=None),
                follow_redirects=False,
            ),
        )
        # All three come from the environment and would go to any server; this one was named explicitly. Of
        # OPENAI_CUSTOM_HEADERS, which openai 2 and 3 read, an Authorization took the place of our own; there is no public way to
        # leave them out.
        self._client.organization = self._client.project = None
        self._client._custom_headers = {}

    async def post(self, request: Mapping[str, Any]) -> Answer:
        """See Transport."""
        openai = self._openai
        try:
            # Not chat.completions.create: that walks through all messages, each turn again, to bring them into a form that
            # they have; half of what a turn of forty messages cost.
            response = await self._client.post("/chat/completions", cast_to=object, body=request, options=_OPTIONS)
        except openai.APIConnectionError as error:
            raise _no_answer(error) from error
        except openai.APIStatusError as error:
            return _answer(error.response)
        except openai.OpenAIError as error:
            raise NoAnswer(str(error), hint="check the settings of the model", final=True) from error
        return _answer(response.http_response)

    async def close(self) -> None:
        """See Transport."""
        await self._client.close()


def _answer(response: Any) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(int(response.status_code), headers, str(response.text))


def _no_answer(error: BaseException) -> NoAnswer:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = "SSL_CERT_FILE may name a file of certificates to trust"
            return NoAnswer(f"the server's certificate: {cause.verify_message}", hint=hint, final=True)
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return NoAnswer("the server does not speak TLS", hint="is it http:// rather than https://?", final=True)
        cause = cause.__cause__ or cause.__context__
    cause = error.__cause__ or error
    return NoAnswer(str(cause) or type(cause).__name__)


def check_certificates() -> None:
    """ValueError for a $SSL_CERT_FILE that can't be used: the library's own words name neither file nor variable."""
    if path := os.environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"SSL_CERT_FILE names {path}, which holds no certificates that can be read: {error}") from None


def load_openai() -> Any:
    """The openai package. Raises ModuleNotFoundError with the command that installs it."""
    try:
        return importlib.import_module("openai")
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        text = "this model's server is reached with the openai package: pip install 'lisrt[agent]'"
        raise ModuleNotFoundError(text, name="openai") from None
