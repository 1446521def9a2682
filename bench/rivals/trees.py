"""Directories that runtimes have left."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def delete(place: Path) -> None:
    """The tree, with the directories in it that overlays have made, whose mode is 000. OSError."""
    for at, names, _ in os.walk(place):
        for name in names:
            inner = os.path.join(at, name)
            if not os.path.islink(inner) and not os.access(inner, os.R_OK | os.W_OK | os.X_OK):
                with contextlib.suppress(PermissionError):  # somebody else's: to delete it will fail, and say so
                    os.chmod(inner, 0o700)
    shutil.rmtree(place)
