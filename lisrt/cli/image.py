"""lisrt image"""

from __future__ import annotations

import click

from lisrt.cli import Commands

_COMMANDS = {
    "build": "lisrt.cli.image_build",
    "export": "lisrt.cli.image_export",
    "gc": "lisrt.cli.image_gc",
    "import": "lisrt.cli.image_import",
    "ls": "lisrt.cli.image_ls",
    "pull": "lisrt.cli.image_pull",
    "rm": "lisrt.cli.image_rm",
    "show": "lisrt.cli.image_show",
    "tag": "lisrt.cli.image_tag",
}


@click.group("image", cls=Commands, modules=_COMMANDS)
def command() -> None:
    """Images: get them, look at them, pass them on.

    They are kept in $LISRT_HOME, by default ~/.local/share/lisrt. `host` is no part of that: it is made of this machine.
    """
