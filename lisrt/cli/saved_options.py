"""The options of a run, kept beside it, so that it can be resumed without saying them again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from lisrt.agent import Prices
from lisrt.cli.config import ORIGINS
from lisrt.cli.streams import tell

__all__ = ["restore_options", "resume_option", "save_options"]

_FILE = "run.json"
_REACH = ("model", "base_url", "network", "allow", "mount", "publish", "input_dir", "tasks")
_PATHS = ("tasks", "input_dir", "input_root")
_NOT_KEPT = frozenset({"api_key", "resume", "as_json", "quiet", "output_dir"})


def save_options(context: click.Context, where: Path) -> None:
    """Writes them into the run's directory; never the API key. OSError."""
    kept = {name: _plain(value) for name, value in context.params.items() if name not in _NOT_KEPT}
    kept |= {name: os.path.abspath(kept[name]) for name in _PATHS if kept.get(name)}  # it may be resumed from elsewhere
    kept["mount"] = [_absolute(text) for text in kept.get("mount") or ()]
    url = urlsplit(str(kept.get("base_url")))
    if "@" in url.netloc or url.query:
        del kept["base_url"]  # it has a password in it
    file = os.open(where / _FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)  # --env may hold secrets
    with open(file, "w", encoding="utf-8") as opened:
        opened.write(json.dumps({"format": 1, "options": kept}, indent=1) + "\n")


def _absolute(mount: str) -> str:
    source, colon, rest = mount.partition(":")
    return f"{os.path.abspath(source)}{colon}{rest}"


def _plain(value: Any) -> Any:
    if isinstance(value, Prices):
        return ":".join(f"{price:g}" for price in (value.prompt, value.completion, value.cached) if price is not None)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value) if isinstance(value, Path) else value


def _load(context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """As defaults, while the other options are still to be read."""
    if value is not None:
        saved = _saved(Path(value))
        context.default_map = {**(context.default_map or {}), **saved}
        context.meta.setdefault(ORIGINS, {}).update(dict.fromkeys(saved, Path(value, _FILE)))
    return value


def _saved(where: Path) -> dict[str, Any]:
    try:
        values = json.loads((where / _FILE).read_text(encoding="utf-8"))["options"]
        return {str(name): one for name, one in values.items() if one is not None}
    except FileNotFoundError:
        raise click.BadParameter(f"{where} holds no run", param_hint="--resume") from None
    except (ValueError, KeyError, AttributeError) as error:
        raise click.BadParameter(f"{where / _FILE} is damaged: {error!r}", param_hint="--resume") from None


resume_option = click.option(
    "--resume",
    type=click.Path(exists=True, file_okay=False),
    is_eager=True,
    callback=_load,
    metavar="DIR",
    help="Go on with the run in that output directory, with the same options but for those given now.",
)


def restore_options(context: click.Context, options: dict[str, Any]) -> None:
    """What the environment has said does not win over what the run was begun with; the command line does."""
    if options["resume"] is None:
        return
    saved = _saved(Path(options["resume"]))
    for parameter in context.command.params:
        name = parameter.name
        if name in saved and context.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            options[name] = parameter.process_value(context, saved[name])
    reach = [f"{name} {options[name]}" for name in _REACH if options.get(name) not in (None, "none", [], ())]
    tell(f"lisrt: going on with {', '.join(reach)}")  # a stranger's directory may say so
