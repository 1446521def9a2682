"""lisrt image ls"""

from __future__ import annotations

import json

import click

from lisrt.cli.streams import tell
from lisrt.cli.words import columns, printable, size
from lisrt.store.catalog import Catalog
from lisrt.store.record import ImageRecord


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(as_json: bool) -> int:
    """List the images of the store, with their sizes at rest. Layers that several share are there once."""
    catalog = Catalog()
    found = catalog.all()
    if as_json:
        click.echo(json.dumps([facts(one.record, one.names) for one in found], indent=2))
        return 0
    rows = [("NAME", "ID", "SIZE", "LAYERS", "FROM", "SINCE")]
    for one in found:
        record, came = one.record, one.record.provenance
        kind, at = (printable(came.get(key, "?")) for key in ("kind", "at"))
        for name in one.names or ("-",):
            rows.append((name, record.id[7:19], size(record.size), str(len(record.layers)), kind, at))
    for line in columns(rows):
        click.echo(line)
    blobs = {layer.blob: layer.size for one in found for layer in one.record.layers}
    tell(f"{len(found)} image{'' if len(found) == 1 else 's'}, {size(sum(blobs.values()))} in {catalog.home.path}")
    for fault in catalog.faults():
        tell(f"lisrt: {fault}")
    return 0


def facts(record: ImageRecord, names: tuple[str, ...]) -> dict[str, object]:
    """An image, for machines."""
    config = record.config
    return {
        "names": list(names),
        "id": record.id,
        "size": record.size,
        "architecture": record.architecture,
        "config": {
            "env": dict(config.env),
            "workdir": config.workdir,
            "user": config.user,
            "entrypoint": list(config.entrypoint),
            "cmd": list(config.cmd),
        },
        "layers": [{"diff_id": layer.diff_id, "blob": layer.blob, "size": layer.size} for layer in record.layers],
        "provenance": dict(record.provenance),
    }
