"""Sandbox: one root file system, one PID 1, many commands. What `AsyncSandbox` (aio.py) awaits is here, too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from lisrt import channel, files, guarantees, process, spawner, transfer
from lisrt.enforcement import Enforcement, choose, wants_groups
from lisrt.errors import SandboxGone
from lisrt.explain import limit_error
from lisrt.image import Image, resolve_name
from lisrt.kernel.bubblewrap import Program
from lisrt.limits import Limits
from lisrt.plan import NETWORKS, Plan, make_plan
from lisrt.result import ExecResult, Transfer
from lisrt.spec import Argument, Mount, absolute, arguments, environment, located, permissions, seconds, uid
from lisrt.waiting import Flow, Offload, drive

DEFAULT_MAX_READ = 64 << 20
NAME_SERVICE = ("/etc/resolv.conf", "/etc/hosts")


class Box:
    """The flows that both faces drive. Not for users."""

    def __init__(
        self,
        image: str | None,
        limits: Limits | None,
        network: str,
        mounts: Sequence[Mount],
        env: Mapping[str, str] | None,
        workdir: str,
        user: int,
        hostname: str | None,
        launcher: str,
    ) -> None:
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError('limits is a Limits object: limits=Limits(memory="200MiB")')
        self.limits = limits or Limits()
        self.by = Enforcement()
        self.image_name = resolve_name(image)
        if network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}: {network!r}")
        self.launcher = spawner.resolve(launcher)
        self.bubblewrap: Program | None = None
        self.network = network
        if isinstance(mounts, Mount):
            raise TypeError("mounts is a list: mounts=[Mount('/data', '/data')]")
        self.mounts = tuple(mounts)
        if not all(isinstance(mount, Mount) for mount in self.mounts):
            raise TypeError("mounts are Mount objects: mounts=[Mount('/data', '/data')]")
        if network == "host":
            self.mounts += _name_service(self.mounts)
        self.extra_env = environment(env)
        self.workdir = absolute(workdir, what="workdir")
        self.user = uid(user)
        self.hostname = hostname or "sandbox"
        if not 0 < len(os.fsencode(self.hostname)) <= 64 or "\0" in self.hostname:
            raise ValueError(f"a host name has 1 to 64 bytes: {self.hostname!r}")
        self.env: dict[bytes, bytes] = {}
        self.shell: list[bytes] | None = None
        self.scratch = ""
        self._channel: channel.Channel | None = None
        self._closed = False

    @property
    def channel(self) -> channel.Channel:
        if self._channel is None:
            raise SandboxGone("the sandbox is closed" if self._closed else "the sandbox was not entered: use `async with`")
        return self._channel

    @property
    def alive(self) -> bool:
        return self._channel is not None and self._channel.alive

    def open(self) -> Flow[None]:
        for last_try in (False, True):
            home = yield from self._home()
            try:
                image = home.image(self.image_name)
                self._channel = yield from channel.create(home, self.plan(image), trusted=image.trusted)
                return
            except SandboxGone:
                if last_try or not (yield Offload(partial(home.dead_within, 0.1))):
                    raise  # else somebody has killed the spawner: that was not this sandbox's fault, so another one
            except OSError as error:
                raise limit_error(error, "make a sandbox") or error from None

    def _home(self) -> Flow[spawner.Spawner]:
        # the common case without a worker thread: a spawner that runs and has the image ready
        home = spawner.running(self.launcher)
        if home is None or not home.has_image(self.image_name):
            home = yield Offload(partial(spawner.current, self.launcher))
            yield Offload(lambda: home.image(self.image_name))
        self.by = choose(self.limits, (yield from self._controllers(home)))
        image = home.image(self.image_name)
        self.env = {**environment(dict(image.env)), **_identity(self.user), **self.extra_env}
        self.scratch = home.scratch
        self.bubblewrap = home.bubblewrap
        return home

    def settle(self) -> Flow[Image]:
        """Has everything chosen and prepared that a plan is made from; makes nothing."""
        return (yield from self._home()).image(self.image_name)

    def _controllers(self, home: spawner.Spawner) -> Flow[Mapping[str, int]]:
        if not wants_groups(self.limits):
            return {}
        known = home.known_controllers(self.limits.enforce)
        return known if known is not None else (yield Offload(partial(home.find_controllers, self.limits.enforce)))

    def plan(self, image: Image) -> Plan:
        return make_plan(
            image,
            network=self.network,
            mounts=self.mounts,
            workdir=self.workdir,
            user=self.user,
            hostname=self.hostname,
            limits=self.limits,
            by=self.by,
        )

    def close(self) -> Flow[None]:
        self._closed = True
        if self._channel is not None:
            yield from self._channel.close()

    def command(
        self,
        argv: Sequence[Argument],
        timeout: float | None,
        stdin: str | bytes | None,
        env: Mapping[str, str] | None,
        cwd: str | None,
        merge_stderr: bool,
        max_output: int,
    ) -> process.Command:
        stdin = b"" if stdin is None else stdin
        if not isinstance(stdin, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"stdin is str, bytes or None, not {type(stdin).__name__}")
        if max_output < 0:
            raise ValueError(f"max_output must be 0 or above: {max_output!r}")
        variables = {**self.env, **environment(env)}
        return process.Command(
            argv=arguments(argv),
            env=[name + b"=" + value for name, value in variables.items()],
            cwd=os.fsencode(self.workdir) if cwd is None else located(cwd, base=self.workdir),
            stdin=stdin.encode() if isinstance(stdin, str) else bytes(stdin),
            timeout=_shorter(seconds(timeout), self.limits.wall_time),
            merge_stderr=merge_stderr,
            max_output=max_output,
            limits=self.limits,
        )

    def memory(self) -> Flow[int]:
        """Bytes that PID 1 takes, its share of shared pages counted (PSS)."""
        return (yield from process.memory(self.channel))

    def run(self, command: process.Command) -> Flow[ExecResult]:
        return (yield from process.execute(self.channel, command))

    def sh(self, script: str, command: process.Command) -> Flow[ExecResult]:
        for shell in ([self.shell] if self.shell else [[b"bash", b"-c"], [b"sh", b"-c"]]):
            command.argv[:] = [*shell, os.fsencode(script)]
            result = yield from process.execute(self.channel, command)
            if result.started:
                self.shell = shell
                break
        return result

    def write(self, path: Argument, data: str | bytes, mode: int) -> Flow[None]:
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError("data is str or bytes")
        raw = data.encode() if isinstance(data, str) else bytes(data)
        yield from files.write(self.channel, located(path, base=self.workdir), raw, permissions(mode))

    def read(self, path: Argument, max_bytes: int | None) -> Flow[bytes]:
        return (yield from files.read(self.channel, located(path, base=self.workdir), max_bytes))

    def upload(self, host_path: Argument, path: Argument) -> Flow[Transfer]:
        target = located(path, base=self.workdir)
        return (yield from transfer.upload(self.channel, os.fsdecode(host_path), target))

    def download(self, path: Argument, host_path: Argument, max_bytes: int | None) -> Flow[Transfer]:
        source = located(path, base=self.workdir)
        return (yield from transfer.download(self.channel, source, os.fsdecode(host_path), max_bytes))

    def guarantees(self) -> Mapping[str, str]:
        if self._channel is None:
            _ = self.channel  # raises: nothing has been chosen yet
        return guarantees.rows(
            limits=self.limits,
            by=self.by,
            network=self.network,
            user=self.user,
            mounts=self.mounts,
            scratch=self.scratch,
            program=self.bubblewrap,
            asked_for=self.launcher,
        )


def _shorter(timeout: float | None, wall_time: float | None) -> float | None:
    times = [time for time in (timeout, wall_time) if time is not None]
    return min(times, default=None)


def _identity(user: int) -> dict[bytes, bytes]:
    """What programs of another user than root find in their environment; image `host` has an entry for uid 1000."""
    return environment({"HOME": "/home/user", "USER": "user", "LOGNAME": "user"}) if user else {}


def _name_service(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """The host's name servers and hosts, which no image holds: on its network they are needed."""
    covered = tuple(mount.target for mount in mounts)
    wanted = (path for path in NAME_SERVICE if path not in covered and os.path.dirname(path) not in covered)
    return tuple(Mount(path, path) for path in wanted if os.path.exists(path))


class Sandbox:
    """An isolated Linux environment of one's own, ready when the constructor returns. Close it, or use `with`.

    Args:
        image: name of an image; None means `$LISRT_IMAGE`, then the settings file, then `host`.
        limits: how much memory, CPU, processes, disk it may use; by default 1024 processes and threads, and nothing else.
        network: "none" (own loopback only, the default) or "host" (no isolation; with the host's resolv.conf and hosts).
        mounts: host directories and files to show, see Mount.
        env: variables for all commands, over the image's. Nothing of the host's environment is passed on.
        workdir: where commands start; made if it is missing.
        user: the uid and gid that programs see. 0 is a root without any privilege; outside it is always your own uid.
            For another one HOME is /home/user. Either way all files are its own: there is one user in a sandbox.
        hostname: the host name inside; "sandbox" by default.
        launcher: "native"; "bwrap" for bubblewrap; "auto", the default, is `$LISRT_LAUNCHER`, the settings file's, or else
            native where that works, and bwrap where it does not. `guarantees` says which it was, and why.

    Raises:
        ValueError, TypeError: an argument that can't be right.
        ImageError: an unknown image.
        HostError: this host can't do it; the message has the fix.
        SetupError: a stage of the setup failed.

    All methods may be called from many threads at once. A closed or dead sandbox raises SandboxGone. In a program with an
    event loop use AsyncSandbox: a thread that waits in `run` can't be cancelled, and its command runs on; `timeout` ends it.
    """

    def __init__(
        self,
        image: str | None = None,
        *,
        limits: Limits | None = None,
        network: str = "none",
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        workdir: str = "/testbed",
        user: int = 0,
        hostname: str | None = None,
        launcher: str = "auto",
    ) -> None:
        self._box = Box(image, limits, network, mounts, env, workdir, user, hostname, launcher)
        drive(self._box.open())

    def run(
        self,
        argv: Sequence[Argument],
        *,
        timeout: float | None = None,
        stdin: str | bytes | None = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        merge_stderr: bool = False,
        max_output: int = process.DEFAULT_MAX_OUTPUT,
    ) -> ExecResult:
        """Runs one program to its end, without a shell.

        It is over when its own process exits; children it leaves behind live on. At the time limit its whole tree is
        killed, whatever sessions and process groups it has made, and the result holds the output so far.

        Args:
            argv: program and arguments; the program is looked for in PATH.
            timeout: seconds, above 0; None for no limit.
            stdin: what the program reads; by default nothing.
            env: variables over the sandbox's.
            cwd: where to start, absolute or relative to the workdir.
            merge_stderr: stderr goes to stdout, in order.
            max_output: bytes to keep of each stream, 1 MiB by default; of more, the head and the tail stay, the result is
                `truncated`, and its text says where. Let a program write large results to a file, and `read` that.

        Raises:
            ValueError, TypeError: an argument that no program can receive, a timeout of 0 or below.
            PermissionError: the program is no executable file. OSError (ENOEXEC): nor one that the kernel understands.
                A program that is not there at all is a result: exit code 127, `started` False.
            FileNotFoundError, NotADirectoryError: the cwd.
            SandboxGone: the sandbox died, or was closed.
        """
        return drive(self._box.run(self._box.command(argv, timeout, stdin, env, cwd, merge_stderr, max_output)))

    def sh(
        self,
        script: str,
        *,
        timeout: float | None = None,
        stdin: str | bytes | None = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        merge_stderr: bool = False,
        max_output: int = process.DEFAULT_MAX_OUTPUT,
    ) -> ExecResult:
        """Runs one script with `bash -c`, or `sh -c` where the image has no bash. Else as `run`."""
        command = self._box.command(["bash", "-c", script], timeout, stdin, env, cwd, merge_stderr, max_output)
        return drive(self._box.sh(script, command))

    def write(self, path: Argument, data: str | bytes, *, mode: int = 0o644) -> None:
        """Writes a whole file; parents are made. `mode`, at most 0o777, is for a new file. OSError with the path; ValueError."""
        drive(self._box.write(path, data, mode))

    def read(self, path: Argument, *, max_bytes: int | None = DEFAULT_MAX_READ) -> bytes:
        """A whole file. OSError with the path; EFBIG for one of more than `max_bytes`, 64 MiB by default (None: any size)."""
        return drive(self._box.read(path, max_bytes))

    def read_text(self, path: Argument, *, max_bytes: int | None = DEFAULT_MAX_READ, errors: str = "replace") -> str:
        """A whole file as UTF-8 text; `errors` as in bytes.decode."""
        return self.read(path, max_bytes=max_bytes).decode(errors=errors)

    def upload(self, host_path: Argument, path: Argument) -> Transfer:
        """Copies a host file to `path`, or what is in a host directory into the directory `path`.

        Links in a tree stay links. Everything is checked to be readable before anything is written.
        """
        return drive(self._box.upload(host_path, path))

    def download(self, path: Argument, host_path: Argument, *, max_bytes: int | None = None) -> Transfer:
        """Copies a file to `host_path`, or what is in the directory `path` into the host directory `host_path`.

        Links that lead out of the tree, devices, FIFOs and sockets stay behind: see `Transfer.skipped`. More than
        `max_bytes` in all is an OSError (EFBIG).
        """
        return drive(self._box.download(path, host_path, max_bytes))

    def close(self) -> None:
        """Kills everything in the sandbox and forgets its files. Again is allowed, and does nothing."""
        drive(self._box.close())

    @property
    def alive(self) -> bool:
        """Whether commands can be run."""
        return self._box.alive

    @property
    def id(self) -> str:
        """A name that no other sandbox has."""
        return self._box.channel.name

    @property
    def image(self) -> str:
        """The image's name."""
        return self._box.image_name

    @property
    def workdir(self) -> str:
        """Where commands start, and what relative paths are relative to."""
        return self._box.workdir

    @property
    def guarantees(self) -> Mapping[str, str]:
        """What is enforced here, and how; and what is not."""
        return self._box.guarantees()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self.id} alive" if self.alive else "closed"
        return f"<{type(self).__name__} {self._box.image_name} {state}>"
