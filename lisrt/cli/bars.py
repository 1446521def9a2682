"""Bars for work on images: one for each layer that something is done with."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lisrt.store.intake import Progress as Tell


@contextlib.contextmanager
def bars() -> Iterator[Tell]:
    """What to tell how far the work is; shown on stderr where that is a terminal. Gone when the body ends."""
    shown = (TextColumn("{task.description:30}"), BarColumn(), DownloadColumn(binary_units=True), TimeElapsedColumn())
    with Progress(*shown, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        tasks: dict[str, TaskID] = {}
        lock = threading.Lock()

        def tell(what: str, done: int, total: int | None) -> None:
            subject = what.partition(":")[0]
            with lock:  # layers come by several threads
                if subject not in tasks:
                    tasks[subject] = progress.add_task(escape(what), total=total)
            progress.update(tasks[subject], description=escape(what), completed=done, total=total)

        yield tell
