"""lisrt image rm"""

from __future__ import annotations

import click

from lisrt.cli.streams import tell
from lisrt.store.catalog import Catalog


@click.command("rm")
@click.argument("images", nargs=-1, required=True)
def command(images: tuple[str, ...]) -> int:
    """Take names away; an image without one goes. An id, or the beginning of one, takes an image with all its names.

    `lisrt image gc` frees what their layers took.
    """
    catalog = Catalog()
    for image in images:
        names, gone = catalog.remove(image, tell_waiting)
        for name in names:
            click.echo(f"{name} removed")
        if gone:
            click.echo("the image has no name any more and is removed" if image in names else f"{image} removed")
    return 0


def tell_waiting() -> None:
    """Somebody adds to the store just now."""
    tell("lisrt: waiting for an import, a pull or a build that runs")
