"""Sandbox: one root file system, one PID 1, many commands. What `AsyncSandbox` (aio.py) awaits is in box.py, as this."""

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
from lisrt.snapshot import Image
from lisrt.spec import Argument, Mount
from lisrt.uplink import AnyNetwork
from lisrt.waiting import drive

DEFAULT_MAX_READ = 64 << 20


class Sandbox:
    """An isolated Linux environment of one's own, ready when the constructor returns. Close it, or use `with`.

    Args:
        image: name or id of an image (`lisrt image ls`), or a snapshot, which has files and no options: user, env, workdir
            and the rest are this sandbox's own. None means `$LISRT_IMAGE`, then the settings file, then `host`. One that
            is new on this host is unpacked first.
        limits: how much memory, CPU, processes, disk it may use; by default 1024 processes and threads, and nothing else.
        network: "none" (own loopback only, the default); a Proxy, through which programs reach what it allows; "nat" or a Nat
            (any public address); a NetworkGroup, with other sandboxes; "filtered" (none, where the site forbids network
            namespaces: weaker); or "host" (no isolation; with the host's resolv.conf and hosts).
        mounts: host directories and files to show, see Mount.
        env: variables for all commands, over the image's. Nothing of the host's environment is passed on.
        workdir: where commands start; made if it is missing. By default the image's, or /testbed.
        user: the uid that programs see, or a name in the image's /etc/passwd, which also has its gid and HOME; by default
            the image's, or 0: a root without any privilege. Outside it is always your own uid, and inside all files are
            its own: there is one user in a sandbox.
        hostname: the host name inside; "sandbox" by default.
        launcher: "native"; "bwrap" for bubblewrap; "auto", the default, is `$LISRT_LAUNCHER`, the settings file's, or else
            native where that works, and bwrap where it does not. `guarantees` says which it was, and why.
        writable: where what it writes is kept: "disk", the scratch directory, or "tmpfs:SIZE", memory that goes with its
            processes, so without snapshots. A control group counts it as the sandbox's memory, the watchdog does not. Or "none":
            all files are read-only, those in /tmp and /dev/shm too; what programs need comes by mounts.
        idmap: "single", one user, whatever programs call themselves, or "subuid": as many as /etc/subuid gives this user, where
            newuidmap is installed. Then chown and setuid are real, and `user` is who commands and files are. An image that is
            kept in the store has root's files only, and can't be made where other users' are unreadable to all others.
        ports: of the sandbox that programs of this host reach, see `publish`: a list of them, each on any free port of the
            host, or a dict that says on which, {8080: 18080}. OSError where that is taken; ValueError with network="host".

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

    def snapshot(self, name: str | None = None) -> Image:
        """Freezes the files as they are now; the sandbox goes on above them. Takes as long for a gigabyte as for a byte.

        All its processes end, those that commands have left in the background, too: a snapshot has files, nothing else.
        Mounts are no part of it. The limit on disk counts anew.

        Args:
            name: keeps it in the store as well, under that name, which takes as long as compressing the files does.

        Raises:
            SandboxBusy: commands or transfers are running; nothing has happened.
            SandboxGone, HostError, SetupError, ImageError: `alive` says whether the sandbox could be started again. When
                Ctrl-C or a cancellation comes in between, it is started again with its files.
        """
        return drive(self._box.snapshot(name))

    @overload
    def fork(self) -> Sandbox: ...

    @overload
    def fork(self, count: int) -> list[Sandbox]: ...

    def fork(self, count: int | None = None) -> Sandbox | list[Sandbox]:
        """Another sandbox that begins with this one's files, or a list of so many; independent from then on.

        As `snapshot`: this one's processes end, and the others begin without any. Settings, limits and mounts are the
        same. Close each of them. This one is started again in the background: its next call waits for that, or raises
        SandboxGone with the reason why it failed.
        """
        made = [self._of(box) for box in drive(self._box.fork(1 if count is None else count))]
        return made[0] if count is None else made

    def reset(self, to: Image | None = None) -> None:
        """Back to the last snapshot (or fork), or to how the sandbox began; or to another snapshot, `to`. Processes end.

        Raises SandboxBusy, SandboxGone, ImageError.
        """
        drive(self._box.reset(to))

    def save(self, host_path: Argument, *, above: Argument | None = None) -> None:
        """Keeps all that it has written in a directory of the host, in place of what was saved there before.

        Unlike a snapshot it ends no program and outlives this process, and takes as long as compressing does. Programs that write
        meanwhile may have their files saved in part. `lisrt.saving.restore` makes an image of it; to save a sandbox
        of such an image name that directory as `above`. Raises HostError where files are in memory or copied, ImageError,
        OSError.
        """
        drive(saving.save(self._box, os.fsdecode(host_path), None if above is None else os.fsdecode(above)))

    def diff(self) -> list[Change]:
        """What was written since the last snapshot (or fork), or since the start: paths that were added, modified, deleted.

        Raises HostError under a bubblewrap that can't mount overlays; ImageError where other users' files can't be read
        (idmap="subuid").
        """
        return drive(self._box.diff())

    def freeze(self) -> Frozen:
        """Stops all programs that commands have left behind (SIGSTOP), for as long as nobody needs them: while a model thinks,
        say.

        They use no CPU then. Where a control group limits the sandbox's memory, the kernel also takes back what it can of that:
        what it has cached of files, and where the host has swap, the rest. Files can be read and written meanwhile. Programs go
        on with `thaw`, or by themselves when the next command begins or somebody connects to a published port; also those that
        had stopped themselves. A connection that is open already gets no answer until then. Clocks run on. A snapshot, fork or
        reset ends them as ever.

        It saves a host from idle programs, not from hostile ones: a timer can be set to send SIGCONT.

        Raises SandboxBusy while commands or transfers run, SandboxGone, OSError.
        """
        return drive(freezer.freeze(self._box))

    def thaw(self) -> None:
        """Has what `freeze` stopped go on. Does nothing to a sandbox that is not frozen. SandboxBusy while it is being frozen."""
        drive(freezer.thaw(self._box))

    @classmethod
    def _of(cls, box: Box) -> Self:
        made = cls.__new__(cls)
        made._box = box
        return made

    def close(self) -> None:
        """Kills everything in the sandbox and forgets its files. Again is allowed, and does nothing."""
        drive(self._box.close())

    def set_network(self, network: Proxy | Nat | str) -> None:
        """Other rules from now on: a Proxy for a sandbox that was made with one, a Nat or "nat" for one that was made with that;
        "none" for none. Connections that they would not allow have ended when it returns (Proxy), or get no packet through any
        more (nat). ValueError for any other."""
        drive(self._box.set_network(network))

    def publish(self, port: int, host_port: int = 0) -> int:
        """Has programs of this host reach what listens on a port of the sandbox. Returns the port of the host that leads there,
        the given one or any free one; `ports` has it, too.

        TCP only, and loopback only: it listens on 127.0.0.1 of this host, where each of the host's users can connect, and what
        is reached is what listens on 127.0.0.1 (or on all addresses) inside. Programs there see a client of their own loopback;
        nothing they do makes this host connect anywhere. Who connects while nobody listens inside sees the connection end at
        once. At most 256 connections are served at a time, more wait; one on which no byte goes either way for 600 s is ended. A
        snapshot or reset ends connections, as it ends the programs, and keeps the port; forks have none.

        Raises OSError with the address (EADDRINUSE, EACCES), ValueError for what is no port, is published already, or with
        network="host", SandboxBusy, SandboxGone.
        """
        return drive(self._box.publish(port, host_port))

    def unpublish(self, port: int) -> None:
        """That port of the sandbox is not to be reached any more: its connections end, and that of the host is free. Does nothing
        to one that is not published."""
        drive(self._box.ports.unpublish(port))

    @property
    def ports(self) -> Mapping[int, int]:
        """By port of the sandbox that is published, the one of the host, on 127.0.0.1."""
        return self._box.ports.listening()

    @property
    def egress(self) -> list[Egress]:
        """What programs have asked of a Proxy, allowed and denied: the last 10,000."""
        return self._box.egress()

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
        """The name of the image that it began with."""
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
