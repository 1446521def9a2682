"""Where recipes are: lisrt's own by name, any other by its directory."""

from __future__ import annotations

import difflib
from pathlib import Path

from lisrt.errors import ImageError

FILE = "recipe.toml"
_PACKAGE = Path(__file__).resolve().parent.parent
_OWN = (_PACKAGE / "rootfs", _PACKAGE.parent / "rootfs")
"""In an installed lisrt, and in its repository."""


def find(name: str) -> Path:
    """The directory of a recipe: given as such, by its recipe.toml, or by a name, which comes last. ImageError says which names there are."""
    given = Path(name)
    if (given / FILE).is_file():
        return given
    if given.name == FILE and given.is_file():
        return given.parent
    known = own()
    if name in known:
        return known[name]
    if given.is_dir():
        raise ImageError(f"{name!r} is a directory without a {FILE}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"lisrt's own are {', '.join(sorted(known)) or 'not installed'}"
    raise ImageError(f"there is no recipe {name!r}, and no directory of that name; {hint}")


def own() -> dict[str, Path]:
    """The directories of lisrt's own recipes, by name."""
    places = (place for place in reversed(_OWN) if place.is_dir())
    return {path.parent.name: path.parent for place in places for path in place.glob(f"*/{FILE}")}
