"""Prompts from a file: ours in TOML, llm-in-sandbox's own in YAML."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from lisrt.agent.prompts import Prompts

__all__ = ["read_prompts"]

_KEYS = tuple(one.name for one in fields(Prompts))
# llm-in-sandbox's names, and ours
_ORIGINAL = {
    "system_prompt": "system",
    "instance_prompt": "task",
    "working_dir": "working_dir",
    "input_dir": "input_dir",
    "output_dir": "output_dir",
}


def read_prompts(path: str | os.PathLike[str]) -> Prompts:
    """The prompts of a file: `.toml` with the fields of `Prompts`, or a `prompt_config.yaml` of llm-in-sandbox.

    Fields that it lacks are as ever. Raises OSError, and ValueError for what is no such file; YAML needs the pyyaml package.
    """
    place = Path(path)
    if place.suffix in (".yaml", ".yml"):
        return _original(place)
    try:
        values = tomllib.loads(place.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place}: {error}") from None
    return Prompts(**_checked(values, _KEYS, place))


def _original(place: Path) -> Prompts:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError(f"{place} is YAML, which needs the pyyaml package: pip install pyyaml") from None
    try:
        values = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{place}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{place} holds no prompts")
    known = {_ORIGINAL[key]: value for key, value in _checked(values, tuple(_ORIGINAL), place).items()}
    output = known.get("output_dir", "/testbed/output")
    for name in ("system", "task"):
        if name in known:
            known[name] = _as_formatted(known[name])
    return Prompts(**{**known, "output_dir": output, "answer_file": f"{output}/answer.txt"})


def _checked(values: dict[str, Any], keys: tuple[str, ...], place: Path) -> dict[str, str]:
    for key, value in values.items():
        if key not in keys:
            raise ValueError(f"{place}: unknown key {key!r}; known are {', '.join(keys)}")
        if not isinstance(value, str):
            raise ValueError(f"{place}: {key} must be text")
    return values


def _as_formatted(text: str) -> str:
    """What Python's str.format would have made of it, which theirs goes through: doubled braces are single ones."""
    text = re.sub(r"\{(command_docs|demo)\}", "", text).replace("{problem_statement}", "{task}")
    return text.replace("{{", "{").replace("}}", "}")
