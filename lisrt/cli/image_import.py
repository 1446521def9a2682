"""lisrt image import"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from lisrt.cli.bars import bars
from lisrt.cli.names import Names
from lisrt.store.catalog import Catalog
from lisrt.store.imports import import_image

_ENDING = re.compile(r"(\.(tar|tgz|gz|zst|xz|bz2|oci|img))+$")


@click.command("import")
@click.argument("source", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.argument("name", required=False)
@click.option("--pick", metavar="TAG", help="Which image, where there are several: a tag, a name or a digest.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(source: Path, name: str | None, pick: str | None, as_json: bool) -> int:
    """Take an image in from a file or directory: an OCI image layout, what `docker save` writes, or a file system.

    Archives may be compressed with gzip, zstd, xz or bzip2. Without NAME the image is named as the file is. With - for SOURCE
    an archive is read from stdin, and NAME must be there.
    """
    catalog = Catalog()
    piped = os.fspath(source) == "-"
    if piped and not name:
        raise click.UsageError("what comes from stdin has no name: lisrt image import - NAME")
    name = name or _ENDING.sub("", source.resolve().name)
    names = Names(catalog, name)
    with bars() as progress, _received(catalog) if piped else nullcontext(source) as path:
        record = import_image(path, catalog, name, pick=pick, origin="stdin" if piped else "", progress=progress)
    names.tell(record, as_json=as_json)
    return 0


@contextmanager
def _received(catalog: Catalog) -> Iterator[Path]:
    """What comes from stdin, in a file: archives of images are read here and there."""
    with catalog.home.adding(), catalog.home.draft() as place:
        with open(place / "stdin", "xb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        yield place / "stdin"
