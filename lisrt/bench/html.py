"""The report as a page."""

from __future__ import annotations

from collections.abc import Sequence

from lisrt.bench.documents import Document


def render(documents: Sequence[Document]) -> str:
    """One HTML file."""
    raise NotImplementedError
