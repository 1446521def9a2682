"""Users of an image: what its /etc/passwd says. It may be the work of an attacker; it chooses names and homes, no rights."""

from __future__ import annotations

from typing import NamedTuple

_MOST = 4096


class Account(NamedTuple):
    """One line."""

    name: str
    uid: int
    gid: int
    home: str


def parse(text: str) -> tuple[Account, ...]:
    """The lines that make sense, in their order."""
    found = []
    for line in text.splitlines()[:_MOST]:
        fields = line.split(":")
        if len(fields) >= 6 and _is_id(fields[2]) and _is_id(fields[3]) and fields[5].startswith("/"):
            found.append(Account(fields[0], int(fields[2]), int(fields[3]), fields[5]))
    return tuple(found)


def find(accounts: tuple[Account, ...], user: str | int) -> Account:
    """The account of a name, or of a number, for which there need not be one. Docker's USER: `name`, `uid`, `either:group`.

    Raises ValueError for a name that is not there.
    """
    wanted, _, group = str(user).partition(":")
    known = next((one for one in accounts if (one.uid == int(wanted) if _is_id(wanted) else one.name == wanted)), None)
    if known is None and not _is_id(wanted):
        raise ValueError(f"there is no user {wanted!r} in the image's /etc/passwd")
    account = known or Account("root" if wanted == "0" else "user", int(wanted), int(wanted), "/root" if wanted == "0" else "/")
    # of groups only the number can be had: names are in another file, and nothing here depends on them
    return account._replace(gid=int(group)) if _is_id(group) else account


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 2**31 if len(text) < 12 else False
