"""Which packages a first system is made of: those that every one has, those that are asked for, and what they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lisrt.build.debian import Wanted, dependencies
from lisrt.build.mirror import Index, Offer
from lisrt.errors import ImageError

_MERGED = "usr-is-merged"
"""Says that /bin and /lib are links into /usr, as they are from the start here; `usrmerge` would bring Perl to make them."""


def choose(index: Index, asked: Iterable[str], versions: Mapping[str, str]) -> list[Offer]:
    """The packages, by name. `versions`, from a lock, are taken where the mirror has them; else the newest.

    No solver: a first system has no conflicts to choose around, and apt, which has one, is part of it. Of alternatives the one
    that is there already is taken, else the first that exists. ImageError names what can't be had, and who wants it.
    """
    chosen: dict[str, Offer] = {}
    merged = [_MERGED] if index.offers(_MERGED) else []
    pending = [(Wanted(name), "every system") for name in [*index.needed(), *merged]]
    pending += [(Wanted(name), "the recipe") for name in asked]
    choices: list[tuple[list[Wanted], str]] = []
    while pending or choices:
        if not pending:  # where there is a choice, what is needed anyhow comes first
            group, by = choices.pop(0)
            if not any(_satisfied(one, chosen) for one in group):
                pending.append((_alternative(index, group, versions, chosen, by), by))
            continue
        wanted, by = pending.pop(0)
        name = wanted.name
        if name in chosen:
            continue
        offer = _pick(index, wanted, versions)
        if offer is None:
            raise ImageError(f"package {name!r}, which {by} needs, is on none of the mirrors")
        chosen[name] = offer
        for group in _groups(offer):
            if len(group) == 1 and _pick(index, group[0], versions):
                pending.append((group[0], name))
            else:
                choices.append((group, name))
    return [chosen[name] for name in sorted(chosen)]


def missing(index: Index, versions: Mapping[str, str]) -> list[str]:
    """Of the versions of a lock those that no mirror has any more, as `name=version`."""
    return [
        f"{name}={version}"
        for name, version in sorted(versions.items())
        if all(offer.version != version for offer in index.offers(name))
    ]


def _groups(offer: Offer) -> list[list[Wanted]]:
    text = [offer.fields.get(name, "") for name in ("Pre-Depends", "Depends")]
    return [group for one in text for group in dependencies(one)]


def _pick(index: Index, wanted: Wanted, versions: Mapping[str, str]) -> Offer | None:
    offers = [offer for offer in index.offers(wanted.name) if wanted.admits(offer.version)]
    locked = [offer for offer in offers if offer.version == versions.get(wanted.name)]
    return next(iter(locked or offers), None)


def _satisfied(wanted: Wanted, chosen: Mapping[str, Offer]) -> bool:
    if wanted.name in chosen:
        return wanted.admits(chosen[wanted.name].version)
    return not wanted.relation and any(wanted.name in _provided(offer) for offer in chosen.values())


def _provided(offer: Offer) -> set[str]:
    return {one.name for group in dependencies(offer.fields.get("Provides", "")) for one in group}


def _alternative(
    index: Index, group: list[Wanted], versions: Mapping[str, str], chosen: Mapping[str, Offer], by: str
) -> Wanted:
    for wanted in group:
        if wanted.name not in chosen and _pick(index, wanted, versions):
            return wanted
        for provider in index.providers(wanted.name):
            if _pick(index, Wanted(provider), versions):
                return Wanted(provider)
    words = " | ".join(f"{one.name} {one.relation} {one.version}".strip() for one in group)
    raise ImageError(f"nothing on the mirrors is {words!r}, which {by} needs")
