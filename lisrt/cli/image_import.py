"""lisrt image import"""

from __future__ import annotations

import re
from pathlib import Path

import click

from lisrt.cli.bars import bars
from lisrt.cli.names import Names
from lisrt.store.catalog import Catalog
from lisrt.store.imports import import_image

_ENDING = re.compile(r"(\.(tar|tgz|gz|zst|xz|bz2|oci|img))+$")


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("name", required=False)
@click.option("--pick", metavar="TAG", help="Which image, where there are several: a tag, a name or a digest.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(source: Path, name: str | None, pick: str | None, as_json: bool) -> int:
    """Take an image in from a file or directory: an OCI image layout, what `docker save` writes, or a file system.

    Archives may be compressed with gzip, zstd, xz or bzip2. Without NAME the image is named as the file is.
    """
    catalog = Catalog()
    name = name or _ENDING.sub("", source.resolve().name)
    names = Names(catalog, name)
    with bars() as progress:
        record = import_image(source, catalog, name, pick=pick, progress=progress)
    names.tell(record, as_json=as_json)
    return 0
