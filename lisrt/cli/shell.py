"""lisrt shell"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from lisrt.box import Box
from lisrt.cli.names import Names
from lisrt.cli.options import (
    publish_option,
    require_disk,
    sandbox_arguments,
    sandbox_options,
    save_option,
    tell_ports,
)
from lisrt.cli.terminal import interact
from lisrt.store.catalog import Catalog
from lisrt.waiting import drive


@click.command("shell")
@save_option("Keep what the shell leaves as an image.")
@sandbox_options
@publish_option
def command(publish: dict[int, int], save: str | None, **options: Any) -> int:
    """Open an interactive shell in a fresh sandbox, which is destroyed when the shell ends."""
    require_disk(save, options["writable"])
    if not (os.isatty(0) and os.isatty(1)):
        raise click.ClickException("lisrt shell needs a terminal; for a script use: lisrt exec -- bash -c '...'")
    arguments = sandbox_arguments(**options)
    arguments["env"] = {"TERM": os.environ.get("TERM", "dumb"), "PS1": r"sandbox:\w\$ ", **arguments["env"]}
    box = Box(**arguments, ports=publish)
    drive(box.open())
    try:
        tell_ports(box, publish)
        if box.uplink.kind == "host":
            click.echo("lisrt: this sandbox is on the host's network", err=True)
        status = interact(box, ["bash", "--norc", "-i"], sys.stdin.fileno(), sys.stdout.fileno())
        if save is not None:
            names = Names(Catalog(), save)
            drive(box.snapshot(save))
            click.echo(f"lisrt: saved as {save}", err=True)
            names.tell_moved()
        return status
    finally:
        drive(box.close())
