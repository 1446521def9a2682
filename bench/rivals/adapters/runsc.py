"""gVisor, rootless: a kernel of its own in user space, so a stronger isolation than anything else here has."""

from __future__ import annotations

from typing import Any

from adapters import oci


class Adapter(oci.Adapter):
    version = ("runsc", "--version")
    own_status = 128
    separate_files = True

    def __init__(self, options: dict[str, Any]) -> None:
        flags = oci.run(["runsc", "flags"])[1] + oci.run(["runsc", "--help"])[1]
        platform = "systrap" if b"systrap" in flags else "ptrace"
        self.command = (
            "runsc", f"--root={options['scratch']}/state", "--rootless", "--network=none", "--ignore-cgroups",
            f"--platform={platform}",
        )  # fmt: skip
        super().__init__(options)

    def settings(self) -> dict[str, str]:
        return {**super().settings(), "system calls": "gVisor's own kernel in user space"}
