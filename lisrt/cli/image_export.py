"""lisrt image export"""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import click

from lisrt.cli.bars import bars
from lisrt.cli.streams import tell
from lisrt.store.archive import zstd_writer
from lisrt.store.catalog import Catalog
from lisrt.store.export import export


@click.command("export")
@click.argument("image")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--tag", help="Its name where it is loaded; by default the one that it is called by here.")
@click.option("--as-is", is_flag=True, help="Leave zstd as it is: faster and smaller, but Docker before 23 does not read it.")
def command(image: str, file: Path, tag: str | None, as_is: bool) -> int:
    """Write an image to FILE (- for stdout) as an OCI image layout in a tar archive, for `docker load`, podman, skopeo.

    A FILE that is there is replaced; where its name ends in .gz, .tgz or .zst the archive is compressed.
    """
    if os.fspath(file) == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is nothing for a terminal: name a file, or pipe it somewhere")
    if file.suffix in (".xz", ".bz2", ".lzma"):
        raise click.UsageError(f"{file.suffix} is not made here: .gz, .tgz, .zst, or no compression by any other name")
    catalog = Catalog()
    record = catalog.get(image)
    name = tag if tag is not None else image if image in catalog.names() else ""
    name = name if ":" in name or not name else f"{name}:latest"
    with bars() as progress:
        if os.fspath(file) == "-":
            digest = export(record, name, catalog, sys.stdout.buffer, as_is=as_is, progress=progress)
            sys.stdout.buffer.flush()
        else:
            with _appearing(file) as raw, _compressing(file, raw) as out:
                digest = export(record, name, catalog, out, as_is=as_is, progress=progress)
    tell(f"manifest {digest}")
    return 0


@contextlib.contextmanager
def _appearing(file: Path) -> Iterator[IO[bytes]]:
    """A file that is there when it is whole, and not before."""
    file = file.resolve()  # of a link, what it leads to is written
    if file.exists() and not file.is_file():  # a pipe with a name, say
        with open(file, "wb") as out:
            yield out
        return
    draft = file.with_name(f".{file.name[:200]}.{secrets.token_hex(4)}")
    try:
        with open(draft, "xb") as out:
            yield out
        os.replace(draft, file)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == os.fspath(draft):  # which nobody but us has heard of
            raise OSError(error.errno, error.strerror, os.fspath(file)) from None
        raise


@contextlib.contextmanager
def _compressing(file: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """As the file's name says. Layers are compressed already: this is for those who expect what it says."""
    if file.suffix in (".gz", ".tgz"):
        with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as out:
            yield cast(IO[bytes], out)
    elif file.suffix == ".zst":
        with zstd_writer(raw, level=1) as out:
            yield out
    else:
        yield raw
