"""lisrt doctor"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator

import click

from lisrt.cli.streams import tell
from lisrt.doctor import NAMES, STRONG, Check, Report, Status, examine

_COLOURS = {
    Status.PASS: "green",
    Status.NOTE: "cyan",
    Status.WEAKER: "yellow",
    Status.FAIL: "red",
    Status.SKIPPED: "bright_black",
}
_INDENT = 31
"""Where the findings begin."""
_WIDEST = 110


def _names(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> list[str]:
    names = [name.strip() for name in (value or "").split(",") if name.strip()]
    for name in names:
        if name not in (STRONG, *NAMES):
            raise click.BadParameter(f"{name!r} is no row. Known are: {STRONG}, {', '.join(NAMES)}")
    return names


@click.command("doctor")
@click.option(
    "--concurrency", "-n", type=click.IntRange(1), default=512, show_default=True, help="Room for so many sandboxes at once."
)
@click.option("--json", "as_json", is_flag=True, help="For machines: rows and a summary.")
@click.option(
    "--require",
    metavar="NAME[,NAME...]",
    callback=_names,
    help="Exit 1, with the reason on stderr, unless these rows pass. `strong` is all that full isolation needs.",
)
def command(concurrency: int, as_json: bool, require: list[str]) -> int:
    """Find out, by trying, what this host can do for sandboxes; what is weaker for it; and what to do about that.

    Exits 1 when sandboxes don't work here, or when something that --require names is not there.
    """
    report = examine(concurrency)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        for line in _table(report):
            click.echo(line)
    lacking = report.lacking(require)
    for row in lacking:
        tell(f"lisrt: required, but {row.status}: {row.name}: {row.found}" + (f". {row.fix}" if row.fix else ""))
    return int(bool(lacking) or not report.works)


def _table(report: Report) -> Iterator[str]:
    group = None
    for row in report.rows:
        if row.group is not group:
            group = row.group
            yield click.style(f" {group}", bold=True)
        yield from _row(row)
    room = ""
    if report.room is not None:
        of = f" of {report.concurrency:,}" if report.room < report.concurrency else ""
        room = f"; room for {report.room:,}{of} at once"
    words = {"strong": "Sandboxes work here, fully isolated", "weaker": "Sandboxes work here, less isolated"}
    verdict = f"{words[report.verdict]}{room}" if report.works else "Sandboxes do not work here"
    yield click.style(f" {verdict}", bold=True)


def _row(row: Check) -> Iterator[str]:
    first, *others = _wrapped(row.found)
    yield f"{click.style(f'{row.status.upper():8}', fg=_COLOURS[row.status])} {row.name:21} {first}"
    if row.status in (Status.WEAKER, Status.FAIL):
        others += _wrapped(row.meaning)
    if row.fix and row.fix not in row.found and row.status is not Status.SKIPPED:
        others += [click.style(line, bold=True) for line in _wrapped(f"-> {row.fix}")]
    for line in others:
        yield " " * _INDENT + line


def _wrapped(text: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _WIDEST) - _INDENT
    return textwrap.wrap(text, max(width, 30), break_long_words=False, break_on_hyphens=False)
