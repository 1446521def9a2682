"""The report's large tables: every row, with what is known of how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lisrt.bench import charts
from lisrt.bench.compare import DOCKER, FLOOR, HOST, QUANTILES, YARDSTICKS, Figure
from lisrt.bench.numbers import NARROW, percent, ratio, significant, span
from lisrt.bench.verdict import Verdict


def everything(verdict: Verdict) -> str:
    """All durations: by workload and operation, a line for each backend."""
    timed = [one for one in verdict.figures if one.timed]
    if not timed:
        return ""
    names = list(dict.fromkeys(one.backend for one in timed))
    references = _references(verdict)
    heads = ["operation", *(["backend"] if len(names) > 1 else []), "n", "p50, ms", "p95, ms", "p99, ms", "per second"]
    heads += [f"× {name}" for name in references] + ["succeeded"]
    texts = 2 if len(names) > 1 else 1
    top = "".join(
        f'<th scope="col"{"" if number < texts else " class=num"}>{escape(head)}</th>' for number, head in enumerate(heads)
    )
    looks, bodies = charts.looks(names), []
    for workload in dict.fromkeys(one.workload for one in timed):
        rows = []
        own = [one for one in timed if one.workload == workload]
        for metric in dict.fromkeys(one.metric for one in own):
            same = sorted((one for one in own if one.metric == metric), key=lambda one: names.index(one.backend))
            for number, one in enumerate(same):
                named = f'<th scope="row">{escape(metric) if number == 0 else ""}</th>'
                if len(names) > 1:
                    named += f"<td>{charts.key(looks[one.backend])}{escape(one.backend)}{_at(one, same)}</td>"
                looked = " ".join(filter(None, ["first" if number == 0 else "", "fail" if one.row["failures"] else ""]))
                rows.append(f'<tr class="{looked}">{named}{_cells(verdict, one, references)}</tr>')
        head = f'<tr><th class="group" scope="rowgroup" colspan="{len(heads)}">{escape(workload)}</th></tr>'
        bodies.append(f"<tbody>{head}{''.join(rows)}</tbody>")
    said = f"Second lines: 95{NARROW}% intervals."
    if references:
        said += " × floor: this median as a multiple of the floor's. " if FLOOR in references else ""
        said += f" × {HOST}: this median as a multiple of the bare host's. " if HOST in references else ""
        said += f" × {DOCKER}: Docker's median as a multiple of this one." if DOCKER in references else ""
    return f'<div class="scroll"><table><caption>{said}</caption><thead><tr>{top}</tr></thead>{"".join(bodies)}</table></div>'


def _references(verdict: Verdict) -> list[str]:
    """Whom medians are compared with, for a column each."""
    known = {one["reference"] for one in verdict.document["ratios"] if one["of"] == "p50"}
    timed = {one.backend for one in verdict.figures if one.timed}
    return [name for name in (*YARDSTICKS, DOCKER) if name in known & timed]


def _at(one: Figure, same: Sequence[Figure]) -> str:
    """How many at once, where not all had as many."""
    differ = len({other.concurrency for other in same}) > 1
    return _small(f"{one.concurrency:,} at once") if differ and one.concurrency else ""


def _cells(verdict: Verdict, one: Figure, references: Sequence[str]) -> str:
    row = one.row
    attempts = row["n"] + row["failures"]
    cells = [f'<td class="num">{row["n"]:,}</td>']
    cells += [_number(row[of], verdict.interval(one, of)) for of in (*QUANTILES, "rate")]
    for name in references:
        found = next((ratio for ratio in verdict.document["ratios"] if _is(ratio, one, name)), None)
        cells.append(_ratio(found))
    share = percent(row["n"] / attempts) if attempts else ""
    failed = _small(f"{row['failures']:,} failed") if row["failures"] else ""
    cells.append(f'<td class="num">{share}{failed}</td>')
    return "".join(cells)


def _is(ratio: Mapping[str, Any], one: Figure, name: str) -> bool:
    found = ratio["backend"], ratio["workload"], ratio["metric"], ratio["of"], ratio["reference"]
    return found == (one.backend, *one.place, "p50", name)


def _number(value: float | None, interval: Mapping[str, Any] | None) -> str:
    """With its point in the same place as those above and below, and its interval beneath."""
    if value is None:
        return "<td></td>"
    return _aligned(significant(value), _small(span(interval["low"], interval["high"])) if interval else "", "f3")


def _ratio(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "<td></td>"
    interval = _small(f"{ratio(found['low'])}–{ratio(found['high'])}") if found["low"] is not None else ""
    return _aligned(ratio(found["value"]) + ("" if found["same_run"] else "†"), interval, "f2")


def _aligned(number: str, beneath: str, places: str) -> str:
    """What follows the point takes as much room in every line of a column."""
    whole, point, rest = number.partition(".")
    mark = "†" if not point and whole.endswith("†") else ""
    return f'<td class="num">{whole.removesuffix("†")}<span class="{places}">{point}{rest}{mark}</span>{beneath}</td>'


def _small(words: str) -> str:
    return f'<span class="ci">{escape(words)}</span>'


def others(verdict: Verdict) -> str:
    """What is no duration: a line for each figure, a column for each backend."""
    rows = [one for one in verdict.figures if not one.timed and one.row["p50"] is not None]
    if not rows:
        return ""
    names = list(dict.fromkeys(one.backend for one in rows))
    lines: dict[tuple[str, str, str], dict[str, Figure]] = {}
    for one in rows:
        lines.setdefault((*one.place, one.row["unit"]), {})[one.backend] = one
    body = ""
    for (workload, metric, unit), found in lines.items():
        values = "".join(_number(found[name].row["p50"], None) if name in found else "<td></td>" for name in names)
        counts = sorted({one.row["n"] for one in found.values()})
        n = f"{counts[0]:,}" + (f"–{counts[-1]:,}" if len(counts) > 1 else "")
        named = f'<th scope="row">{escape(metric)}</th><td>{escape(workload)}</td><td class="num">{n}</td>'
        body += f"<tr>{named}{values}<td>{escape(unit)}</td></tr>"
    heads = [("figure", ""), ("workload", ""), ("n", " class=num"), *((name, " class=num") for name in names), ("unit", "")]
    top = "".join(f'<th scope="col"{look}>{escape(name)}</th>' for name, look in heads)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
