"""lisrt image gc"""

from __future__ import annotations

import json
from pathlib import Path

import click

from lisrt import census
from lisrt.cli.image_rm import tell_waiting
from lisrt.cli.words import size
from lisrt.store import cache
from lisrt.store.catalog import Catalog


@click.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(dry_run: bool, as_json: bool) -> int:
    """Delete layers that no image needs, and what imports that were killed have left. Waits for those that run.

    On this host also the unpacked trees of such layers, unless a program uses them.
    """
    catalog = Catalog()
    swept = catalog.sweep(dry_run=dry_run, waiting=tell_waiting)
    needed = {layer.diff_id for one in catalog.all() for layer in one.record.layers}
    trees = sum(cache.remove_unused(Path(base), needed, dry_run=dry_run) for base in census.bases())
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "blobs": swept.blobs, "bytes": swept.bytes, "trees": trees}))
    else:
        verb = "would be removed" if dry_run else "removed"
        click.echo(f"{swept.blobs} layer{'' if swept.blobs == 1 else 's'} {verb} from {catalog.home.path}, {size(swept.bytes)}")
        click.echo(f"{trees} unpacked tree{'' if trees == 1 else 's'} {verb} from this host")
    return 0
