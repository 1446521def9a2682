"""lisrt view"""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

import click

from lisrt.cli.streams import tell
from lisrt.cli.whole_files import writing
from lisrt.cli.words import printable

if TYPE_CHECKING:
    from lisrt.agent.view import Row, Run


def _page(_context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Said before the work, if it can't be written."""
    if value is not None and value != "-":
        place = value if os.path.exists(value) and not os.path.isfile(value) else os.path.dirname(os.path.realpath(value))
        if os.path.isdir(value) or not os.access(place, os.W_OK):
            why = "is a directory" if os.path.isdir(value) else "can't be written"
            raise click.BadParameter(f"{value} {why}", param=option)
        if value.endswith(".jsonl"):
            raise click.BadParameter(f"{value} is the name of a record, not of a page", param=option)
    return value


@click.command("view")
@click.argument("path", type=click.Path(exists=True))
@click.option("--task", "task", metavar="ID", help="Of a run: this task's episode.")
@click.option("--html", "html_file", metavar="FILE", callback=_page, help="Write a page that needs no other file; - for stdout.")
@click.option("--full", is_flag=True, help="Cut no text, however long.")
def command(path: str, task: str | None, html_file: str | None, full: bool) -> int:
    """Show what an agent has done: an episode turn by turn, or the tasks of a run.

    PATH is a trajectory, the --output directory of `lisrt run`, or, for a batch, the directory of the run or of one of its tasks.
    An episode that still runs is shown as far as it is.

    Characters that a terminal would obey, or that would hide what stands there, are written as \\x1b and the like. A page holds
    pictures and short texts of files/, up to 50 MiB; it runs nothing and fetches nothing.

    Exits 0 when there was something to show, 2 when PATH is something else.
    """
    from lisrt.agent.view import NotATrajectory, Place, Screen, Trajectory, find, page, run_page

    try:
        place: Place | Run = find(path)
        rows: list[Row] = []
        if task is not None:
            if isinstance(place, Place):
                raise click.BadParameter("this is one episode already", param_hint="--task")
            row = _chosen(place.rows(), task)
            if row.place is None:
                tell(printable(f"lisrt: task {row.id}: {row.reason}: {row.error or 'its trajectory is gone'}"))
                return 0
            place = row.place
        if isinstance(place, Place):
            trajectory = Trajectory(place.trajectory)
            shown = page(place, trajectory, full=full) if html_file else None
        else:
            rows = place.rows()
            shown = run_page(place, rows, full=full) if html_file else None
    except NotATrajectory as error:
        raise click.BadParameter(printable(str(error)), param_hint="PATH") from None
    if html_file is not None and shown is not None:
        with writing(html_file) as out:
            for piece in shown:
                out.write(piece)
        return 0
    from rich.console import Console

    screen = Screen(Console(highlight=False), full=full)
    for text in screen.episode(place, trajectory) if isinstance(place, Place) else screen.run(place, rows):
        click.echo(text, nl=False, color=True)  # rich left out colours where none belong; it would exit 1 when nobody reads
    return 0


def _chosen(rows: list[Row], task: str) -> Row:
    """The row of a task. Usage mistakes are told with what is near."""
    for row in rows:
        if task == row.id or (row.place is not None and task == row.place.trajectory.parent.name):
            return row
    near = difflib.get_close_matches(task, [row.id for row in rows], n=1)
    hint = f"; did you mean {printable(near[0])}?" if near else ""
    raise click.BadParameter(f"the run has no task {printable(task)}{hint}", param_hint="--task")
