"""Runtimes that lisrt is measured beside and that are no part of it, as backends of `lisrt bench`: PYTHONPATH=bench, and
`rivals:NAME`. What each needs, and what is fair about it, is in README.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lisrt.bench.backend import Backend


def bwrap_each(memory: int | None) -> Backend:
    """A bubblewrap for each command, as several agents do it."""
    from rivals.each_command import BwrapEach

    return BwrapEach(memory)


def crun(memory: int | None) -> Backend:
    """The OCI runtime, by its command line."""
    return _worker("crun", memory)


def runsc(memory: int | None) -> Backend:
    """gVisor's OCI runtime, by its command line."""
    return _worker("runsc", memory)


def nitrobox(memory: int | None) -> Backend:
    """PyPI's nitrobox."""
    return _worker("nitrobox", memory)


def llm_sandbox(memory: int | None) -> Backend:
    """PyPI's llm-sandbox, with its bubblewrap backend."""
    return _worker("llm_sandbox", memory)


def pybubble(memory: int | None) -> Backend:
    """PyPI's pybubble."""
    return _worker("pybubble", memory)


def sandlock(memory: int | None) -> Backend:
    """PyPI's sandlock."""
    return _worker("sandlock", memory)


def llm_in_sandbox(memory: int | None) -> Backend:
    """The paper's own package, PyPI's llm-in-sandbox, whose runtime is a Docker container."""
    return _worker("llm_in_sandbox", memory)


def _worker(name: str, memory: int | None) -> Backend:
    from rivals.remote import Remote

    return Remote(name, memory)


RIVALS: Mapping[str, Callable[[int | None], Backend]] = {
    "bwrap-each": bwrap_each,
    "crun": crun,
    "runsc": runsc,
    "nitrobox": nitrobox,
    "llm-sandbox": llm_sandbox,
    "pybubble": pybubble,
    "sandlock": sandlock,
    "llm-in-sandbox": llm_in_sandbox,
}
"""By the names that the report shows."""
