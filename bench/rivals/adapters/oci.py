"""OCI runtimes by their command line, as there is nothing else: run, exec, delete. This process is root of a user namespace, and
has a mount namespace and a pid namespace of its own, which take the rest along when it ends."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MNT_DETACH = 2
MAIN = ("sleep", "2147483647")
INITS = ("docker-init", "tini-static", "catatonit")
"""Statically linked: one is bound into the root."""
_DEVICES = ["nosuid", "strictatime", "mode=755", "size=65536k"]
_libc = ctypes.CDLL(None, use_errno=True)


class Adapter:
    """`command` is the runtime with its global options."""

    command: tuple[str, ...]
    version: tuple[str, ...]
    own_status: int | None = None
    """What the runtime exits with when it is itself that fails, where programs hardly do."""
    separate_files = False
    """Whether what is written from outside may stay unseen inside."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.place = Path(options["scratch"])
        self._numbers = itertools.count()
        self._init = next(filter(None, map(shutil.which, INITS)), "")
        self._words = ""

    def start(self) -> None:
        hybrid = "/sys/fs/cgroup/unified"
        if os.path.isdir(hybrid):  # crun refuses where both versions are mounted, even if it is to use none
            mount("none", hybrid, "tmpfs", "")
        self._words = run([*self.version])[1].decode().splitlines()[0]

    def settings(self) -> dict[str, str]:
        memory = "none: an ordinary user has no control groups" if self.options["memory"] is not None else "none"
        return {
            "version": self._words,
            "told": " ".join(self.command[1:]).replace(str(self.place), "DIR"),
            "main program": " ".join(("/run/init --", *MAIN) if self._init else MAIN),
            "namespaces": "pid, network (loopback down), ipc, uts, mount; one user namespace for all",
            "root": "an overlay that is mounted for it",
            "memory limit": memory,
            "system calls": "not filtered",
        }

    def create(self) -> Container:
        return Container(self, f"c{next(self._numbers)}")

    def bundle(self, root: str) -> dict[str, Any]:
        options = self.options
        binds = [(source, target, "rbind") for source, target in options["binds"]]
        binds += [(self._init, "/run/init", "bind")] if self._init else []
        mounts = [
            {"destination": target, "type": "bind", "source": source, "options": [kind, "ro"]} for source, target, kind in binds
        ]
        mounts += [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": _DEVICES},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777", "size=65536k"]},
        ]
        return {
            "ociVersion": "1.0.0",
            "hostname": "sandbox",
            "root": {"path": root, "readonly": False},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": [*(("/run/init", "--") if self._init else ()), *MAIN],
                "env": [f"{name}={value}" for name, value in options["env"].items()],
                "cwd": options["workdir"],
                "noNewPrivileges": True,
                "capabilities": {},
            },
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
        }

    def stop(self) -> None:
        """Its containers are gone; the rest ends with the namespaces."""


class Container:
    """An overlay, a bundle, and `run --detach`, which is create and start in one."""

    def __init__(self, adapter: Adapter, name: str) -> None:
        self._adapter = adapter
        self._name = name
        self._place = adapter.place / name
        for part in ("upper", "work", "root"):
            (self._place / part).mkdir(parents=True)
        self._root = self._place / "root"
        layers = ":".join(adapter.options["layers"])
        mount("overlay", str(self._root), "overlay", f"lowerdir={layers},upperdir={self._place}/upper,workdir={self._place}/work")
        (self._root / adapter.options["workdir"].lstrip("/")).mkdir(parents=True, exist_ok=True)
        (self._place / "config.json").write_text(json.dumps(adapter.bundle(str(self._root))))
        self._runtime("run", "--detach", f"--bundle={self._place}", name)

    def _runtime(self, *arguments: str) -> None:
        """Its stdio is /dev/null: a detached container keeps what it is given."""
        with open(self._place / "log", "w+b") as log:
            status = subprocess.run([*self._adapter.command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if status.returncode != 0:
                log.seek(0)
                raise RuntimeError(log.read().decode(errors="replace") or f"{arguments[0]}: {status.returncode}")

    def run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        cwd = self._adapter.options["workdir"]
        status, stdout = run([*self._adapter.command, "exec", f"--cwd={cwd}", self._name, *argv], stdin)
        if status == self._adapter.own_status:
            raise RuntimeError("exec: the runtime failed, not the program")
        return status, stdout

    def write(self, path: str, data: bytes) -> None:
        if self._adapter.separate_files:
            script = 'mkdir -p "$(dirname "$0")" && cat > "$0"'
            if self.run(["sh", "-c", script, path], data)[0] != 0:
                raise RuntimeError(f"{path} could not be written")
            return
        file = self._root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def read(self, path: str) -> bytes:
        if self._adapter.separate_files:
            status, data = self.run(["cat", path], b"")
            if status != 0:
                raise RuntimeError(f"{path} could not be read")
            return data
        return (self._root / path.lstrip("/")).read_bytes()

    def destroy(self) -> None:
        self._runtime("delete", "--force", self._name)
        if _libc.umount2(os.fsencode(self._root), MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), "umount")
        os.chmod(self._place / "work/work", 0o700)
        shutil.rmtree(self._place)


def mount(source: str, target: str, kind: str, options: str) -> None:
    """mount(2). OSError."""
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), 0, os.fsencode(options)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}, when mounting {kind}")


def run(command: Sequence[str], stdin: bytes = b"") -> tuple[int, bytes]:
    """Its status, as shells have it, and stdout."""
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return (done.returncode if done.returncode >= 0 else 128 - done.returncode), done.stdout
