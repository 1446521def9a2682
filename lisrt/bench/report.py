"""The report, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from lisrt.bench.measure import Row


def table(rows: list[Row], title: str) -> Table:
    """A table for rich."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for name in ("workload", "operation"):
        shown.add_column(name)
    for name in ("n", "p50", "p95", "p99", "per second", "failures"):
        shown.add_column(name, justify="right")
    workload = None
    for row in rows:
        if row.workload != workload:
            shown.add_section()
        shown.add_row(
            row.workload if row.workload != workload else "",
            row.metric,
            str(row.n),
            _figure(row.p50, row.unit),
            _figure(row.p95, row.unit),
            _figure(row.p99, row.unit),
            f"{row.rate:,.0f}" if row.rate else "",
            str(row.failures) if row.unit == "ms" else "",
            style="red" if row.failures else None,
        )
        workload = row.workload
    return shown


def as_json(rows: list[Row], machine: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The form that `lisrt bench --json` writes, and keeps."""
    return {"machine": machine, "config": config, "rows": [asdict(row) for row in rows]}


def _figure(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.2f} {unit}" if unit == "ms" else f"{value:,.0f} {unit}"
