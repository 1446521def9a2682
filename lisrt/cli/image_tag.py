"""lisrt image tag"""

from __future__ import annotations

import click

from lisrt.cli.names import Names
from lisrt.store.catalog import Catalog


@click.command("tag")
@click.argument("image")
@click.argument("name")
def command(image: str, name: str) -> int:
    """Give an image one more name. `lisrt image rm` takes the old one away."""
    catalog = Catalog()
    names = Names(catalog, name)
    names.tell(catalog.tag(image, name), as_json=False)
    return 0
