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
    """The name of a scope for the spawner; None where none is wanted, or there is no manager to ask.

    Not under Slurm unless asked for by name: a scope lies outside the job's groups, and so outside its accounting.
    """
    if enforce not in ("auto", "scope", "cgroup2") or os.geteuid() == 0:
        return None
    if enforce != "scope" and (named_group or "SLURM_JOB_ID" in os.environ or "memory" in cgroup.find(None)):
        return None
    if not cgroup.user_bus() or not shutil.which("busctl") or not shutil.which("systemctl"):
        return None
    unit = f"lisrt-{os.getpid()}-{secrets.token_hex(4)}.scope"
    return unit if _works() else None


def adopt(unit: str, pid: int) -> str | None:
    """Moves a process into a new scope, delegated to this user; its directory below /sys/fs/cgroup, or None if that failed.

    Asked of the user's service manager by systemd's own tool: a library for D-Bus would be a dependency for one call.
    """
    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    properties = ["Delegate", "b", "true", "CollectMode", "s", "inactive-or-failed", "PIDs", "au", "1", str(pid)]
    call = ["StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", "3", *properties, "0"]
    asked = ["busctl", "--user", "--quiet", "call", *manager, *call]
    try:
        if subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT).returncode:
            return None
        return _path(unit)
    except (OSError, subprocess.TimeoutExpired):
        return None  # the next way of enforcing takes over, and is reported


def _path(unit: str) -> str | None:
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:  # the call answers when the job is queued; each question takes milliseconds
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
