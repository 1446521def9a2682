"""AsyncSandbox: the verbs of Sandbox, awaited. tests/test_architecture.py holds the two signatures together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, overload

from lisrt import freezer, process, saving
from lisrt.box import Box
from lisrt.changes import Change
from lisrt.egress.journal import Egress
from lisrt.egress.proxy import Proxy
from lisrt.limits import Limits
from lisrt.nat.policy import Nat
from lisrt.publish import AnyPorts
from lisrt.result import ExecResult, Frozen, Transfer
from lisrt.sandbox import DEFAULT_MAX_READ
from lisrt.snapshot import Image
from lisrt.spec import Argument, Mount
from lisrt.uplink import AnyNetwork
from lisrt.waiting import adrive


class AsyncSandbox:
    """As Sandbox, for asyncio: ready when entered with `async with`. Cancelling a call kills its command's whole tree.

    One may be used from several event loops, in several threads, at once.
    """

    def __init__(
        self,
        image: str | Image | None = None,
        *,
        limits: Limits | None = None,
        network: AnyNetwork = "none",
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: int | str | None = None,
        hostname: str | None = None,
        launcher: str = "auto",
        writable: str = "disk",
        idmap: str = "single",
        ports: AnyPorts = (),
    ) -> None:
        self._box = Box(image, limits, network, mounts, env, workdir, user, hostname, launcher, writable, idmap, ports)

    async def run(
        self,
        argv: Sequence[Argument],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is PID 1 that keeps the time
        stdin: str | bytes | None = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        merge_stderr: bool = False,
        max_output: int = process.DEFAULT_MAX_OUTPUT,
    ) -> ExecResult:
        """See Sandbox.run."""
        return await adrive(self._box.run(self._box.command(argv, timeout, stdin, env, cwd, merge_stderr, max_output)))

    async def sh(
        self,
        script: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
        stdin: str | bytes | None = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        merge_stderr: bool = False,
        max_output: int = process.DEFAULT_MAX_OUTPUT,
    ) -> ExecResult:
        """See Sandbox.sh."""
        command = self._box.command(["bash", "-c", script], timeout, stdin, env, cwd, merge_stderr, max_output)
        return await adrive(self._box.sh(script, command))

    async def write(self, path: Argument, data: str | bytes, *, mode: int = 0o644) -> None:
        """See Sandbox.write."""
        await adrive(self._box.write(path, data, mode))

    async def read(self, path: Argument, *, max_bytes: int | None = DEFAULT_MAX_READ) -> bytes:
        """See Sandbox.read."""
        return await adrive(self._box.read(path, max_bytes))

    async def read_text(self, path: Argument, *, max_bytes: int | None = DEFAULT_MAX_READ, errors: str = "replace") -> str:
        """See Sandbox.read_text."""
        return (await self.read(path, max_bytes=max_bytes)).decode(errors=errors)

    async def upload(self, host_path: Argument, path: Argument) -> Transfer:
        """See Sandbox.upload."""
        return await adrive(self._box.upload(host_path, path))

    async def download(self, path: Argument, host_path: Argument, *, max_bytes: int | None = None) -> Transfer:
        """See Sandbox.download."""
        return await adrive(self._box.download(path, host_path, max_bytes))

    async def snapshot(self, name: str | None = None) -> Image:
        """See Sandbox.snapshot."""
        return await adrive(self._box.snapshot(name))

    @overload
    async def fork(self) -> AsyncSandbox: ...

    @overload
    async def fork(self, count: int) -> list[AsyncSandbox]: ...

    async def fork(self, count: int | None = None) -> AsyncSandbox | list[AsyncSandbox]:
        """See Sandbox.fork. They are ready: close them, or use `async with`."""
        made = [self._of(box) for box in await adrive(self._box.fork(1 if count is None else count))]
        return made[0] if count is None else made

    async def reset(self, to: Image | None = None) -> None:
        """See Sandbox.reset."""
        await adrive(self._box.reset(to))

    async def save(self, host_path: Argument, *, above: Argument | None = None) -> None:
        """See Sandbox.save."""
        await adrive(saving.save(self._box, os.fsdecode(host_path), None if above is None else os.fsdecode(above)))

    async def diff(self) -> list[Change]:
        """See Sandbox.diff."""
        return await adrive(self._box.diff())

    async def freeze(self) -> Frozen:
        """See Sandbox.freeze."""
        return await adrive(freezer.freeze(self._box))

    async def thaw(self) -> None:
        """See Sandbox.thaw."""
        await adrive(freezer.thaw(self._box))

    @classmethod
    def _of(cls, box: Box) -> Self:
        made = cls.__new__(cls)
        made._box = box
        return made

    async def close(self) -> None:
        """See Sandbox.close."""
        await adrive(self._box.close())

    async def set_network(self, network: Proxy | Nat | str) -> None:
        """See Sandbox.set_network."""
        await adrive(self._box.set_network(network))

    async def publish(self, port: int, host_port: int = 0) -> int:
        """See Sandbox.publish."""
        return await adrive(self._box.publish(port, host_port))

    async def unpublish(self, port: int) -> None:
        """See Sandbox.unpublish."""
        await adrive(self._box.ports.unpublish(port))

    @property
    def ports(self) -> Mapping[int, int]:
        """See Sandbox.ports."""
        return self._box.ports.listening()

    @property
    def egress(self) -> list[Egress]:
        """See Sandbox.egress."""
        return self._box.egress()

    @property
    def alive(self) -> bool:
        """See Sandbox.alive."""
        return self._box.alive

    @property
    def id(self) -> str:
        """See Sandbox.id."""
        return self._box.channel.name

    @property
    def image(self) -> str:
        """See Sandbox.image."""
        return self._box.image_name

    @property
    def workdir(self) -> str:
        """See Sandbox.workdir."""
        return self._box.workdir

    @property
    def guarantees(self) -> Mapping[str, str]:
        """See Sandbox.guarantees."""
        return self._box.guarantees()

    async def __aenter__(self) -> Self:
        if not self._box.is_open:  # one that was forked is
            await adrive(self._box.open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = f"{self.id} alive" if self.alive else "closed or not entered"
        return f"<{type(self).__name__} {self._box.image_name} {state}>"
