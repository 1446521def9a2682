"""The report as a page: one file that needs nothing else, for screens light and dark, and for paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lisrt.bench import charts
from lisrt.bench.documents import Document, merge
from lisrt.bench.machine import described
from lisrt.bench.numbers import NARROW, figure, significant
from lisrt.bench.style import CSS
from lisrt.bench.tables import everything, others
from lisrt.bench.verdict import Verdict

_METHOD = """
<p>A time is that of the whole call, as its caller waits for it. Quantiles are nearest rank. A rate is successes per second of
wall-clock time, over a whole phase. Nothing is tried again: what fails is counted, and is no sample.</p>
<p>Intervals hold at 95{nbsp}%. Of a quantile they lie between two of the samples, by the binomial distribution, without an
assumption on the shape; too few samples have none. Of a ratio they are percentiles of {resamples:,} bootstrap resamples with seed
{seed}; of a rate, of as many resamples of the gaps between completions, in blocks. All of them take operations for independent
and the machine for steady: they say nothing of another day or another machine. Ratios are of figures of one run where one run
has both{across}. Raw samples are in the JSON that this page was made from.</p>
"""
_LABELS = {
    "arch": "architecture", "cpu": "processor", "cpus": "processors to use", "cpu_quota": "processor quota",
    "smt": "simultaneous multithreading", "governor": "frequency governor", "memory_bytes": "memory", "swap_bytes": "swap",
    "mitigation_parameters": "boot parameters of mitigations", "privileged": "run as root", "load_before": "load before",
}  # fmt: skip


def render(documents: Sequence[Document]) -> str:
    """One HTML file. What the documents say is text in it, whatever it looks like."""
    merged = merge(documents)
    verdict = Verdict(merged)
    parts = [
        _header(verdict),
        _targets(verdict),
        *charts.sections(verdict),
        _section("Also found", _notes(merged)),
        _section("All figures", everything(verdict)),
        _section("Other figures", others(verdict)),
        _section("What failed", _failures(merged)),
        _section("What did not run", _absent(merged)),
        _section("The machine", _machines(merged)),
        _section("How each was set", _settings(merged)),
        _section("How it was measured", _method(merged) + _repeat(merged)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(_title(verdict))}</title><style>{CSS}</style></head>\n"
        f"<body>{''.join(part for part in parts if part)}</body></html>\n"
    )


def _title(verdict: Verdict) -> str:
    names = list(dict.fromkeys(one.backend for one in verdict.figures if one.backend != verdict.subject))
    beside = f" beside {' and '.join([*filter(None, [', '.join(names[:-1])]), names[-1]])}" if names else ""
    return f"lisrt bench: {verdict.subject or 'nothing measured'}{beside}"


def _header(verdict: Verdict) -> str:
    sentences = "".join(f"<li>{escape(one)}</li>" for one in verdict.sentences())
    made = verdict.document
    said = escape(" · ".join(filter(None, [made.get("date", ""), described(made["machine"])])))
    title = f'<h1>{escape(_title(verdict))}</h1><p class="by sans">{said}</p>'
    return f'<header>{title}<ul class="verdict">{sentences}</ul></header>\n'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n" if content else ""


def _targets(verdict: Verdict) -> str:
    held = verdict.targets()
    if not held:
        return ""
    rows = []
    for one in held:
        word, look = {True: ("met", "yes"), False: ("missed", "no"), None: ("within its interval", "open")}[one.held]
        cells = f"<td>{escape(one.workload)}</td><td>{escape(one.target)}</td>"
        cells += f'<td class="num">{escape(one.measured)}</td><td>{escape(one.interval) or "–"}</td>'
        cells += f'<td class="{look}">{word}</td>'
        rows.append(f'<tr><th scope="row">{escape(one.name)}</th>{cells}</tr>')
    names = ("", "workload", "target", "measured", f"95{NARROW}% interval", "")
    heads = "".join(f'<th scope="col"{" class=num" if name == "measured" else ""}>{name}</th>' for name in names)
    table = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    return _section("Against the targets", table)


def _failures(made: Document) -> str:
    errors = [(name, *one) for name, messages in made.get("errors", {}).items() for one in messages.items()]
    rows = [(name, f"{count:,}", message) for name, message, count in errors]
    return _table(("backend", "count", "first message of its kind"), rows)


def _absent(made: Document) -> str:
    absent = [(name, one.get("reason", "")) for name, one in made.get("backends", {}).items() if not one["available"]]
    absent += [(f"{name} (workload)", str(why)) for name, why in made.get("left_out", {}).items()]
    return _table(("", "why it did not run"), absent)


def _notes(made: Document) -> str:
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in made.get("notes", ()))
    return f'<ul class="notes">{notes}</ul>' if notes else ""


def _machines(made: Document) -> str:
    runs = made.get("runs") or [made]
    machines: list[dict[str, Any]] = []
    for run in runs:
        facts = {name: value for name, value in run["machine"].items() if name != "load_before"}
        if facts not in machines:
            machines.append(facts)
    shown = []
    for number, facts in enumerate(machines):
        loads = [run["machine"].get("load_before") for run in runs]
        first = facts | {"load_before": loads[0]} if len(runs) == 1 or number == 0 else facts
        title = f"<h3>Machine {number + 1}</h3>" if len(machines) > 1 else ""
        shown.append(f"{title}{_facts(first)}")
    return "".join(shown)


def _facts(facts: Mapping[str, Any]) -> str:
    guarantees = facts.get("guarantees")
    rows = [(name, value) for name, value in facts.items() if not isinstance(value, Mapping)]
    shown = _list([(_LABELS.get(name, name.replace("_", " ")), _fact(name, value)) for name, value in rows])
    if isinstance(guarantees, Mapping):
        kept = [(str(name), str(value)) for name, value in guarantees.items()]
        shown += f"<h3>What was enforced in lisrt's sandboxes</h3>{_list(kept)}"
    return shown


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in rows)}</dl>"


def _fact(name: str, value: Any) -> str:
    if value is None:
        return "unknown or none" if name == "cpu_quota" else "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if name.endswith("_bytes") and isinstance(value, int):
        return figure(value / 1024, "KiB") if value else "none"
    return significant(value) if isinstance(value, float) else str(value)


def _settings(made: Document) -> str:
    rows: list[tuple[str, str, str]] = []
    for name, one in made.get("backends", {}).items():
        for number, (key, value) in enumerate(one.get("settings", {}).items()):
            rows.append((name if number == 0 else "", key, str(value)))
    return _table(("backend", "", "setting"), rows)


def _method(made: Document) -> str:
    said = made.get("statistics", {})
    across = "" if all(one["same_run"] for one in made["ratios"]) else "; others, of two runs on the same machine, have a †"
    text = _METHOD.format(nbsp=NARROW, resamples=said.get("resamples", 0), seed=int(made.get("seed", 0)), across=across)
    order = str(made.get("order") or "")
    return text + (f"<p>Order of operations: {escape(order)}</p>" if order else "")


def _repeat(made: Document) -> str:
    commands = list(dict.fromkeys(filter(None, (run.get("command") for run in made.get("runs") or [made]))))
    if not commands:
        return ""
    return f"<h3>To repeat it</h3><pre>{escape(chr(10).join(commands))}</pre>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="scroll"><table class="slim"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
