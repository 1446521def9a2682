"""Podman, by the same SDK: a service of our own, as this user, on a socket that nobody else knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lisrt.bench.backend import Unavailable
from lisrt.bench.backends.docker import Docker

STOP_WITHIN = 30.0
VERSION_2 = Path("/sys/fs/cgroup/cgroup.controllers")
"""Without it podman can hold nothing to limits as an ordinary user."""
PAUSES = ("podman", "podman pause", "catatonit")
"""What podman's pause process is called: it is catatonit where that is installed."""
HYBRID = Path("/sys/fs/cgroup/unified/cgroup.controllers")
"""Both versions at once: crun, podman's default, refuses to work there."""
BACKLOG = 1024
_TO_FD_3 = 'exec 3<&0 0</dev/null; LISTEN_PID=$$ exec "$@"'
"""A socket that is passed has to be descriptor 3, and the process must be named."""


class Podman(Docker):
    """`podman system service`, with images and containers in a directory of its own, which goes with it."""

    name = "podman"

    def __init__(self, memory: int | None) -> None:
        super().__init__(memory)
        self._place: Path | None = None
        self._service: subprocess.Popen[bytes] | None = None

    def start(self, image: str | None) -> None:
        """Starts the service, and loads the image: each time anew, for the directory is."""
        if shutil.which("podman") is None:
            raise Unavailable("podman is not installed")
        # not below $TMPDIR, which may be memory, and overlays want a disk
        self._place = Path(tempfile.mkdtemp(prefix="lisrt-podman-", dir="/var/tmp"))
        try:
            self._service = self._serve(self._place)
            super().start(image)
        except Unavailable as error:
            said = self._said()
            self.stop()
            raise Unavailable(f"{error}: {said}" if said else str(error)) from None
        except BaseException:
            self.stop()
            raise

    def _address(self) -> str:
        return f"unix://{self._place}/sock"

    def _reads_zstd(self) -> bool:
        return True

    def _own_init(self) -> tuple[str, ...]:
        """None: podman's is in /run."""
        return ()

    def _serve(self, place: Path) -> subprocess.Popen[bytes]:
        """The socket is ours, and passed as systemd would pass it: who connects before it is ready waits, and who connects
        to one that has died is refused."""
        (place / "run").mkdir(mode=0o700)
        (place / "containers.conf").write_text('[engine]\nruntime = "runc"\n' if HYBRID.exists() else "")
        with socket.socket(socket.AF_UNIX) as listening, open(place / "log", "wb") as log:
            listening.bind(str(place / "sock"))
            listening.listen(BACKLOG)
            return subprocess.Popen(
                ["sh", "-c", _TO_FD_3, "sh", *self._command("system", "service", "--time=0")],
                stdin=listening.fileno(),
                stdout=log,
                stderr=log,
                env={**self._environment(), "LISTEN_FDS": "1"},
                start_new_session=True,
            )

    def _command(self, *arguments: str) -> list[str]:
        place = self._place
        return [
            "podman",
            f"--root={place}/storage",
            f"--runroot={place}/run/containers",
            "--cgroup-manager=cgroupfs",  # there may be no systemd
            "--storage-driver=overlay",  # its default, vfs, would copy the image for each container
            "--storage-opt=overlay.ignore_chown_errors=true",  # for users without subordinate ids
            *arguments,
        ]

    def _environment(self) -> Mapping[str, str]:
        """With a home of its own: settings and caches are this user's, and of other runs."""
        place = str(self._place)
        own = {"HOME": place, "TMPDIR": place, "XDG_RUNTIME_DIR": f"{place}/run", "CONTAINERS_CONF": f"{place}/containers.conf"}
        return {**os.environ, **own}

    def settings(self) -> Mapping[str, str]:
        """And what of them is not in force here."""
        rootless = "as root" if os.geteuid() == 0 else "as an ordinary user"
        held = "in force" if VERSION_2.exists() else "not in force: control groups are of version 1 here"
        return {**super().settings(), "started": rootless, "limits": held}

    def _said(self) -> str:
        """The service's last words."""
        lines = (self._place / "log").read_text(errors="replace").splitlines() if self._place else []
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """The service and podman's pause process end; what belongs to subordinate ids is deleted by its own means."""
        super().stop()
        service, self._service = self._service, None
        if service is not None:
            _end(service)
        place = self._place
        if place is None:
            return
        _end_monitors(place)
        # in podman's namespaces, where its mounts can be undone, too
        script = 'umount --all-targets --recursive "$0/overlay" 2>/dev/null; rm -rf "$0"'
        subprocess.run(
            self._command("unshare", "sh", "-c", script, f"{place}/storage"),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        with contextlib.suppress(OSError, ValueError):  # podman's pause process, which holds its namespaces until it is killed
            pid = int((place / "run/libpod/tmp/pause.pid").read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() in PAUSES:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(place, ignore_errors=True)
        self._place = None


def _end(service: subprocess.Popen[bytes]) -> None:
    """Its process group: the service is a child of what was started, and need not hear of its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        service.wait(STOP_WITHIN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGKILL)
    service.wait()


def _end_monitors(place: Path) -> None:
    """Two processes for each command that has run wait for five minutes, in case somebody asks how it ended, and then would start
    podman. They name our directory, which nobody else's do."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if name.isdigit() and os.fsencode(f"{place}/storage") in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0"):
                os.kill(int(name), signal.SIGKILL)
