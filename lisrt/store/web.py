"""HTTP as a registry's client needs it: patient with servers that are busy or break off, careful with what it tells whom."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import random
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import weakref
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import IO, Any

from lisrt.errors import ImageError

TIMEOUT = 30.0
"""Seconds without a byte."""
MOST_TRIES = 6
LONGEST_WAIT = 60.0
"""Seconds, also where a server asks for more: then it is told to the user, who may come back."""
_FIRST_WAIT = 0.5
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_AGENT = "lisrt"


class Refused(ImageError):
    """A server's answer that another try won't change. `status` is HTTP's."""

    def __init__(self, message: str, status: int, headers: Message) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Trouble(Exception):
    """What may have gone by itself soon. `wait` is how long the server wants to be left alone, if it has said so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Patience:
    """How often something has failed, and how long to wait before the next time."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._tries = 0

    def progressed(self) -> None:
        """Something has come: count anew."""
        self._tries = 0

    def wait(self, trouble: Trouble, what: str) -> None:
        """Returns when it is time for another try. ImageError: there have been enough, or the work is given up."""
        self._tries += 1
        wait = _FIRST_WAIT * 2 ** (self._tries - 1) * random.uniform(0.5, 1.5) if trouble.wait is None else trouble.wait
        if self._tries >= MOST_TRIES:
            raise ImageError(f"{what}: {trouble} ({self._tries} tries)") from None
        if trouble.wait is not None and trouble.wait > LONGEST_WAIT:
            raise ImageError(f"{what}: {trouble}; it asks to come back in {trouble.wait:.0f} s") from None
        if self._stop.wait(min(wait, LONGEST_WAIT)):
            raise ImageError(f"{what}: given up, as something else failed") from None


class Web:
    """Asks servers. One for each registry; many threads may use it."""

    def __init__(self, *, trusted_plain: bool, without_proxy: bool) -> None:
        """`trusted_plain`: without TLS is fine, somebody has said so. `without_proxy`: it is on this machine."""
        self._plain = trusted_plain
        self._sockets = _Sockets()
        handlers: list[Any] = [_Redirects(trusted_plain), _Http(self._sockets), _Https(self._sockets, _tls())]
        if without_proxy:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @contextlib.contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], *, authorization: str = "", data: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer of 200 or 206. Raises Refused, or Trouble, also out of the body that reads it."""
        request = self._request(url, headers, authorization, data)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                yield response
        except urllib.error.HTTPError as error:
            with error:
                raise _from_status(error, url) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError) and not isinstance(error.reason, ssl.SSLEOFError):
                raise NotTls(f"{_origin(url)}: {_tls_words(error.reason)}") from None
            said = f"{_origin(url)} can't be reached: {error.reason}"
            if isinstance(error.reason, socket.gaierror) and error.reason.errno == socket.EAI_NONAME:
                raise ImageError(said) from None  # nobody has that name, and nobody will in some seconds
            raise Trouble(said) from None
        except TimeoutError:
            raise Trouble(f"{_origin(url)} was silent for {TIMEOUT:.0f} s") from None
        except (ConnectionError, http.client.HTTPException, ssl.SSLError) as error:
            raise Trouble(f"{_origin(url)} broke off: {type(error).__name__} {error}") from None

    def abort(self) -> None:
        """Ends every connection that there is: whoever waits for an answer gets Trouble."""
        self._sockets.shut()

    def _request(
        self, url: str, headers: Mapping[str, str], authorization: str, data: bytes | None
    ) -> urllib.request.Request:
        if not url.startswith("https://") and not (self._plain and url.startswith("http://")):
            raise ImageError(f"{url[:200]!r} is not https: not asked")
        request = urllib.request.Request(url, data=data, headers={"User-Agent": _AGENT, **headers})
        if authorization:  # not for those whom it is redirected to: blobs come from elsewhere, which must not see it
            request.add_unredirected_header("Authorization", authorization)
        return request


def _tls_words(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
        return "it answers without TLS; `--insecure` allows that"
    return f"{error}; $SSL_CERT_FILE names other certificates to trust"


class NotTls(ImageError):
    """The other side speaks no TLS, or has a certificate that nobody here vouches for."""


class _Sockets:
    """Those that are open. Many threads may use it."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_shut = False

    def add(self, one: socket.socket) -> None:
        with self._lock:
            if self._is_shut:
                raise ConnectionAbortedError("given up")
            self._open.add(one)

    def shut(self) -> None:
        with self._lock:
            self._is_shut = True
            for one in self._open:
                with contextlib.suppress(OSError):  # not SSLSocket's own, which a reader in another thread trips over
                    socket.socket.shutdown(one, socket.SHUT_RDWR)


class _Http(urllib.request.HTTPHandler):
    """Notes the sockets that are opened."""

    def __init__(self, sockets: _Sockets) -> None:
        super().__init__()
        self._sockets = sockets

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            return _noting(http.client.HTTPConnection(host, **options), self._sockets)

        return self.do_open(connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, sockets: _Sockets, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls = context
        self._sockets = sockets

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            return _noting(http.client.HTTPSConnection(host, context=self._tls, **options), self._sockets)

        return self.do_open(connection, req)


def _noting(
    connection: http.client.HTTPConnection, sockets: _Sockets
) -> http.client.HTTPConnection:
    connect = connection.connect

    def noted() -> None:
        connect()
        sockets.add(connection.sock)

    connection.connect = noted  # type: ignore[method-assign]
    return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, plain: bool) -> None:
        self._allowed = ("https://", "http://") if plain else ("https://",)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith(self._allowed):
            raise ImageError(f"{_origin(req.full_url)} leads to {newurl[:200]!r}, which is not https: not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _tls() -> ssl.SSLContext:
    """The host's certificates ($SSL_CERT_FILE, $SSL_CERT_DIR), and those that other programs are told to use beside them."""
    context = ssl.create_default_context()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path and os.path.exists(path):
            context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    return context


def _from_status(error: urllib.error.HTTPError, url: str) -> Exception:
    said = f"{_origin(url)} answers {error.code} {error.reason}"
    if error.code in _BUSY:
        return Trouble(said, _retry_after(error.headers))
    return Refused(said, error.code, error.headers)


def _retry_after(headers: Message) -> float | None:
    """Seconds, or a date; None where there is neither."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _origin(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
