"""A registry, asked over HTTP (the OCI distribution specification) for what belongs to one repository."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lisrt.errors import ImageError
from lisrt.store import archive, credentials, manifest
from lisrt.store.blobs import CHUNK
from lisrt.store.intake import check_digest
from lisrt.store.manifest import MOST_TEXT, Descriptor
from lisrt.store.reference import Reference
from lisrt.store.web import NotTls, Patience, Refused, Trouble, Web

_ACCEPTED = ", ".join((*manifest.INDEXES, *manifest.MANIFESTS))
_ENOUGH = 64 << 10
"""Bytes that count as progress: a server may break off as often as it likes, as long as so many come each time."""
_CHALLENGE = re.compile(r'([A-Za-z_]+)="([^"]*)"')


class Registry:
    """One repository of a registry. Many threads may use it; when `stop` is set they give up."""

    def __init__(self, reference: Reference, *, insecure: bool, stop: threading.Event) -> None:
        self._reference = reference
        self._stop = stop
        plain = insecure or reference.is_local
        self._web = Web(trusted_plain=plain, without_proxy=reference.is_local)
        self._origins = [f"http://{reference.api_host}"] * plain + [f"https://{reference.api_host}"]
        self._authorization = ""
        self._logging_in = threading.Lock()

    def give_up(self) -> None:
        """All that is going on ends, with errors, in whichever threads it does."""
        self._stop.set()
        self._web.abort()

    def manifest(self, wanted: str) -> tuple[bytes, str]:
        """The manifest or index of a tag or digest, and its media type. ImageError."""
        patience, what = Patience(self._stop), f"manifest {wanted}"
        while True:
            try:
                with self._asked(f"manifests/{wanted}", {"Accept": _ACCEPTED}) as response:
                    text = response.read(MOST_TEXT + 1)
                    media_type = response.headers.get_content_type()
                if wanted.startswith("sha256:"):
                    check_digest(archive.digest(text), wanted)
                return text, media_type
            except Trouble as trouble:
                patience.wait(trouble, what)

    def text(self, wanted: Descriptor) -> bytes:
        """A small blob. ImageError."""
        if wanted.size > MOST_TEXT:
            raise ImageError(f"blob {wanted.digest} should be small, and has {wanted.size} bytes")
        patience = Patience(self._stop)
        while True:
            try:
                with self._asked(f"blobs/{wanted.digest}", {}) as response:
                    text = response.read(wanted.size + 1)
                if len(text) < wanted.size:
                    raise Trouble(f"it broke off after {len(text)} of {wanted.size} bytes")
                check_digest(archive.digest(text), wanted.digest)
                return text
            except Trouble as trouble:
                patience.wait(trouble, f"blob {wanted.digest}")

    def download(self, wanted: Descriptor, path: Path, told: Callable[[int], None]) -> None:
        """Writes a blob to a new file, its size and digest checked. What has come is not asked for again. ImageError, OSError."""
        patience, digest, done = Patience(self._stop), hashlib.sha256(), 0
        with open(path, "xb") as file:
            while done < wanted.size:
                before = done
                try:
                    with self._asked(f"blobs/{wanted.digest}", {"Range": f"bytes={done}-"} if done else {}) as response:
                        if done and not _continues(response, done):  # it can't, or won't
                            file.seek(0)
                            file.truncate()
                            digest, done = hashlib.sha256(), 0
                        while chunk := response.read(CHUNK):
                            digest.update(chunk)
                            file.write(chunk)
                            done += len(chunk)
                            told(done)
                            if done > wanted.size:
                                raise ImageError(f"it is longer than the {wanted.size} bytes that it should have")
                    if done < wanted.size:
                        raise Trouble(f"it broke off after {done} of {wanted.size} bytes")
                except Trouble as trouble:
                    if done >= before + _ENOUGH:
                        patience.progressed()
                    patience.wait(trouble, f"blob {wanted.digest}")
        check_digest(f"sha256:{digest.hexdigest()}", wanted.digest)

    @contextlib.contextmanager
    def _asked(self, path: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Raises Trouble, ImageError."""
        with contextlib.ExitStack() as stack:
            used = self._authorization
            try:
                response = stack.enter_context(self._opened(path, headers))
            except Refused as refused:
                if refused.status != 401:
                    raise self._explained(refused) from None
                self._log_in(refused, used)
                try:
                    response = stack.enter_context(self._opened(path, headers))
                except Refused as again:
                    raise self._explained(again) from None
            yield response

    @contextlib.contextmanager
    def _opened(self, path: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        with contextlib.ExitStack() as stack:
            while True:
                url = f"{self._origins[0]}/v2/{self._reference.repository}/{path}"
                try:
                    response = stack.enter_context(self._web.get(url, headers, authorization=self._authorization))
                    break
                except (Refused, Trouble) as error:
                    # a server that wants TLS answers 400 to what is none, or breaks off
                    may_want_tls = isinstance(error, Trouble) or error.status == 400
                    if len(self._origins) == 1 or not may_want_tls or not self._speaks_tls():
                        raise
                    self._origins = self._origins[-1:]
            yield response

    def _speaks_tls(self) -> bool:
        try:
            with self._web.get(f"{self._origins[-1]}/v2/", {}):
                return True
        except Refused:
            return True
        except (Trouble, NotTls):
            return False

    def _log_in(self, refused: Refused, used: str) -> None:
        """Finds out what the registry wants to be shown. Raises ImageError, Trouble."""
        with self._logging_in:
            if self._authorization != used:
                return  # another thread has been here
            known = credentials.find(self._reference.host)
            for challenge in refused.headers.get_all("WWW-Authenticate") or ():
                scheme, _, rest = challenge.partition(" ")
                if scheme.lower() == "bearer":
                    self._authorization = f"Bearer {self._token(dict(_CHALLENGE.findall(rest)), known)}"
                    return
                if scheme.lower() == "basic" and known:
                    self._authorization = known.basic
                    return
            raise self._explained(refused)

    def _token(self, challenge: dict[str, str], known: credentials.Credentials | None) -> str:
        scope = challenge.get("scope") or f"repository:{self._reference.repository}:pull"
        asked = {"scope": scope, **({"service": challenge["service"]} if "service" in challenge else {})}
        realm, data, authorization = challenge.get("realm", ""), None, ""
        if known and known.identity_token:
            more = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": "lisrt"}
            data = urllib.parse.urlencode({**asked, **more}).encode()
        else:
            realm += ("&" if "?" in realm else "?") + urllib.parse.urlencode(asked)
            authorization = known.basic if known else ""
        try:
            with self._web.get(realm, {}, authorization=authorization, data=data) as response:
                value = json.loads(response.read(MOST_TEXT))
            token = value.get("token") or value.get("access_token")
        except Refused as refused:
            raise self._explained(refused) from None
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ImageError(f"{self._reference.host} sends to {realm[:200]!r} for a token, and there is none")
        return token

    def _explained(self, refused: Refused) -> ImageError:
        host, mark = self._reference.host, "@" if self._reference.digest else ":"
        what = f"{self._reference.repository}{mark}{self._reference.wanted}"
        match refused.status:
            case 401 | 403 if credentials.find(host) is None:
                return ImageError(f"{refused}: there is no {what}, or it takes a login: `docker login {host}`, or podman's")
            case 401 | 403:
                return ImageError(f"{refused}: what `docker login {host}` has kept is not good for {what}, or there is none")
            case 404:
                return ImageError(f"{refused}: {host} has no {what}")
        return refused


def _continues(response: http.client.HTTPResponse, done: int) -> bool:
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
