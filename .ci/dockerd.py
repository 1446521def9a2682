#!/usr/bin/env python3
"""As root: `.ci/dockerd.py COMMAND...` runs the command beside a Docker engine of its own, whose socket is in $DOCKER_HOST.

The engine (Debian's docker.io) has no network, mounts in a mount namespace of its own, and everything else of it in one
directory and below one control group, which go with it. The group of the user lisrt-ci, or of $LISRT_CI_USER, may use
the socket, and by that is as good as root: so it is there for the time of one command.
"""

import contextlib
import grp
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

START, STOP = 60.0, 60.0
"""Seconds. Containers that the command has left get some of them at the stop."""
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"


def main(command: list[str]) -> int:
    """The command's status, as a shell has it."""
    if os.geteuid() != 0:
        sys.exit("dockerd: this needs root")
    if not command:
        sys.exit(f"usage: {sys.argv[0]} COMMAND...")
    if shutil.which("dockerd", path=PATH) is None:
        sys.exit("dockerd: not installed (Debian's docker.io)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end what was started
    user = os.environ.get("LISRT_CI_USER", "lisrt-ci")
    group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    # /tmp may be memory, and the storage driver overlay2 wants a disk
    with tempfile.TemporaryDirectory(prefix="lisrt-dockerd-", dir="/var/tmp") as made, engine(Path(made), group) as address:
        try:
            status = subprocess.run(command, env={**os.environ, "DOCKER_HOST": address}).returncode
        except KeyboardInterrupt:
            return 130
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def engine(place: Path, group: str) -> Iterator[str]:
    """Its address, once it has said that it is ready."""
    place.chmod(0o711)
    cgroup = f"lisrt-dockerd-{os.getpid()}"
    own_run = 'mount -t tmpfs none /run && exec "$@"'  # containerd's shims have their sockets there, whatever it is told
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", own_run, "sh"]
    command += ["dockerd", "--config-file", place / "config.json"]
    command += ["--data-root", place / "data", "--exec-root", place / "exec", "--pidfile", place / "pid"]
    command += ["--host", f"unix://{place}/sock", "--group", group, "--cgroup-parent", f"/{cgroup}"]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    (place / "config.json").write_text("{}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(place / "log", "wb") as log:
        ready.bind(f"{place}/ready")
        env = {**os.environ, "PATH": PATH, "NOTIFY_SOCKET": f"{place}/ready"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)
        try:
            await_start(process, ready, place / "log")
            yield f"unix://{place}/sock"
        finally:
            stop(process)
            remove_groups(cgroup)


def await_start(process: "subprocess.Popen[bytes]", ready: socket.socket, log: Path) -> None:
    """As the engine tells systemd: READY=1. Its end says that there is nothing to wait for."""
    ended = os.pidfd_open(process.pid)
    try:
        while True:
            readable, _, _ = select.select([ready, ended], [], [], START)
            if ready in readable and b"READY=1" in ready.recv(4096):
                return
            if ended in readable or not readable:
                sys.exit(f"dockerd: it did not start:\n{log.read_text(errors='replace')[-2000:]}")
    finally:
        os.close(ended)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Its containers and its containerd end with it."""
    process.terminate()
    try:
        process.wait(timeout=STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        print("dockerd: it did not end, and was killed", file=sys.stderr)


def remove_groups(name: str) -> None:
    """Of every hierarchy, the deepest first: those of containers are gone with them, their parent the engine leaves."""
    for top in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for at, _, _ in os.walk(top, topdown=False):
            os.rmdir(at)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
