"""`lisrt bench`: how fast sandboxes come, work and go on this machine, what they weigh, and how others compare."""

from lisrt.bench.config import Config, Think
from lisrt.bench.measure import Recorder, Row, Samples
from lisrt.bench.report import as_json, document, dumps, figures, load, merge, page, repeatable, table, text
from lisrt.bench.run import Bench

__all__ = [
    "Bench", "Config", "Recorder", "Row", "Samples", "Think", "as_json", "document", "dumps", "figures", "load", "merge", "page",
    "repeatable", "table", "text",
]  # fmt: skip
