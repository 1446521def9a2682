"""Defaults of this user: environment variables (`LISRT_IMAGE`, `LISRT_SCRATCH`, ...) first, then the settings file.

The file is `$XDG_CONFIG_HOME/lisrt/config.toml` (`~/.config/lisrt/config.toml`). Keys: `home`, `image`, `scratch`, `cgroup`,
`launcher`, `bwrap`, `mirrors`, `uplink`, `cache`, `cache_size`.
"""

from __future__ import annotations

import os
import tomllib
from functools import lru_cache
from pathlib import Path

TABLES = ("bench", "exec", "mcp", "run", "sandbox", "shell")
"""Of the same file: options of the commands, which lisrt/cli/config.py reads."""
KEYS = ("bwrap", "cache", "cache_size", "cgroup", "home", "image", "launcher", "mirrors", "scratch", "uplink")
PATHS = ("scratch", "bwrap", "cache", "home")


def path() -> Path:
    """Where the settings file is, whether or not it exists."""
    return Path(_place())


def get(key: str) -> str | None:
    """The setting from `$LISRT_KEY` or the file; None when neither has it. A broken file raises ValueError."""
    from_environment = os.environ.get(f"LISRT_{key.upper()}")
    if from_environment:
        return _checked(key, from_environment, f"$LISRT_{key.upper()}")
    file = _place()
    try:
        now = os.stat(file)
        values = _parsed(file, (now.st_mtime_ns, now.st_size, now.st_ino))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{file}: {key} must be a string")
    return _checked(key, value, file) if value else None


def _place() -> str:
    """As `path`. Asked for each sandbox: with pathlib, and the file read, it took half of what Python does to make one."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "lisrt", "config.toml")


@lru_cache(maxsize=4)
def _parsed(file: str, _version: tuple[int, int, int]) -> dict[str, object]:
    """Read again when it has been changed; so long-lived programs see it."""
    with open(file, "rb") as opened:
        raw = opened.read()
    try:
        values: dict[str, object] = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {error}") from None
    unknown = sorted(set(values) - set(KEYS) - set(TABLES))
    if unknown:
        raise ValueError(f"{file}: unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")
    return values


def _checked(key: str, value: str, source: str) -> str:
    if key not in PATHS:
        return value
    expanded = os.path.expanduser(value)
    if not os.path.isabs(expanded):
        raise ValueError(f"{source}: {key} must be an absolute path: {value!r}")
    return expanded
