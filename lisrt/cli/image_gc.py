"""lisrt image gc"""

from __future__ import annotations

import json
from pathlib import Path

import click

from lisrt import census
from lisrt.cli.streams import tell
from lisrt.cli.words import count, size
from lisrt.store import cache
from lisrt.store.catalog import Catalog


@click.command("gc")
@click.option("--unnamed", is_flag=True, help="Also images without a name, with what they alone need.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(unnamed: bool, dry_run: bool, as_json: bool) -> int:
    """Delete layers that no image needs, and what imports that were killed have left. Waits for those that run.

    On this host also the unpacked trees of layers that this store does not need, unless a program uses them. Those of another
    $LISRT_HOME are unpacked again when they are wanted.
    """
    catalog = Catalog()
    swept = catalog.sweep(unnamed=unnamed, dry_run=dry_run, waiting=_tell_waiting)
    kept = [one for one in catalog.all() if one.names or not unnamed]
    needed = {layer.diff_id for one in kept for layer in one.record.layers}
    trees = sum(cache.remove_unused(Path(base), needed, dry_run=dry_run) for base in census.bases())
    if as_json:
        facts = {"dry_run": dry_run, "images": swept.images, "blobs": swept.blobs, "bytes": swept.bytes, "trees": trees}
        click.echo(json.dumps(facts))
        return 0
    verb = "would be removed" if dry_run else "removed"
    if unnamed:
        click.echo(f"{count(swept.images, 'image')} without a name {verb}")
    click.echo(f"{count(swept.blobs, 'layer')} {verb} from {catalog.home.path}, {size(swept.bytes)}")
    click.echo(f"{count(trees, 'unpacked tree')} {verb} from this host")
    nameless = sum(not one.names for one in kept)
    if nameless:
        tell(f"lisrt: {count(nameless, 'image')} without a name: `lisrt image gc --unnamed` removes such, too")
    return 0


def _tell_waiting() -> None:
    """Somebody adds to the store just now."""
    tell("lisrt: waiting for an import, a pull or a build that runs")
