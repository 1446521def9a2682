"""Who commands are in a sandbox, and the variables that follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from lisrt.errors import ImageError
from lisrt.image import DEFAULT_ENV, Root
from lisrt.passwd import Account, find, parse
from lisrt.spec import environment
from lisrt.stored import read_text


def account(root: Root, asked: int | str | None, image: str, *, is_snapshot: bool) -> Account:
    """The user that was asked for, or else the image's, or root. ValueError for a name that is not there; ImageError where it
    is the image that names it."""
    wanted = asked if asked is not None else root.user or 0
    accounts = root.accounts
    if is_snapshot and wanted not in (0, "0", "root"):  # programs may have made users since
        accounts = parse(read_text(root.layers, "etc/passwd")) or accounts
    try:
        return find(accounts, wanted)
    except ValueError as error:
        if asked is None:
            raise ImageError(f"image {image!r} names a user of its own: {error}") from None
        raise


def variables(who: Account, root: Root, uplink: Mapping[str, str]) -> dict[bytes, bytes]:
    """The environment of commands, before what the caller adds."""
    known = {"HOME": who.home, "USER": who.name, "LOGNAME": who.name} if who.uid else {}
    return environment({**dict(DEFAULT_ENV), **known, **uplink, **dict(root.env)})
