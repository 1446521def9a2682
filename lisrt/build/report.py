"""What a build tells whoever watches. This one tells nobody."""

from __future__ import annotations


class Report:
    """Gets called as a build goes on; the command line has one that prints."""

    def begin(self, title: str) -> None:
        """A step begins."""

    def doing(self, text: str) -> None:
        """What it does right now."""

    def end(self, note: str, seconds: float) -> None:
        """It is done; `note` says whether it had been made before."""

    def warn(self, text: str) -> None:
        """Something that the user should know."""
