"""The report, for people and for machines. What the command line needs of it is here:

    made = document(recorders, machine, config, seed, backends, order=..., command=...)     a dict, ready for JSON
    repeatable(sys.argv[1:]) -> str     what `command` should be
    dumps(made) -> str      load(path) -> dict      merge([made, ...]) -> dict
    text(made) -> str       the terminal's report: table(made), then figures(made)
    page(made) -> str       the HTML page; page([made, other]) puts several runs on one
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lisrt.bench import compare
from lisrt.bench.compare import DOCKER, YARDSTICKS
from lisrt.bench.documents import Document, document, dumps, load, merge, repeatable
from lisrt.bench.measure import Row
from lisrt.bench.numbers import NARROW, percent, ratio, significant

__all__ = ["as_json", "document", "dumps", "figures", "load", "merge", "page", "repeatable", "table", "text"]

WIDTH = 100
"""Columns that prose may take; a table of several backends takes about as many."""
Source = Sequence[Row] | Document


def page(documents: Document | Sequence[Document]) -> str:
    """The report as one HTML file that needs nothing else: of one run, or of several put together."""
    from lisrt.bench.html import render

    return render([documents] if isinstance(documents, dict) else list(documents))


def text(source: Source, *, color: bool = False) -> str:
    """The table and the other figures as wide as they are: a pipe has no width that they would have to be cut to."""
    made = _document(source)
    console = Console(width=200, highlight=False, color_system="standard" if color else None, force_terminal=color)
    with console.capture() as shown:
        console.print(table(made))
    lines = [line.rstrip() for line in shown.get().splitlines()]
    lines += [part for line in figures(made) for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]
    return "".join(f"{line}\n" for line in lines)


def table(source: Source) -> Table:
    """Latencies and rates. Of one backend 78 columns wide at most, since it has to fit where it is piped to; of several a line
    for each, with how often it takes the floor's time, and how often docker takes its."""
    made = _document(source)
    timed = [figure for figure in compare.figures(made) if figure.timed]
    names = {figure.backend for figure in timed}
    medians = [one for one in made["ratios"] if one["of"] == "p50"]
    ratios = {(one["backend"], one["workload"], one["metric"], one["reference"]): one for one in medians}
    known = {one["reference"] for one in medians}
    references = [name for name in (*YARDSTICKS, DOCKER) if name in names & known]
    shown = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in ("operation", "backend") if len(names) > 1 else ("", "operation"):
        shown.add_column(name, no_wrap=True)
    for name in ("n", "p50 ms", "p95 ms", "p99 ms", "per s", *(f"× {name}" for name in references), "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    previous: compare.Figure | None = None
    for figure in _grouped(timed):
        new_workload = previous is None or previous.workload != figure.workload
        new_place = previous is None or previous.place != figure.place
        if new_workload and previous is not None:
            shown.add_section()
        if len(names) > 1:  # a line for the workload: beside all others it would make the table too wide
            if new_workload:
                shown.add_row(escape(figure.workload), style="bold")
            named = (f"  {figure.metric}" if new_place else "", figure.backend)
        else:
            named = (figure.workload if new_workload else "", figure.metric)
        compared = [ratios.get((figure.backend, *figure.place, name)) for name in references]
        shown.add_row(
            *map(escape, named),
            *_numbers(figure.row),
            *(ratio(one["value"]) if one else "" for one in compared),
            _failed(figure.row),
            style="red" if figure.row["failures"] else None,
        )
        previous = figure
    return shown


def _numbers(row: Mapping[str, Any]) -> list[str]:
    latencies = ("" if row[name] is None else f"{row[name]:,.{2 if row[name] < 1000 else 0}f}" for name in compare.QUANTILES)
    rate = row["rate"]
    return [str(row["n"]), *latencies, f"{rate:,.0f}" if rate and rate >= 9.95 else f"{rate:.1f}" if rate else ""]


def _failed(row: Mapping[str, Any]) -> str:
    """How many, and what share of all attempts."""
    if not row["failures"]:
        return "0"
    return f"{row['failures']} ({percent(row['failures'] / (row['n'] + row['failures']))})".replace(NARROW, " ")


def _grouped(timed: list[compare.Figure]) -> list[compare.Figure]:
    """By workload and operation, each where it first came; so what is to be compared stands together."""
    workloads = list(dict.fromkeys(figure.workload for figure in timed))
    places = list(dict.fromkeys(figure.place for figure in timed))
    return sorted(timed, key=lambda figure: (workloads.index(figure.workload), places.index(figure.place)))


def figures(source: Source) -> list[str]:
    """What is not a duration, one line each with all backends in it; then how the best rates compare with docker's."""
    made = _document(source)
    several = len({row["backend"] for row in made["rows"]}) > 1
    lines: dict[tuple[str, str, int], list[str]] = {}
    for row in made["rows"]:
        if row["unit"] != "ms" and row["p50"] is not None:
            value = f"{row['backend'] + ' ' if several else ''}{row['p50']:,.0f}"
            lines.setdefault((row["metric"], row["unit"], row["n"]), []).append(value)
    return [f"{metric}: {', '.join(values)} {unit} (n = {n})" for (metric, unit, n), values in lines.items()] + _rates(made)


def _rates(made: Document) -> list[str]:
    rates = {(row["backend"], row["workload"], row["metric"]): row["rate"] for row in made["rows"]}
    name = compare.subject(row["backend"] for row in made["rows"])
    best: dict[str, Mapping[str, Any]] = {}
    for one in sorted(made["ratios"], key=lambda one: float(one["value"])):
        if (one["backend"], one["of"], one["reference"]) == (name, "rate", DOCKER):
            best[one["metric"]] = one
    return [
        f"{metric}: {significant(rates[one['backend'], one['workload'], metric])} per s ({one['workload']}), "
        f"{ratio(one['value'])} × docker's best, {significant(rates[DOCKER, one['reference_workload'], metric])} per s "
        f"({one['reference_workload']})"
        for metric, one in best.items()
    ]


def as_json(rows: list[Row], machine: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The core of the form that `lisrt bench --json` writes, and keeps; `document` has more beside it."""
    return {"machine": machine, "config": config, "rows": [asdict(row) for row in rows]}


def _document(source: Source) -> Document:
    if isinstance(source, dict):
        return source
    rows = [asdict(row) for row in source]
    return {"machine": {}, "config": {}, "rows": rows, "ratios": compare.ratios(compare.figures({"rows": rows}), 0)}
