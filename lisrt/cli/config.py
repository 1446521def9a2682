"""Options from a settings file: `lisrt.toml` in the working directory, or the one that --config or $LISRT_CONFIG names, above the
user's own ~/.config/lisrt/config.toml.

    [sandbox]                 # of every command that makes sandboxes: image, memory, network, ...
    memory = "1GiB"
    [run]                     # a command's own options, and such as it alone is to have
    model = "my-model"
    max_turns = 50

Keys are options' names. What is on the command line wins, then the environment (LISRT_RUN_MAX_TURNS), then these files.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lisrt import settings
from lisrt.cli.streams import tell

__all__ = ["COMMANDS", "FILE", "ORIGINS", "defaults", "naming_files"]

ORIGINS = "lisrt.origins"
"""In a context's `meta`: the files that options' values are from."""


FILE = "lisrt.toml"
COMMANDS = ("bench", "exec", "mcp", "run", "shell")
_SHARED = "sandbox"
_TABLES = (_SHARED, *COMMANDS)
#: What a file may decide that merely lies in the directory, where a stranger's repository may have one: how much, and how. Not
#: where the API key goes, which files of this host are read or written, what a sandbox reaches, or who reaches it.
_WITHOUT_NAME = frozenset(
    """
    memory cpus pids disk enforce hostname user workdir env writable
    model temperature top_p seed max_tokens reasoning request_timeout retries prices profile protocol shell without turn_hint
    force_answer on_overflow max_turns max_total_tokens max_context max_cost command_timeout max_command_timeout max_tool_time
    timeout max_output max_lines concurrency fault_retries max_model_errors checkpoint quiet as_json
    """.split()
)


def defaults(named: str | None, command: click.Command | None, origins: dict[str, Path]) -> dict[str, Any]:
    """Values of that command's options, by their names; `origins` gets the file of each. ValueError for what is no settings file,
    or has unknown keys."""
    if command is None or command.name not in COMMANDS:
        return {}
    known, shared = _names(command.params), _names(_sandbox_parameters())
    options = {one.name: one for one in command.params if isinstance(one, click.Option)}
    found: dict[str, Any] = {}
    for path, is_named in _files(named):
        tables = _read(path)
        here = {
            **{key: value for key, value in _table(tables, _SHARED, shared, path).items() if key in known.values()},
            **_table(tables, command.name, known, path),
        }
        if not is_named and (unsafe := sorted(set(here) - _WITHOUT_NAME)):
            named_so = {value: key for key, value in known.items()}[unsafe[0]]
            raise ValueError(
                f"{path} sets {named_so}, which only a file that was named may do: --config {path}, or $LISRT_CONFIG"
            )
        for name in here:
            here[name] = _shaped(here[name], options[name], f"{path}: {name}")
        if here and path.name == FILE and not is_named:
            tell(f"lisrt: settings of ./{path}: {', '.join(sorted(here))}")
        found |= here
        origins |= dict.fromkeys(here, path)
    return found


def _files(named: str | None) -> list[tuple[Path, bool]]:
    """From the weakest to the strongest; and whether it was named, or is the user's own."""
    own = settings.path()
    found = [(own, True)] if own.is_file() else []
    if named is not None:
        return [*found, (Path(named), True)]
    return [*found, (Path(FILE), False)] if os.path.isfile(FILE) else found


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: {error}") from None
    allowed = (*_TABLES, *settings.KEYS) if path == settings.path() else _TABLES
    for key, value in values.items():
        if key not in allowed:
            raise ValueError(f"{path}: unknown key {key!r}; known are {', '.join(allowed)}")
        if key in _TABLES and not isinstance(value, dict):
            raise ValueError(f"{path}: {key} must be a table, [{key}]")
    return values


def _names(parameters: list[click.Parameter]) -> dict[str, str]:
    """The options as people know them, and what click calls their values."""
    options = [one for one in parameters if isinstance(one, click.Option) and one.name not in ("resume", "help")]
    return {max(one.opts, key=len).lstrip("-").replace("-", "_"): str(one.name) for one in options}


def _table(tables: dict[str, Any], table: str, known: dict[str, str], path: Path) -> dict[str, Any]:
    """Its values, under click's names."""
    values = {key.replace("-", "_"): value for key, value in tables.get(table, {}).items()}
    for key in values:
        if key == "api_key":
            raise ValueError(f"{path}: an API key belongs into the environment, $OPENAI_API_KEY")
        if key not in known:
            raise ValueError(f"{path}: [{table}] has an unknown key {key!r}; known are {', '.join(sorted(known))}")
    return {known[key]: value for key, value in values.items()}


def _shaped(value: Any, option: click.Option, what: str) -> Any:
    """As it would stand on the command line, where each option checks it: of another type, some fail at the mere look."""
    if option.multiple:
        return [_word(one, what) for one in (value if isinstance(value, list) else [value])]
    if option.type is click.UNPROCESSED and isinstance(value, dict):  # which takes JSON, too
        return value
    return _word(value, what)


def _word(value: Any, what: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # 1e6
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{what} is a text, a number, true or false")


@contextmanager
def naming_files() -> Iterator[None]:
    """A value that an option refuses is told with the file that it is from."""
    try:
        yield
    except click.BadParameter as error:
        name = error.param.name if error.param is not None else None
        if error.ctx is not None and name and error.ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            text = f"{error.message.rstrip('.')} (in {error.ctx.meta[ORIGINS].get(name)})"
            raise click.BadParameter(text, ctx=error.ctx, param=error.param) from None
        raise


def _sandbox_parameters() -> list[click.Parameter]:
    from lisrt.cli.options import sandbox_options

    @click.command()
    @sandbox_options
    def none() -> None: ...

    return none.params
