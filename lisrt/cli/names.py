"""What a command says about the image that it has entered, and about the one whose name that has taken."""

from __future__ import annotations

import json

import click

from lisrt.cli.image_ls import facts
from lisrt.cli.streams import tell
from lisrt.store.catalog import Catalog
from lisrt.store.record import ImageRecord


class Names:
    """The names that an image is about to get, and which images have them until then."""

    def __init__(self, catalog: Catalog, *names: str) -> None:
        self._catalog = catalog
        self._names = names
        self._before = {name: catalog.id_of(name) for name in names}

    def tell(self, record: ImageRecord, *, as_json: bool) -> None:
        """What has come, on stdout, and what has lost its name for it."""
        click.echo(json.dumps(facts(record, self._names), indent=2) if as_json else f"{self._names[0]}  {record.id}")
        self.tell_moved()

    def tell_moved(self) -> None:
        """Which images had those names until now."""
        for name, old in self._before.items():
            if old not in (None, self._catalog.id_of(name)):
                named = any(self._catalog.id_of(other) == old for other in self._catalog.names())
                now = "" if named else ", which has no name any more: `lisrt image gc --unnamed` removes such"
                tell(f"lisrt: {name} was image {str(old)[7:19]} until now{now}")
