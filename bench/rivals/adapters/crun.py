"""crun, rootless."""

from __future__ import annotations

from typing import Any

from adapters import oci


class Adapter(oci.Adapter):
    version = ("crun", "--version")

    def __init__(self, options: dict[str, Any]) -> None:
        self.command = ("crun", f"--root={options['scratch']}/state", "--cgroup-manager=disabled")
        super().__init__(options)
