"""`recipe.lock`: the versions of the packages that a recipe has brought into its image."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lisrt.errors import ImageError

HEADER = "# The versions of the packages in this image, by `lisrt image build`; `--update` renews them.\n"


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions by package: of the distribution, and of Python."""

    apt: Mapping[str, str] = field(default_factory=dict)
    pip: Mapping[str, str] = field(default_factory=dict)

    def without(self, other: Versions) -> Versions:
        """What of these is not the same there."""
        return Versions(_without(self.apt, other.apt), _without(self.pip, other.pip))

    def differing(self, other: Versions) -> list[str]:
        """`name 1 (there: 2)` for each that both have, in different versions."""
        pairs = [(self.apt, other.apt), (self.pip, other.pip)]
        return [
            f"{name} {version} (there: {theirs[name]})"
            for mine, theirs in pairs
            for name, version in sorted(mine.items())
            if theirs.get(name, version) != version
        ]

    def names(self) -> set[str]:
        """Every package's."""
        return {*self.apt, *self.pip}

    def __bool__(self) -> bool:
        return bool(self.apt or self.pip)


def _without(mine: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in mine.items() if theirs.get(name) != version}


def read(path: Path, architecture: str) -> Versions | None:
    """The lock; None where there is none, or one of another architecture. ImageError for one that is damaged."""
    try:
        value = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImageError(f"{path}: {error}; `--update` makes a new one") from None
    tables = [value.get(name, {}) for name in ("apt", "pip")]
    if not all(isinstance(one, dict) and all(isinstance(version, str) for version in one.values()) for one in tables):
        raise ImageError(f"{path}: not the versions of packages; `--update` makes a new one")
    return Versions(*tables) if value.get("architecture") == architecture else None


def write(path: Path, versions: Versions, architecture: str) -> bool:
    """False where it can't be written beside the recipe: that of an installed lisrt, say."""
    lines = [HEADER, f"architecture = {json.dumps(architecture)}\n"]
    for name, table in (("apt", versions.apt), ("pip", versions.pip)):
        lines.append(f"\n[{name}]\n")
        lines += [f"{json.dumps(package)} = {json.dumps(version)}\n" for package, version in sorted(table.items())]
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text("".join(lines))
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        return False
    return True
