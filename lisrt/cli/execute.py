"""lisrt exec"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import click

from lisrt import process
from lisrt.box import Box
from lisrt.cli.names import Names
from lisrt.cli.options import (
    publish_option,
    require_disk,
    sandbox_arguments,
    sandbox_options,
    save_option,
    seconds,
    tell_ports,
)
from lisrt.cli.streams import tell, write_all
from lisrt.cli.words import printable
from lisrt.kernel import wire
from lisrt.store.catalog import Catalog
from lisrt.waiting import Flow, drive

TIMED_OUT = 124
MOST_TOLD = 5


@click.command("exec", context_settings={"allow_interspersed_args": False})
@sandbox_options
@click.option("--timeout", type=float, callback=seconds, help="Seconds; then the command's whole tree is killed.")
@click.option("--cwd", help="Where this command starts; relative to the workdir.")
@click.option("--explain", is_flag=True, help="Print the plan of the sandbox, and run nothing.")
@publish_option
@save_option("Keep what the command leaves as an image, if it exits 0.")
@click.argument("argv", nargs=-1, required=True, metavar="-- COMMAND [ARGUMENT]...", type=click.UNPROCESSED)
def command(
    argv: tuple[str, ...],
    timeout: float | None,
    cwd: str | None,
    explain: bool,
    publish: dict[int, int],
    save: str | None,
    **options: Any,
) -> int:
    """Run one command in a fresh sandbox, which is then destroyed.

    Standard input, output and error are the command's. The exit status is its own: 128 + N for signal N, 127 when there
    is no such program, 126 when it can't be executed, 124 at the time limit; 125 is a fault of the sandbox or the host.
    """
    require_disk(save, options["writable"])
    box = Box(**sandbox_arguments(**options), ports=publish)
    ask = partial(box.command, argv, timeout, b"", None, cwd, False, 0)
    ask()  # before anything is started: a mistake costs nothing
    if explain:
        return _explain(box)
    return drive(_execute(box, ask, publish, save))


def _execute(box: Box, ask: Callable[[], process.Command], ports: dict[int, int], save: str | None) -> Flow[int]:
    try:
        yield from box.open()
        tell_ports(box, ports)
        request = replace(ask(), stdin=0)  # again: now it is known what the image has to say
        try:
            exit = yield from process.stream(box.channel, request, (partial(write_all, 1), partial(write_all, 2)))
        except PermissionError as error:
            tell(f"lisrt: {error.filename}: is not an executable file")
            return 126
        status = _status(exit, request)
        _hint_at_network(box, request, status)
        _tell_denied(box)
        if save is not None:
            yield from _save(box, save, status)
        return status
    finally:
        yield from box.close()


def _status(exit: wire.Exit, request: process.Command) -> int:
    if exit.kind == wire.NOT_STARTED:
        name = os.fsdecode(request.argv[0]) or repr("")
        tell(f"lisrt: {name}: not found, or what it starts with is not: a script's interpreter, a program's loader")
        return 127
    if exit.pids_full:
        tell(f"lisrt: the limit on processes and threads ({request.limits.pids}) was reached")
    if request.limits.disk is not None and os.WIFSIGNALED(exit.wait_status) and os.WTERMSIG(exit.wait_status) == signal.SIGXFSZ:
        tell("lisrt: killed: a file would have grown beyond the limit on disk")
    if exit.out_of_memory or exit.disk_full:
        what = f"memory (peak {exit.memory_peak >> 20} MiB)" if exit.out_of_memory else "disk"
        tell(f"lisrt: killed: over the limit on {what}")
        return 128 + signal.SIGKILL
    if exit.timed_out:
        tell(f"lisrt: killed at the time limit of {request.timeout:g} s")
        return TIMED_OUT
    return os.waitstatus_to_exitcode(exit.wait_status) if os.WIFEXITED(exit.wait_status) else 128 + os.WTERMSIG(exit.wait_status)


def _save(box: Box, name: str, status: int) -> Flow[None]:
    if status:
        tell(f"lisrt: not saved as {name}: the command has exited {status}")
        return
    names = Names(Catalog(), name)
    yield from box.snapshot(name)
    tell(f"lisrt: saved as {name}")
    names.tell_moved()


_FETCHES = re.compile(rb"\b(apt|apt-get|pip3?|npm|curl|wget|git clone|git fetch)\b")


def _hint_at_network(box: Box, request: process.Command, status: int) -> None:
    """Who has just installed the image will try `apt-get update` first, and read of names that can't be resolved."""
    without = box.uplink.kind == "none"
    if without and status not in (0, 127) and _FETCHES.search(b" ".join(request.argv)):
        tell("lisrt: this sandbox has no network; --allow HOST lets it reach one, --network host gives it this machine's")


def _tell_denied(box: Box) -> None:
    """The first few hosts that the rules have kept it from: what the program itself says of that may be anything."""
    denied = list(dict.fromkeys((one.host, one.port, one.why) for one in box.egress() if not one.allowed))
    for host, port, why in denied[:MOST_TOLD]:
        tell(f"lisrt: denied {printable(host)}:{port}: {printable(why)}")
    if len(denied) > MOST_TOLD:
        tell(f"lisrt: and {len(denied) - MOST_TOLD} more")


def _explain(box: Box) -> int:
    from lisrt import bwrap, spawner

    plan = drive(box.settle())
    home = spawner.current(box.launcher, box.idmap)
    click.echo(plan.describe())
    if home.bubblewrap is not None:
        place = os.path.join(home.scratch, "ID")
        words = bwrap.arguments(plan.steps, root=place, program=home.bubblewrap, trusted=box.root.trusted)
        click.echo(f"realised by bubblewrap {home.bubblewrap.version} ({home.bubblewrap.path}) with")
        click.echo(bwrap.describe(words))
    return 0
