"""Which versions an episode ran with."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache

__all__ = ["versions"]


@cache
def versions() -> dict[str, str | None]:
    """Of Python, lisrt and openai; None for a package that is not installed as one."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("lisrt", "openai"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            found[package] = None
    return found
