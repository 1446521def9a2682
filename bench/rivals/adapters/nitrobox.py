"""nitrobox: user namespaces, an overlay, and a shell that stays; images by a buildkit of its own."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters import with_stdin

IMAGE = "lisrt-bench:1"


class Adapter:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._images: Any = None
        self._make: Any = None
        self._config: Any = None
        self._features: dict[str, Any] = {}
        self._names = itertools.count()

    def start(self) -> None:
        options = self._options
        os.environ["XDG_DATA_HOME"] = f"{options['scratch']}/data"
        from nitrobox import Sandbox, SandboxConfig
        from nitrobox.image.buildkit import BuildKitManager

        self._images = BuildKitManager.get()
        self._make = Sandbox
        self._images.build(str(self._context()), "Dockerfile", IMAGE)
        self._config = SandboxConfig(
            image=IMAGE,
            working_dir=options["workdir"],
            environment=options["env"],
            volumes=[f"{source}:{target}:ro" for source, target in options["binds"]],
            net_isolate=True,
            hostname="sandbox",
            env_base_dir=f"{options['scratch']}/boxes",
            memory_max=None if options["memory"] is None else str(options["memory"]),
        )
        first = self.create()
        self._features = dict(first.box.features)
        first.destroy()

    def _context(self) -> Path:
        """The layers as tarballs, all root's. Of several layers each is added above the others: what they delete stays."""
        place = Path(self._options["scratch"]) / "context"
        place.mkdir()
        lines = ["FROM scratch"]
        for number, layer in enumerate(reversed(self._options["layers"])):
            name = f"layer{number}.tar"
            with tarfile.open(place / name, "w") as tar:
                tar.add(layer, arcname=".", filter=_ours)
                if self._options["is_host"]:
                    # It looks for bash before /usr is bound, and else takes sh, which, where it is dash, can't read
                    # descriptors above 9: there could be one sandbox at a time.
                    tar.addfile(tarfile.TarInfo("./usr/bin/bash"))
            lines.append(f"ADD {name} /")
        (place / "Dockerfile").write_text("\n".join(lines) + "\n")
        return place

    def settings(self) -> dict[str, str]:
        return {
            "version": f"nitrobox {importlib.metadata.version('nitrobox')}",
            "features": ", ".join(f"{name}={value}" for name, value in sorted(self._features.items())),
            "commands": "as shell commands of its persistent shell; stderr comes with stdout, as text",
            "memory limit": "none" if self._options["memory"] is None else "asked for; cgroup_v2 above says whether it holds",
            "stdin": "it has none: a file, written before",
        }

    def create(self) -> Instance:
        return Instance(self._make(self._config, name=f"bench-{next(self._names)}"))

    def stop(self) -> None:
        if self._images is not None:
            self._images.stop()
        from nitrobox.image.layers import rmtree_mapped

        for name in ("data", "boxes"):
            rmtree_mapped(f"{self._options['scratch']}/{name}")
        shutil.rmtree(f"/tmp/nitrobox-buildkitd-{os.getuid()}", ignore_errors=True)


def _ours(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Root's, and without overlayfs's marks for what is deleted, which its buildkit may not make."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return None if info.ischr() else info


class Instance:
    def __init__(self, box: Any) -> None:
        self.box = box

    def run(self, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
        command: str | list[str] = list(argv)
        if stdin:
            self.write("/tmp/.stdin", stdin)
            command = with_stdin(argv, "/tmp/.stdin")
        stdout, status = self.box.run(command)
        return status, stdout.encode(errors="surrogateescape")

    def write(self, path: str, data: bytes) -> None:
        self.box.write_file(path, data)

    def read(self, path: str) -> bytes:
        return self.box.read_file(path).encode("latin-1")

    def destroy(self) -> None:
        self.box.delete()
