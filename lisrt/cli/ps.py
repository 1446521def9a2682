"""lisrt ps"""

from __future__ import annotations

import json
import time

import click

from lisrt import census
from lisrt.cli.words import columns, size
from lisrt.kernel.owners import State


@click.command("ps")
@click.option("-v", "--verbose", is_flag=True, help="A line for each sandbox, too.")
@click.option("--disk", is_flag=True, help="With -v or --json: what each has written. Reads all of it, so it may take a while.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(verbose: bool, disk: bool, as_json: bool) -> int:
    """Show all of your programs that have sandboxes on this host, and the directories of dead ones."""
    found = census.take(disk=disk)
    if as_json:
        click.echo(json.dumps([owner.as_json() for owner in found], indent=2))
        return 0
    rows: list[tuple[str, ...]] = [("PID", "PROGRAM", "STATE", "STARTED", "LAUNCHER", "SANDBOXES", "SCRATCH")]
    rows += [_row(owner) for owner in found]
    heading, *lines = columns(rows)
    click.echo(heading)
    for owner, line in zip(found, lines, strict=True):
        click.echo(line)
        if verbose:
            for box in owner.sandboxes:
                click.echo(f"  {_words(box)}")
    if any(owner.state is State.DEAD for owner in found):
        click.echo("`lisrt gc` removes what the dead have left.", err=True)
    return 0


def _row(owner: census.OwnerInfo) -> tuple[str, ...]:
    record = owner.record
    state = f"on {record.host}?" if owner.state is State.ELSEWHERE and record else str(owner.state)
    count = owner.living if owner.state is State.ALIVE else len(owner.sandboxes)
    if record is None:
        return "?", "?", state, "?", "?", str(count), owner.path
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.started))
    return str(record.pid), record.program, state, started, record.launcher, str(count), owner.path


def _words(box: census.SandboxInfo) -> str:
    if box.pid is None or box.age is None:
        words = f"{box.id}  ended"
    else:
        count = f"{box.processes} process{'' if box.processes == 1 else 'es'}"
        words = f"{box.id}  {box.image or '?'}  {_age(box.age)}  PID 1 is {box.pid}  {count}  {size(box.memory)}"
    if box.disk is None:
        return words
    return f"{words}  {size(box.disk.bytes)}{'' if box.disk.whole else ' at least'} in {box.disk.files} files on disk"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
