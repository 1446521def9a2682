"""A systemd scope of the user's own: control groups on hosts where the user has a service manager."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time

from lisrt.kernel import cgroup

_TIMEOUT = 10.0


def wanted(enforce: str, named_group: str | None) -> str | None:
    """The name of a scope to start the spawner in; None where none is wanted, or there is no manager to ask.

    Not under Slurm unless asked for by name: a scope lies outside the job's groups, and so outside its accounting.
    """
    if enforce not in ("auto", "scope", "cgroup2") or os.geteuid() == 0:
        return None
    if enforce != "scope" and (named_group or "SLURM_JOB_ID" in os.environ or "memory" in cgroup.find(None)):
        return None
    if not cgroup.user_bus() or not shutil.which("systemd-run"):
        return None
    unit = f"lisrt-{os.getpid()}-{secrets.token_hex(4)}.scope"
    return unit if _works() else None


def command(unit: str) -> list[str]:
    """What to put before a program that is to run in the scope."""
    program = shutil.which("systemd-run") or "systemd-run"
    return [program, "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", f"--unit={unit}", "--"]


def path(unit: str) -> str | None:
    """The scope's directory below /sys/fs/cgroup, once it is there; None when it never comes."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        asked = ["systemctl", "--user", "show", "--property=ControlGroup", "--value", unit]
        shown = subprocess.run(asked, capture_output=True, text=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL).stdout.strip()
        if shown:
            return f"/sys/fs/cgroup{shown}"
    return None


def _works() -> bool:
    """A bus can be there with nobody behind it."""
    asked = ["systemctl", "--user", "is-system-running"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() in ("running", "degraded", "starting", "initializing")
