"""lisrt image show"""

from __future__ import annotations

import json
import shlex

import click

from lisrt.cli.image_ls import facts
from lisrt.cli.words import columns, printable, size
from lisrt.store.catalog import Catalog


@click.command("show")
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(image: str, as_json: bool) -> int:
    """Show an image, by its name, its id or the beginning of that: layers, what programs are started with, provenance."""
    catalog = Catalog()
    record = catalog.get(image)
    names = catalog.names_of(record)
    if as_json:
        click.echo(json.dumps(facts(record, names), indent=2))
        return 0
    config = record.config
    rows = [
        ("id", record.id),
        ("names", " ".join(names) or "-"),
        ("size", size(record.size)),
        ("architecture", record.architecture or "not said"),
        *(("env", f"{name}={value}") for name, value in config.env),
        ("workdir", config.workdir or "-"),
        ("user", config.user or "-"),
        ("entrypoint", shlex.join(config.entrypoint) or "-"),
        ("cmd", shlex.join(config.cmd) or "-"),
        *((f"from, {key}" if key != "kind" else "from", value) for key, value in record.provenance.items()),
        *((f"layer {number}", f"{layer.diff_id}  {size(layer.size)}") for number, layer in enumerate(record.layers, 1)),
    ]
    for line in columns([(name, printable(value)) for name, value in rows]):
        click.echo(line)
    return 0
