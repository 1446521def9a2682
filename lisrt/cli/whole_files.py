"""Files that are written whole or not at all: what was there before is not lost to a program that is broken off."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

__all__ = ["is_special", "writing"]


def is_special(file: str) -> bool:
    """Something that is written to and not replaced: /dev/null, a FIFO."""
    return os.path.exists(file) and not os.path.isfile(file)


@contextlib.contextmanager
def writing(file: str) -> Iterator[TextIO]:
    """To that file, or to stdout for "-". OSError."""
    if file == "-":
        with open(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as out:
            yield out
    elif is_special(file):
        with open(file, "w", encoding="utf-8") as out:
            yield out
    else:
        file = os.path.realpath(file)
        handle, made = tempfile.mkstemp(dir=os.path.dirname(file))
        try:
            with open(handle, "w", encoding="utf-8") as out:
                yield out
            mask = os.umask(0o077)
            os.umask(mask)
            os.chmod(made, 0o666 & ~mask)
            os.replace(made, file)
        except BaseException:  # also Ctrl-C: half of it takes no other's place, and none is left
            os.unlink(made)
            raise
