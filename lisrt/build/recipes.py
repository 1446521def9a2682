"""Where recipes are: lisrt's own by name, any other by its directory."""

from __future__ import annotations

import difflib
from pathlib import Path

from lisrt.build.recipe import FILE
from lisrt.errors import ImageError

_PACKAGE = Path(__file__).resolve().parent.parent
_OWN = (_PACKAGE / "rootfs", _PACKAGE.parent / "rootfs")
"""In an installed lisrt, and in its repository."""


def find(name: str) -> Path:
    """The directory of a recipe. A directory goes before a name. ImageError says which names there are."""
    given = Path(name)
    if (given / FILE).is_file():
        return given
    own = _own()
    if name in own:
        return own[name]
    if given.is_dir():
        raise ImageError(f"{name!r} is a directory without a {FILE}")
    near = difflib.get_close_matches(name, own, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"lisrt's own are {', '.join(sorted(own)) or 'not installed'}"
    raise ImageError(f"there is no recipe {name!r}, and no directory of that name; {hint}")


def _own() -> dict[str, Path]:
    places = (place for place in reversed(_OWN) if place.is_dir())
    return {path.parent.name: path.parent for place in places for path in place.glob(f"*/{FILE}")}
