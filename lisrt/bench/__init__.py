"""`lisrt bench`: how fast sandboxes come, work and go on this machine, and what they weigh."""

from lisrt.bench.measure import Recorder, Row, Samples
from lisrt.bench.report import as_json, document, dumps, figures, load, merge, page, repeatable, table, text
from lisrt.bench.workload import Bench, Config

__all__ = [
    "Bench", "Config", "Recorder", "Row", "Samples", "as_json", "document", "dumps", "figures", "load", "merge", "page",
    "repeatable", "table", "text",
]  # fmt: skip
