"""lisrt image rm"""

from __future__ import annotations

import click

from lisrt.cli import SANDBOX_FAULT
from lisrt.cli.streams import tell
from lisrt.errors import ImageError
from lisrt.store.catalog import Catalog


@click.command("rm")
@click.argument("images", nargs=-1, required=True)
def command(images: tuple[str, ...]) -> int:
    """Take names away; an image without one goes. An id, or its first 6 digits or more, takes an image with all its names.

    What can't be removed is told, and the rest removed. `lisrt image gc` frees what their layers took.
    """
    catalog = Catalog()
    status, any_gone = 0, False
    for image in images:
        try:
            names, gone = catalog.remove(image)
        except ImageError as error:
            tell(f"lisrt: {error}")
            status = SANDBOX_FAULT
            continue
        for name in names:
            click.echo(f"{name} removed")
        any_gone |= gone
        if gone:
            click.echo("the image has no name any more and is removed" if image in names else f"{image} removed")
    if any_gone:
        tell("lisrt: `lisrt image gc` frees what they took")
    return status
