"""lisrt image pull"""

from __future__ import annotations

import click

from lisrt.cli.bars import bars
from lisrt.cli.names import Names
from lisrt.store.catalog import Catalog
from lisrt.store.pull import pull


@click.command("pull")
@click.argument("reference")
@click.argument("name", required=False)
@click.option("--insecure", is_flag=True, help="Also from a registry without TLS. One on this machine needs no such leave.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(reference: str, name: str | None, insecure: bool, as_json: bool) -> int:
    """Fetch an image from a registry: `debian:12`, `ghcr.io/a/b@sha256:...`, `localhost:5000/x`.

    Logins are those of `docker login` and `podman login`; proxies and certificates those of the environment. Layers that
    are here already are not fetched. Without NAME the image is named as REFERENCE is written.
    """
    name = name or reference.removeprefix("docker://")
    catalog = Catalog()
    names = Names(catalog, name)
    with bars() as progress:
        record = pull(reference, catalog, name, insecure=insecure, progress=progress)
    names.tell(record, as_json=as_json)
    return 0
