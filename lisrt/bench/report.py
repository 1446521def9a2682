"""The report, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from lisrt.bench.measure import Row


def table(rows: list[Row]) -> Table:
    """Latencies and rates, 78 columns wide at most: it has to fit where it is piped to."""
    shown = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in ("", "operation"):
        shown.add_column(name, no_wrap=True)
    for name in ("n", "p50 ms", "p95 ms", "p99 ms", "per s", "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    workload = None
    for row in rows:
        if row.unit != "ms":
            continue
        if workload not in (None, row.workload):
            shown.add_section()
        shown.add_row(
            row.workload if row.workload != workload else "",
            row.metric,
            str(row.n),
            *("" if value is None else f"{value:,.2f}" for value in (row.p50, row.p95, row.p99)),
            f"{row.rate:,.0f}" if row.rate else "",
            str(row.failures),
            style="red" if row.failures else None,
        )
        workload = row.workload
    return shown


def figures(rows: list[Row]) -> list[str]:
    """What is not a duration, one line each."""
    return [f"{row.metric}: {row.p50:,.0f} {row.unit} (n = {row.n})" for row in rows if row.unit != "ms" and row.p50 is not None]


def as_json(rows: list[Row], machine: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The form that `lisrt bench --json` writes, and keeps."""
    return {"machine": machine, "config": config, "rows": [asdict(row) for row in rows]}
