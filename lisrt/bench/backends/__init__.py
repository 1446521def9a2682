"""The runtimes that `lisrt bench` measures. Each is imported when it is asked for: Docker's SDK is no part of lisrt."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from lisrt.bench.backend import Backend, Unavailable

Factory: TypeAlias = Callable[[int | None], Backend]
"""Makes a backend. The argument is the memory limit of each sandbox in bytes, or None for no limit."""


def _native(memory: int | None) -> Backend:
    from lisrt.bench.backends.native import Lisrt

    return Lisrt("native", memory)


def _bwrap(memory: int | None) -> Backend:
    from lisrt.bench.backends.native import Lisrt

    return Lisrt("bwrap", memory)


def _docker(memory: int | None) -> Backend:
    _need_sdk()
    from lisrt.bench.backends.docker import Docker

    return Docker(memory)


def _podman(memory: int | None) -> Backend:
    _need_sdk()
    from lisrt.bench.backends.podman import Podman

    return Podman(memory)


def _need_sdk() -> None:
    try:
        importlib.import_module("docker")
    except ImportError:
        raise Unavailable("Docker's SDK for Python is not installed: pip install 'lisrt[bench]'") from None


BACKENDS: Mapping[str, Factory] = {"native": _native, "bwrap": _bwrap, "docker": _docker, "podman": _podman}
"""By name. The first two are lisrt's own launchers."""


def named(name: str, memory: int | None = None) -> Backend:
    """The backend of that name; or, for one that is not lisrt's, what `module:factory` makes, as in `rivals:crun`.

    Unavailable, where something it is made of is not installed; ValueError for a name that is none.
    """
    if name in BACKENDS:
        return BACKENDS[name](memory)
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"a backend is one of {', '.join(BACKENDS)}, or module:factory: {name!r}")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no backend {name!r}: {error}") from None
    return cast(Factory, factory)(memory)
