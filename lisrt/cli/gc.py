"""lisrt gc"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import click

from lisrt import census
from lisrt.cli.streams import tell
from lisrt.kernel import owners, scratch


@click.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option(
    "--all-hosts",
    is_flag=True,
    help="On a shared file system: also what programs of other hosts left. Sure only when none of yours runs there.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(dry_run: bool, all_hosts: bool, as_json: bool) -> int:
    """Delete what programs that were killed have left, in every scratch directory of yours, and their control groups.

    Never what a living one has.

    The next sandbox does so, too, in the directory that it uses. Needs no user namespaces. Exits 1 when something could not
    be removed.
    """
    removed: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    counts = dict.fromkeys(census.bases(), 0)
    for base in counts:
        for found in owners.survey(base):
            why = _remove(found, dry_run, all_hosts)
            if why is None:
                removed.append(_facts(found))
                counts[base] += 1
            elif why:
                kept.append({**_facts(found), "why": why})
        if not dry_run:
            scratch.forget_empty(base)
    groups = 0 if dry_run else census.remove_groups()
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "removed": removed, "groups": groups, "kept": kept}, indent=2))
    else:
        _report(counts, dry_run)
        for one in removed if dry_run else []:
            click.echo(f"  {one['path']}  ({one['program'] or 'unknown program'}, pid {one['pid'] or '?'}, {one['state']})")
        if groups:
            click.echo(f"{groups} control group{'' if groups == 1 else 's'} removed")
        for one in kept:
            tell(f"lisrt: {one['path']} stays: {one['why']}")
    return int(any(one["state"] == owners.State.DEAD for one in kept))


def _remove(found: owners.Found, dry_run: bool, all_hosts: bool) -> str | None:
    """None: it is removed, or would be. Else why not; "" where nobody needs to hear it."""
    if found.state is owners.State.ALIVE:
        return ""
    if found.locked and not dry_run:
        census.end_spawner(found)
    if found.state is owners.State.ELSEWHERE and not all_hosts:
        host = found.record.host if found.record else "unknown"
        return f"the file system is shared, and its host ({host}) is another one: run gc there, or use --all-hosts"
    if dry_run:
        return None
    try:
        if owners.remove_dead(found, all_hosts=all_hosts):
            return None
    except OSError as error:
        if census.remove_with_ids(found):
            return None
        return error.strerror or str(error)
    return "its program is dead, but a process that it forked still holds the lock" if os.path.exists(found.path) else ""


def _facts(found: owners.Found) -> dict[str, Any]:
    record = asdict(found.record) if found.record else {}
    names = ("pid", "program", "host", "started")
    return {"path": found.path, "state": str(found.state), **{name: record.get(name) for name in names}}


def _report(counts: dict[str, int], dry_run: bool) -> None:
    """Always a line for the directory that programs use now; one for each other in which there was something."""
    for number, (base, count) in enumerate(counts.items()):
        if count or number == 0:
            words = f"director{'y' if count == 1 else 'ies'}{' would be' if dry_run else ''} removed"
            click.echo(f"{count} {words} from {base}")
