"""Docker, by its SDK. Podman's service speaks the same (podman.py)."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import selectors
import socket
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from lisrt.bench.backend import BackendError, Done, Unavailable
from lisrt.bench.backends.content import Content, brought
from lisrt.limits import DEFAULT_PIDS

CONNECTIONS = 1024
"""To the engine, kept open: more than any workload has threads. The SDK's own 10 would have the others connect anew each time."""
TIMEOUT = 600
"""Seconds for one answer. An engine that is asked for hundreds of containers at once is slow, which is a result, no failure."""
MAIN = ("sleep", "2147483647")
"""What containers run. Not `infinity`, which small images' sleep does not know."""
EXIT_WITHIN = 60.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02
"""Seconds until an engine is asked again that does not know of an exit yet."""
LABEL = "lisrt.bench"
_CHUNK = 1 << 16
_SAID = ("Memory", "MemorySwap", "Binds")
"""Of the host config, what `settings` has in words."""


class Docker:
    """The engine that $DOCKER_HOST names, or the system's."""

    name = "docker"

    def __init__(self, memory: int | None) -> None:
        self._memory = memory
        self._label = secrets.token_hex(8)
        self._api: Any = None
        self.content = Content("", (), {}, "")
        """What containers are made of, once `start` has returned."""

    def start(self, image: str | None) -> None:
        """Connects, and brings the image over if it is not there."""
        try:
            self._api = _connected(self._address())
            self.content = brought(self._api, image, zstd=self._reads_zstd())
        except (DockerException, requests.RequestException, OSError) as error:
            self._disconnect()
            raise Unavailable(f"{self._address()}: {_reason(error)}") from None
        except BaseException:
            self._disconnect()
            raise

    def _reads_zstd(self) -> bool:
        """Docker does since 23, whose API is 1.42."""
        major, _, minor = self._api.api_version.partition(".")
        return (int(major), int(minor)) >= (1, 42)

    def _address(self) -> str:
        return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"

    def settings(self) -> Mapping[str, str]:
        """The engine and its parts with their versions, and what each container is made with."""
        api = self._api
        version, info = api.version(), api.info()
        parts = {part["Name"]: part["Version"] for part in version.get("Components") or []}
        memory = "none" if self._memory is None else f"{self._memory} bytes, no swap"
        told = {f"version of {name}": str(words).partition("\n")[0] for name, words in parts.items() if words}
        return {
            **told,
            "version": f"{self.name} {version['Version']}, API {api.api_version}, SDK {docker.__version__}",
            "runtime": str(info.get("DefaultRuntime") or "unknown"),
            "storage": f"{info.get('Driver')}",
            "control groups": f"{info.get('CgroupDriver')}, version {info.get('CgroupVersion')}",
            "security": ", ".join(info.get("SecurityOptions") or []),
            "image": self.content.reference,
            "read-only binds": ", ".join(target for _, target in self.content.binds) or "none",
            "memory limit": memory,
            **{f"host config: {key}": str(value) for key, value in self._host_config().items() if key not in _SAID},
            "main program": " ".join((*self._own_init(), *MAIN)),
            "connections": f"one pool of {CONNECTIONS}",
        }

    def _host_config(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "network_mode": "none",
            "init": not self._own_init(),
            "pids_limit": DEFAULT_PIDS,  # as lisrt's have
            "binds": {place: {"bind": target, "mode": "ro"} for place, target in self.content.binds},
            "log_config": {"type": "none"},  # the main program says nothing, and a file for it is work
        }
        if self._memory is not None:
            options |= {"mem_limit": self._memory, "memswap_limit": self._memory}
        config: dict[str, Any] = self._api.create_host_config(**options)
        return config

    def _own_init(self) -> tuple[str, ...]:
        """What the main program is started by, where the engine can't put an init process into the container: Docker's is
        /sbin/docker-init, and a /sbin that is a link into a bind has no place for it."""
        return (self.content.init, "--") if self.content.init else ()

    def create(self) -> Container:
        """Two requests: create and start."""
        with _translated():
            program, *arguments = *self._own_init(), *MAIN
            made = self._api.create_container(
                self.content.reference,
                entrypoint=[program],
                command=arguments,
                environment=self.content.env,
                working_dir=self.content.workdir,
                labels={LABEL: self._label},
                host_config=self._host_config(),
            )
            container = Container(self._api, made["Id"])
            try:
                self._api.start(made["Id"])
            except BaseException:
                container.destroy()
                raise
            return container

    def stop(self) -> None:
        """Containers that nobody has destroyed go. The image stays, for the next time."""
        try:
            if self._api is not None:
                with contextlib.suppress(DockerException, requests.RequestException, OSError):  # it may be why we stop
                    for left in self._api.containers(all=True, filters={"label": f"{LABEL}={self._label}"}):
                        self._api.remove_container(left["Id"], force=True, v=True)
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            api.close()



def _connected(address: str) -> Any:
    options: dict[str, Any] = docker.utils.kwargs_from_env()  # for those who have theirs behind TLS
    options |= {"base_url": address, "timeout": TIMEOUT, "max_pool_size": CONNECTIONS}
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as trying:  # the SDK forgets the socket when nobody answers
            trying.connect(address.removeprefix("unix://"))
    # version="auto" asks in the constructor, which forgets its connections when there is no answer
    with contextlib.closing(docker.APIClient(**options, version=docker.constants.DEFAULT_DOCKER_API_VERSION)) as asking:
        version = asking.version(api_version=False)["ApiVersion"]
    api = docker.APIClient(**options, version=version)
    if api.base_url.startswith("http+docker:"):
        # The SDK keeps a pool of connections for each URL, and each container has URLs of its own: nothing would ever be used
        # again.
        adapter = api.get_adapter(api.base_url)
        pool = adapter.get_connection(api.base_url)
        adapter.get_connection = lambda url, proxies=None: pool
    return api


class Container:
    """One of them. Calls are the SDK's low ones, which are one request each."""

    def __init__(self, api: Any, ident: str) -> None:
        self._api = api
        self.id = ident

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> Done:
        """Create, start, inspect: what an exec is there."""
        with _translated():
            made = self._api.exec_create(self.id, list(argv), stdin=bool(stdin))["Id"]
            stdout = self._fed(made, stdin) if stdin else self._api.exec_start(made, demux=True)[0] or b""
            return Done(self._exit_code(made), stdout)

    def _fed(self, ident: str, stdin: bytes) -> bytes:
        """stdin and stdout at once: a program that answers while it reads would stop when its answer is not taken."""
        raw = self._api.exec_start(ident, socket=True)
        response = raw._response
        try:
            return _stdout_of(_exchanged(raw._sock, response.raw._fp.fp, stdin))
        finally:
            response.close()

    def _exit_code(self, ident: str) -> int:
        """The engine learns of the exit after the streams have ended, now and then a moment later."""
        deadline, pause = time.monotonic() + EXIT_WITHIN, SHORTEST_PAUSE
        while True:
            state = self._api.exec_inspect(ident)
            if state["ExitCode"] is not None and not state["Running"]:
                return int(state["ExitCode"])
            if time.monotonic() > deadline:
                raise BackendError(f"the engine has no exit code {EXIT_WITHIN:.0f} s after the output has ended")
            time.sleep(pause)  # an engine that is behind must not be kept from its work by questions
            pause = min(2 * pause, LONGEST_PAUSE)

    def write(self, path: str, data: bytes) -> None:
        """As a tar archive at /, whose missing parents the engine makes."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mtime = len(data), int(time.time())
            tar.addfile(info, io.BytesIO(data))
        self.unpack(archive.getvalue())

    def unpack(self, data: bytes) -> None:
        """As it is."""
        with _translated():
            self._api.put_archive(self.id, "/", data)

    def read(self, path: str) -> bytes:
        """Out of the tar archive that it comes in."""
        with _translated():
            chunks, _ = self._api.get_archive(self.id, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
                member = tar.next()
                file = tar.extractfile(member) if member is not None else None
                if file is None:
                    raise BackendError(f"{path} is no file")
                return file.read()

    def destroy(self) -> None:
        """Killed and removed, with its volumes. One that is gone is gone."""
        with _translated(), contextlib.suppress(NotFound):
            self._api.remove_container(self.id, force=True, v=True)


def _exchanged(sock: socket.socket, buffered: io.BufferedReader, stdin: bytes) -> bytes:
    """Sends all of stdin and its end, and receives until the other end closes. `buffered` has read the answer's header from the
    socket, and perhaps more than that."""
    sock.setblocking(False)
    received = bytearray(buffered.peek())
    rest = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            ready = selector.select(TIMEOUT)
            if not ready:
                raise TimeoutError(f"no output for {TIMEOUT} s")
            _, events = ready[0]
            if events & selectors.EVENT_WRITE:
                rest = rest[sock.send(rest[:_CHUNK]) :]
                if not rest:
                    sock.shutdown(socket.SHUT_WR)
                    selector.modify(sock, selectors.EVENT_READ)
            if events & selectors.EVENT_READ:
                chunk = sock.recv(_CHUNK)
                if not chunk:
                    return bytes(received)
                received += chunk


def _stdout_of(frames: bytes) -> bytes:
    """Of an engine's stream of frames: one byte for which stream, three of nothing, four for the length, and so many bytes."""
    stdout, at = bytearray(), 0
    while at + 8 <= len(frames):
        length = int.from_bytes(frames[at + 4 : at + 8], "big")
        if frames[at] == 1:
            stdout += frames[at + 8 : at + 8 + length]
        at += 8 + length
    return bytes(stdout)


def _reason(error: Exception) -> str:
    """The engine's words, or those of the system call that failed: the SDK wraps them three times."""
    if isinstance(error, APIError):
        return str(error.explanation or error)
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, tarfile.TarError, OSError) as error:
        raise BackendError(f"{type(error).__name__}: {_reason(error)}") from error
