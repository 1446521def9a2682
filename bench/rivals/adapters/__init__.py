"""What worker.py calls, a module for each rival: `Adapter(options)`, with `start`, `settings`, `create` and `stop`; and what
`create` returns, with `run(argv, stdin)`, `write`, `read` and `destroy`. Each uses its rival as its documents say."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def with_stdin(argv: Sequence[str], file: str) -> str:
    """The command for a rival that gives programs no stdin: a file that was written before."""
    return f"{shlex.join(argv)} < {shlex.quote(file)}"
