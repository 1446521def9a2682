"""lisrt gc"""

from __future__ import annotations

import click

from lisrt import spawner


@click.command("gc")
def command() -> int:
    """Delete what programs that were killed have left in the scratch directory. The next sandbox does so, too."""
    home = spawner.current()
    count = home.collect()
    click.echo(f"{count} director{'y' if count == 1 else 'ies'} removed from {home.base}")
    return 0
