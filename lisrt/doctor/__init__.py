"""What this host can do for lisrt, found out by doing it; what follows for a sandbox; and the one thing to do about it."""

from __future__ import annotations

from lisrt import settings, spawner
from lisrt.doctor import cgroups, isolation, limits, surroundings
from lisrt.doctor.host import Host, run_probes
from lisrt.doctor.rows import STRONG, Check, Found, Group, Report, Status
from lisrt.doctor.table import NAMES, ROWS, Row
from lisrt.errors import HostError, LisrtError
from lisrt.explain import DOCTOR
from lisrt.kernel import scratch
from lisrt.sandbox import Sandbox

_MISSING = (Status.FAIL, Status.SKIPPED)

__all__ = ["NAMES", "STRONG", "Check", "Group", "Report", "Status", "examine"]


def examine(concurrency: int = 512) -> Report:
    """Runs every probe and judges every row, ceilings against so many sandboxes at once.

    Leaves nothing behind but the spawner that any sandbox would have started. Raises no HostError: that is a row.
    """
    host = Host(concurrency, scratch=tuple(scratch.candidates(settings.get("scratch"))))
    host.fault, host.home, host.launcher = _try_one()
    names = (*isolation.PROBES, *limits.PROBES, *surroundings.PROBES)
    places = [f"overlay={place}" for place in host.scratch]
    host.probes = run_probes([*names, *places, *cgroups.probes(host)])
    return Report(tuple(_judge(row, host) for row in ROWS), concurrency)


def _try_one() -> tuple[LisrtError | None, str, str]:
    """Makes, uses and destroys a real sandbox: what is wrong, where its files lay, and what made it."""
    try:
        spawner.current()
        with Sandbox("host") as box:
            launcher = box.guarantees["launcher"]
            works = box.run(["/bin/sh", "-c", "echo works >/tmp/file && cat /tmp/file"]).stdout == "works\n"
    except LisrtError as error:
        return error, "", ""
    running = spawner.running()
    if not works:
        return LisrtError("a shell in a sandbox could not write and read a file"), "", ""
    return None, running.base if running else "", launcher


def _judge(row: Row, host: Host) -> Check:
    """The row's own judge; unless a real sandbox failed for this row's reason, which weighs more than a probe's word."""
    found = row.judge(host)
    fault = host.fault
    if isinstance(fault, HostError) and row.name == fault.check and found.status is not Status.FAIL:
        fix = fault.fix.removesuffix(f". {DOCTOR}")
        found = Found(Status.FAIL, str(fault).removesuffix(f". {fault.fix}"), fix, found.room)
    elif isinstance(fault, HostError) and row.name == "sandbox" and fault.check in NAMES:
        found = Found(Status.SKIPPED, f"could not be made: see {fault.check}")
    elif fault is None and host.by_bubblewrap and row.group is Group.ISOLATION and found.status in _MISSING:
        # bubblewrap may do here what we may not: less is isolated, and it works
        found = Found(Status.WEAKER, f"{found.found}; bubblewrap does it instead", found.fix)
    return Check(row.name, row.group, found.status, found.found, row.meaning, found.fix, found.room)
