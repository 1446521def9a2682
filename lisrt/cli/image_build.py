"""lisrt image build"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import click

from lisrt.build import recipes
from lisrt.build.build import build
from lisrt.build.job import Options
from lisrt.build.report import Report
from lisrt.cli.names import Names
from lisrt.cli.streams import tell
from lisrt.store.catalog import Catalog

DEFAULT = "ubuntu-24.04"


@click.command("build")
@click.argument("recipe", default=DEFAULT)
@click.option("--locked", is_flag=True, help="Exactly the versions of recipe.lock, or none.")
@click.option("--update", is_flag=True, help="The newest versions; renews recipe.lock.")
@click.option("--no-cache", is_flag=True, help="Make every layer again.")
@click.option("--tag", "-t", "tags", multiple=True, metavar="NAME", help="The image's name, if not the recipe's; again for more.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(recipe: str, locked: bool, update: bool, no_cache: bool, tags: tuple[str, ...], as_json: bool) -> int:
    """Build an image from a recipe: one of lisrt's own by name, or a directory with a recipe.toml; ubuntu-24.04 by default.

    Needs no root, no subordinate ids and no tools of a distribution. Packages come from the mirrors of this host, through its
    proxies; the image keeps none of those. What has been built before comes from the cache.
    """
    if locked and update:
        raise click.UsageError("--locked takes the lock's versions, --update the newest: choose one")
    folder = recipes.find(recipe)
    catalog = Catalog()
    names = Names(catalog, *(tags or (folder.resolve().name,)))
    with _Watched() as report:
        built = build(folder, Options(locked, update, not no_cache, tags), report, catalog)
    names.tell(built.record, as_json=as_json)
    return 0


class _Watched(Report):
    """A line for each step on stderr, and on a terminal what it is at."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status = self._console.status("") if sys.stderr.isatty() else None
        self._title = ""

    def begin(self, title: str) -> None:
        self._title = title
        self.doing("")

    def doing(self, text: str) -> None:
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(f"{self._title[:80]}{': ' if text else ''}{text}"))
            self._status.start()

    def end(self, note: str, seconds: float) -> None:
        if self._status is not None:
            self._status.stop()
        short = self._title if len(self._title) <= 90 else self._title[:87] + "..."
        tell(f"{seconds:6.1f} s  {short}{f' ({note})' if note else ''}")

    def warn(self, text: str) -> None:
        tell(f"lisrt: {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()
