"""A trajectory for people: as turns in plain values, for the terminal, and as a page.

All of it is untrusted: models and programs have written it. No text leaves here with a character that a terminal would obey or
that hides what stands there; nothing of it is markup.
"""

from lisrt.agent.view.episode import Call, NotATrajectory, Note, Part, Trajectory, Turn
from lisrt.agent.view.page import page, run_page
from lisrt.agent.view.places import Place, Row, Run, find
from lisrt.agent.view.terminal import Screen

__all__ = [
    "Call", "NotATrajectory", "Note", "Part", "Place", "Row", "Run", "Screen", "Trajectory", "Turn", "find", "page", "run_page",
]  # fmt: skip
