"""Recipes: what an image is made of, as `recipe.toml` says it. Everything is checked before anything is built."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lisrt.build import recipes
from lisrt.build.mirror import Source
from lisrt.build.recipes import FILE
from lisrt.errors import ImageError

CHECK = "check.sh"
BASES = ("source", "recipe", "image", "archive", "host")
LOCK = "recipe.lock"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DISTRIBUTION = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Suites:
    """A base made from the packages of a Debian or Ubuntu."""

    distribution: str
    sources: tuple[Source, ...]
    include: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Extends:
    """Another recipe's image as the base."""

    folder: Path


@dataclass(frozen=True, slots=True)
class Taken:
    """An image of the store, or of a registry, or an archive as the base; `host` for this machine's /usr."""

    kind: str
    """`image`, `archive` or `host`."""
    source: str


Base: TypeAlias = Suites | Extends | Taken


@dataclass(frozen=True, slots=True)
class Apt:
    """Packages of the distribution."""

    packages: tuple[str, ...]
    recommends: bool


@dataclass(frozen=True, slots=True)
class Pip:
    """Packages of the Python index."""

    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A shell script."""

    script: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A file or tree beside the recipe, to a path in the image."""

    source: Path
    to: str


@dataclass(frozen=True, slots=True)
class SetEnv:
    """Variables for all later steps, and for programs in the image."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SetWorkdir:
    """Where later steps start, and programs in the image."""

    path: str


Step: TypeAlias = Apt | Pip | Run | Copy | SetEnv | SetWorkdir


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe, checked."""

    name: str
    folder: Path
    description: str
    base: Base
    steps: tuple[Step, ...]

    @property
    def file(self) -> Path:
        return self.folder / FILE

    @property
    def check(self) -> Path | None:
        """The script that proves the image, where there is one."""
        path = self.folder / CHECK
        return path if path.is_file() else None


def read(folder: Path) -> Recipe:
    """The recipe of a folder. ImageError names the file, the step and the key."""
    file = folder / FILE
    for path in (file, folder / CHECK, folder / LOCK):
        if not _is_inside(path, folder):
            raise ImageError(f"{path}: a link that leads out of the recipe's folder")
    _require_script(folder / CHECK)
    try:
        value = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ImageError(f"there is no recipe {file}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImageError(f"{file}: {error}") from None
    top = _Table(f"{file}", value)
    description = top.text("description", "")
    misplaced = [key for key in value if key in (*BASES, "distribution")]
    if misplaced and "base" not in value:
        raise top.error(f"{misplaced[0]!r} belongs below [base]")
    base = _base(_Table(f"{file}, [base]", top.table("base")), folder)
    steps = tuple(_step(_Table(f"{file}, step {n}", one), folder) for n, one in enumerate(top.tables("step"), 1))
    top.finish()
    return Recipe(folder.resolve().name, folder, description, base, steps)


def _is_inside(path: Path, folder: Path) -> bool:
    """Links are followed. A recipe may be somebody else's, and its steps have the network: it must not read this user's files."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _require_script(check: Path) -> None:
    """Said before anything is built: the kernel has but `Exec format error` for it, after the last step."""
    if not os.path.lexists(check):
        return
    try:
        with open(check, "rb") as file:
            start = file.read(2)
    except OSError as error:
        raise ImageError(f"{check}: {error.strerror}") from None
    if start != b"#!":
        raise ImageError(f"{check}: its first line must be `#!` and the program that runs it, such as #!/bin/sh")


class _Table:
    """A table of the file, from which keys are taken; what is left over is an error."""

    def __init__(self, where: str, value: Mapping[str, Any]) -> None:
        self.where = where
        self._rest = dict(value)
        self._known: list[str] = []

    def error(self, text: str) -> ImageError:
        return ImageError(f"{self.where}: {text}")

    def has(self, key: str) -> bool:
        self._known.append(key)
        return key in self._rest

    def _take(self, key: str, kind: type, words: str, default: Any) -> Any:
        self._known.append(key)
        if key not in self._rest:
            if default is None:
                raise self.error(f"{key!r} is missing")
            return default
        value = self._rest.pop(key)
        if type(value) is not kind:
            raise self.error(f"{key!r} must be {words}, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value: str = self._take(key, str, "a string", default)
        if "\0" in value or (default is None and not value.strip()):
            raise self.error(f"{key!r} must not be empty, or hold a NUL byte")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value: bool = self._take(key, bool, "true or false", default)
        return value

    def table(self, key: str) -> dict[str, Any]:
        value: dict[str, Any] = self._take(key, dict, "a table", None)
        return value

    def tables(self, key: str) -> list[dict[str, Any]]:
        value = self._take(key, list, "tables ([[" + key + "]])", [])
        if not all(isinstance(one, dict) for one in value):
            raise self.error(f"{key!r} must be tables: [[{key}]]")
        return list(value)

    def words(self, key: str, fits: Callable[[str], object], what: str, default: list[str] | None = None) -> tuple[str, ...]:
        value = self._take(key, list, "a list of strings", default)
        for one in value:
            if not isinstance(one, str) or not fits(one):
                raise self.error(f"{key!r}: {one!r} is no {what}")
        if not value and default is None:
            raise self.error(f"{key!r} is empty")
        return tuple(value)

    def finish(self) -> None:
        for key in self._rest:
            raise self.error(self.unknown(key))

    def unknown(self, key: str) -> str:
        """What to say of a key that nobody has asked for."""
        known = sorted(set(self._known))
        near = difflib.get_close_matches(key, known, n=1)
        return f"unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}")

    def rest(self) -> list[str]:
        """Keys that nobody has asked for."""
        return [key for key in self._rest if key not in self._known]


def _one_of(table: _Table, verbs: tuple[str, ...], what: str) -> str:
    found = [verb for verb in verbs if table.has(verb)]
    if not found and table.rest():
        raise table.error(table.unknown(table.rest()[0]))
    if len(found) != 1:
        said = f"it has {' and '.join(found)}" if found else "it has none"
        raise table.error(f"{what} has exactly one of {', '.join(verbs)}; {said}")
    return found[0]


def _base(table: _Table, folder: Path) -> Base:
    made: Base
    match _one_of(table, BASES, "a base"):
        case "source":
            sources = [_Table(f"{table.where}, source {n}", one) for n, one in enumerate(table.tables("source"), 1)]
            distribution = table.text("distribution")
            if not _DISTRIBUTION.fullmatch(distribution):
                raise table.error(f"'distribution' is a name such as debian, not {distribution!r}")
            include = table.words("include", _PACKAGE.fullmatch, "package's name", [])
            made = Suites(distribution, tuple(_source(one, folder) for one in sources), include)
            if not sources:
                raise table.error("'source' is empty")
        case "recipe":
            made = _extends(table, folder)
        case "host":
            if not table.flag("host", True):
                raise table.error("'host' must be true, or not there")
            made = Taken("host", "host")
        case "archive":
            made = _archive(table, folder)
        case kind:
            made = Taken(kind, table.text(kind))
    table.finish()
    return made


def _extends(table: _Table, folder: Path) -> Extends:
    name = table.text("recipe")
    if "/" not in name and not os.path.lexists(folder / name) and name in recipes.own():
        return Extends(recipes.own()[name])
    other, own = Path(os.path.realpath(folder / name)), Path(os.path.realpath(folder))
    # what that one copies ends up in the image: of recipes beside this one that is wanted, of the user's others it is not
    if not other.is_relative_to(own) and other.parent != own.parent:
        raise table.error(
            f"'recipe': {name!r} is neither in the recipe's folder nor beside it, nor one of lisrt's own; `image` names one that is built"
        )
    if not (folder / name / FILE).is_file():
        raise table.error(f"'recipe': there is no {folder / name / FILE}; lisrt's own are {', '.join(sorted(recipes.own()))}")
    return Extends(folder / name)


def _archive(table: _Table, folder: Path) -> Taken:
    name = table.text("archive")
    path = folder / name
    if not _is_inside(path, folder):
        raise table.error(
            f"'archive': {name!r} is not in the recipe's folder; `lisrt image import` takes it, and `image` names it then"
        )
    if os.path.lexists(path / "oci-layout"):  # its files are opened by name; of other directories links stay links
        for entry in path.rglob("*"):
            if entry.is_symlink() and not _is_inside(entry, folder):
                raise table.error(f"'archive': {entry} is a link that leads out of the recipe's folder")
    return Taken("archive", str(path))


def _source(table: _Table, folder: Path) -> Source:
    keyring = table.text("keyring", "")  # may be anywhere: gpgv alone reads it, and tells nothing of what is in it
    beside = folder / keyring
    source = Source(
        mirror=table.text("mirror"),
        suites=table.words("suites", str.strip, "suite"),
        components=table.words("components", str.strip, "component", ["main"]),
        keyring=str(beside.resolve()) if keyring and beside.is_file() else keyring,
        signed_by=table.text("signed-by", ""),
        trusted=table.flag("trusted", False),
        check_valid_until=table.flag("check-valid-until", True),
    )
    if not source.mirror.startswith(("http://", "https://")):
        raise table.error(f"'mirror' is a URL, http or https, not {source.mirror!r}")
    if any(character.isspace() for character in source.mirror + source.signed_by):
        raise table.error("'mirror' and 'signed-by' must not hold spaces")
    table.finish()
    return source


def _step(table: _Table, folder: Path) -> Step:
    made: Step
    match _one_of(table, ("apt", "pip", "run", "copy", "env", "workdir"), "a step"):
        case "apt":
            made = Apt(table.words("apt", _PACKAGE.fullmatch, "package's name"), table.flag("recommends", False))
        case "pip":
            made = Pip(table.words("pip", lambda one: one.strip() and not one.startswith("-"), "package's name"))
        case "run":
            made = Run(table.text("run"))
        case "copy":
            made = _copy(table, folder)
        case "env":
            values = table.table("env")
            for name, value in values.items():
                if not _VARIABLE.fullmatch(name) or not isinstance(value, str) or "\0" in value:
                    raise table.error(f"'env': {name} = {value!r} is no variable and its text, such as {{ NAME = \"1\" }}")
            made = SetEnv(tuple(values.items()))
        case _:
            made = SetWorkdir(_absolute(table, "workdir"))
    table.finish()
    return made


def _copy(table: _Table, folder: Path) -> Copy:
    name = table.text("copy")
    source = folder / name
    if not _is_inside(source, folder):
        raise table.error(f"'copy': {name!r} is not in the recipe's folder")
    if not source.exists():
        raise table.error(f"'copy': there is no {source}")
    return Copy(source, _absolute(table, "to"))


def _absolute(table: _Table, key: str) -> str:
    path = table.text(key)
    if not path.startswith("/") or ".." in path.split("/"):
        raise table.error(f"{key!r} must be an absolute path in the image, without `..`, not {path!r}")
    return path
