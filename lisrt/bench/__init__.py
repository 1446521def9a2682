"""`lisrt bench`: how fast sandboxes come, work and go on this machine, and what they weigh."""

from lisrt.bench.measure import Recorder, Row
from lisrt.bench.report import as_json, figures, table
from lisrt.bench.workload import Bench, Config

__all__ = ["Bench", "Config", "Recorder", "Row", "as_json", "figures", "table"]
