"""The report as JSON: made, written, read back, and several runs put together."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lisrt.bench import compare, stats
from lisrt.bench.machine import anonymous
from lisrt.bench.measure import Recorder, Samples

Document = dict[str, Any]

_NUMBERS = re.compile(r"\[\s+(-?[\d.eE+-]+(?:,\s+-?[\d.eE+-]+)*)\s+\]")
_READINGS = re.compile(r"\{\s+(\"[^\"\\\n]*\": -?[\d.eE+-]+(?:,\s+\"[^\"\\\n]*\": -?[\d.eE+-]+)*)\s+\}")


def document(
    recorders: Sequence[Recorder],
    machine: Mapping[str, Any],
    config: Mapping[str, Any],
    seed: int,
    backends: Mapping[str, Mapping[str, str] | str],
    *,
    order: str = "",
    command: str = "",
) -> Document:
    """The whole report, ready for json.

    `backends` has the settings of each that ran, and for each that did not the reason, a string; `order` says in words how
    operations were interleaved, `command` (`repeatable(argv)`) repeats the run. This user's paths and the name of this machine
    are taken out of settings, reasons, failures and the command; `machine` and `config` are taken as they are.

    The report also has a place for what is added to it afterwards: "notes" (sentences), "left_out" (workloads that were not
    carried out, and why) and "series" (by workload and backend; `samples` in one, a list of gauges by name with `seconds`, are
    drawn over time).
    """
    made: Document = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": dict(machine),
        "config": dict(config),
        "command": anonymous(command),
        "seed": seed,
        "order": order,
        "backends": {name: _backend(known) for name, known in backends.items()},
        "errors": {
            one.backend: {anonymous(message): count for message, count in one.errors.items()} for one in recorders if one.errors
        },
        "rows": [asdict(row) for one in recorders for row in one.rows()],
        "samples": [_samples(samples) for one in recorders for samples in one.samples() if samples.values],
    }
    return complete(made)


def repeatable(argv: Sequence[str], program: str = "lisrt") -> str:
    """The command line that repeats a run, without the files that its reports went to."""
    kept, skip = [program], False
    for word in argv:
        if skip or word.split("=")[0] in ("--json", "--html"):
            skip = not skip and "=" not in word
            continue
        kept.append(word)
    return shlex.join(kept)


def _backend(known: Mapping[str, str] | str) -> dict[str, Any]:
    if isinstance(known, str):
        return {"available": False, "reason": anonymous(known)}
    return {"available": True, "settings": {name: anonymous(str(value)) for name, value in known.items()}}


def _samples(samples: Samples) -> dict[str, Any]:
    """To the nanosecond, which is less than the clock's own error. When operations ended matters only to a rate."""
    return {
        "backend": samples.backend,
        "workload": samples.workload,
        "metric": samples.metric,
        "unit": samples.unit,
        "concurrency": samples.concurrency,
        "wall_s": round(samples.wall, 9) if samples.wall is not None else None,
        "values": [round(value, 6) for value in samples.values],
        **({"ended_s": [round(ended, 6) for ended in samples.ended]} if samples.wall and samples.ended else {}),
    }


def complete(made: Document) -> Document:
    """With all that follows from its rows and samples: intervals, shares of success, ratios. One that has them is unchanged."""
    if "ratios" not in made:
        found, seed = compare.figures(made), made.get("seed", 0)
        made["statistics"] = {"level": stats.LEVEL, "resamples": stats.RESAMPLES}
        made["intervals"] = compare.intervals(found, seed)
        made["success"] = compare.success(found)
        made["ratios"] = compare.ratios(found, seed)
    return made


def dumps(made: Document) -> str:
    """As JSON that people can read and compare by lines: a list of numbers is one line, however long; named numbers, too."""
    text = json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False)
    text = _NUMBERS.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)
    return _READINGS.sub(lambda found: "{" + re.sub(r"\n\s+", " ", found[1]) + "}", text) + "\n"


def load(path: str | Path) -> Document:
    """A report read back; those that older versions wrote have rows alone, and get what can be had from them. ValueError when
    it is none."""
    made = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(made, dict) or not isinstance(made.get("rows"), list) or not isinstance(made.get("machine"), dict):
        raise ValueError(f"{Path(path).name} is no report of lisrt bench")
    return complete(made)


def merge(documents: Sequence[Document]) -> Document:
    """Several runs as one report. What two of them measured is taken from the first; a ratio from the first run that has both
    sides of it, and else from two runs, said by "same_run", where the machine is the same. "runs" has what differs."""
    if len(documents) == 1:
        return documents[0]
    first, machines = documents[0], {_identity(one["machine"]) for one in documents}
    merged: Document = {**first, "runs": [_run(one) for one in documents]}
    known: dict[str, Any] = {}
    for name, backend in (item for one in documents for item in one.get("backends", {}).items()):
        if name not in known or (backend["available"] and not known[name]["available"]):
            known[name] = backend
    merged["backends"] = known
    for part in ("rows", "samples", "intervals", "success", "ratios"):
        found: dict[tuple[object, ...], Any] = {}
        for row in (row for one in documents for row in one.get(part, [])):
            found.setdefault(_key(row), row)
        merged[part] = list(found.values())
    if len(machines) == 1:
        had = {_key(ratio) for ratio in merged["ratios"]}
        across = compare.ratios(compare.figures(merged), first.get("seed", 0))
        merged["ratios"] += [ratio | {"same_run": False} for ratio in across if _key(ratio) not in had]
    errors: dict[str, dict[str, int]] = {}
    for name, messages in (item for one in documents for item in one.get("errors", {}).items()):
        errors.setdefault(name, {}).update(messages)
    notes = list(dict.fromkeys(note for one in documents for note in one.get("notes", [])))
    left_out = {name: why for one in reversed(documents) for name, why in one.get("left_out", {}).items()}
    series: dict[str, dict[str, Any]] = {}
    for name, backends in (item for one in documents for item in one.get("series", {}).items()):
        series[name] = {**backends, **series.get(name, {})}
    return merged | {"errors": errors, "notes": notes, "left_out": left_out, "series": series}


def _key(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("backend", "reference", "workload", "metric", "of"))


def _run(one: Document) -> dict[str, Any]:
    said = {name: one.get(name) for name in ("machine", "config", "command", "seed", "order")}
    return said | {"backends": list(dict.fromkeys(row["backend"] for row in one["rows"]))}


def _identity(machine: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(machine.get(name) for name in ("kernel", "arch", "cpu", "cpus", "memory_bytes"))
