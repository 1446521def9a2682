"""`lisrt bench`: how fast sandboxes come, work and go on this machine, what they weigh, and how others compare."""

from lisrt.bench.config import Config, Think
from lisrt.bench.measure import Recorder, Row
from lisrt.bench.report import as_json, figures, table
from lisrt.bench.run import Bench

__all__ = ["Bench", "Config", "Recorder", "Row", "Think", "as_json", "figures", "table"]
