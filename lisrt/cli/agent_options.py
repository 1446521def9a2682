"""The options of `lisrt run` that make an agent."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from lisrt.agent import Agent, AgentLimits, Model, Prices, Prompts
from lisrt.agent.loop import LIS02_LIMITS, OVERFLOWS
from lisrt.agent.prompt_files import read_prompts
from lisrt.agent.prompts import LIS02
from lisrt.agent.protocol import PROTOCOLS
from lisrt.agent.tools import PROFILES, SHELLS, WITHOUT
from lisrt.aio import AsyncSandbox
from lisrt.cli.options import sandbox_arguments, seconds
from lisrt.plan import DEFAULT_WORKDIR

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _extra_body(_context: click.Context, option: click.Parameter, value: str | dict[str, Any] | None) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value or {}
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise click.BadParameter(f"a JSON object is expected: {error}", param=option) from None
    return found


def _prices(_context: click.Context, option: click.Parameter, value: str | None) -> Prices | None:
    if value is None:
        return None
    try:
        return Prices(*map(float, value.split(":")))
    except (ValueError, TypeError):
        raise click.BadParameter(f"PROMPT:COMPLETION[:CACHED], numbers, not {value!r}", param=option) from None


def _prompts(_context: click.Context, option: click.Parameter, value: str | dict[str, str] | None) -> Prompts | None:
    try:
        if isinstance(value, dict):  # of a run that is resumed
            return Prompts(**value)
        return None if value is None else read_prompts(value)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param=option) from None


_MODEL = (
    click.option("--model", required=True, envvar="LISRT_MODEL", show_envvar=True, help="The model, as its server calls it."),
    click.option("--base-url", required=True, envvar="OPENAI_BASE_URL", show_envvar=True, help="OpenAI-compatible API."),
    click.option("--api-key", envvar="OPENAI_API_KEY", show_envvar=True, help="Better in the environment: ps shows arguments."),
    click.option("--temperature", type=float, help="The server's default when not given; so the three below."),
    click.option("--top-p", type=float, help="Nucleus sampling."),
    click.option("--seed", type=int, help="For the server's sampling."),
    click.option("--max-tokens", type=click.IntRange(1), help="Tokens of one reply."),
    click.option(
        "--extra-body", callback=_extra_body, type=click.UNPROCESSED, metavar="JSON", help="More fields of the request."
    ),
    click.option("--request-timeout", type=float, callback=seconds, default=600.0, show_default=True, help="Seconds per try."),
    click.option(
        "--retries", type=click.IntRange(0), default=5, show_default=True, help="Of a request, when the server fails."
    ),
    click.option(
        "--reasoning",
        type=click.Choice(("resend", "drop")),
        default="resend",
        show_default=True,
        help="What becomes of the model's thoughts in later turns.",
    ),
    click.option("--prices", callback=_prices, metavar="PROMPT:COMPLETION[:CACHED]", help="Of a million tokens each."),
)

_CONDUCT = (
    click.option(
        "--profile", type=click.Choice(PROFILES), default="default", show_default=True, help="lis-0.2: for replication."
    ),
    click.option(
        "--protocol",
        type=click.Choice(tuple(PROTOCOLS)),
        default="native",
        show_default=True,
        help="How tools are called: by the API, or in the text as scripts, tags or JSON.",
    ),
    click.option(
        "--shell", type=click.Choice(SHELLS), default="fresh", show_default=True, help="For each call, or one that goes on."
    ),
    click.option("--without", type=click.Choice(WITHOUT), multiple=True, help="Take a capability away; again for more."),
    click.option(
        "--prompts", callback=_prompts, type=click.UNPROCESSED, metavar="FILE", help="Other prompts, see docs/agent.md."
    ),
    click.option("--turn-hint/--no-turn-hint", default=None, help="Tell the model each turn how many are left."),
    click.option("--force-answer", is_flag=True, help="Ask for an answer when something has run out and there is none."),
    click.option(
        "--on-overflow",
        type=click.Choice(OVERFLOWS),
        default="stop",
        show_default=True,
        help="When the context is full: stop, or leave old observations out.",
    ),
)

_LIMITS = (
    click.option("--max-turns", type=click.IntRange(1), help="Replies of the model; 100 by default."),
    click.option("--max-total-tokens", type=click.IntRange(1), help="Tokens of all turns together."),
    click.option("--max-context", type=click.IntRange(1), help="Tokens of the conversation."),
    click.option("--max-cost", type=float, help="Of all tokens, by --prices."),
    click.option("--command-timeout", type=float, callback=seconds, help="Seconds per command; 120 by default."),
    click.option("--max-command-timeout", type=float, callback=seconds, help="What the model may ask for; 600 by default."),
    click.option("--max-tool-time", type=float, callback=seconds, help="Seconds of all commands together."),
    click.option("--timeout", type=float, callback=seconds, help="Seconds for the episode; none by default."),
    click.option("--max-output", type=click.IntRange(1), help="Characters of a stream that the model sees; 10000 by default."),
    click.option("--max-lines", type=click.IntRange(1), help="Lines likewise; 500 by default."),
)


def agent_options(function: Decorated) -> Decorated:
    """All of them."""
    for option in reversed((*_MODEL, *_CONDUCT, *_LIMITS)):
        function = option(function)
    return function


def make_agent(options: dict[str, Any]) -> Agent:
    """The agent, out of the options' values; what remains of them is none of the agent's. click.UsageError."""
    take = options.pop
    names = ("temperature", "top_p", "seed", "max_tokens", "extra_body", "request_timeout", "retries", "reasoning", "prices")
    limits = {
        "max_turns": take("max_turns"),
        "max_tokens": take("max_total_tokens"),
        "max_context": take("max_context"),
        "max_cost": take("max_cost"),
        "command_timeout": take("command_timeout"),
        "max_command_timeout": take("max_command_timeout"),
        "max_tool_time": take("max_tool_time"),
        "wall_timeout": take("timeout"),
        "max_output": take("max_output"),
        "max_lines": take("max_lines"),
    }
    given = {name: value for name, value in limits.items() if value is not None}
    conduct = {
        name: take(name) for name in ("profile", "protocol", "shell", "without", "turn_hint", "force_answer", "on_overflow")
    }
    of_old = conduct["profile"] == "lis-0.2"
    prompts = take("prompts") or (LIS02 if of_old else Prompts())
    workdir = options["workdir"] = options["workdir"] or prompts.working_dir or DEFAULT_WORKDIR
    try:
        model = Model(take("model"), base_url=take("base_url"), api_key=take("api_key"), **{name: take(name) for name in names})
        prompts = replace(prompts, working_dir=workdir)
        box = sandbox_arguments(**{name: take(name) for name in tuple(options) if name in _SANDBOX})
        return Agent(
            model,
            prompts=prompts,
            limits=replace(LIS02_LIMITS if of_old else AgentLimits(), **given),
            **conduct,
            **_sandboxes(box, set(conduct["without"])),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


BUDGETS = {"max_tokens": "--max-total-tokens", "max_context": "--max-context", "max_cost": "--max-cost"}
"""What `Episode.not_enforced` names, as it is called here."""

_SANDBOX = frozenset(sandbox_arguments.__code__.co_varnames[: sandbox_arguments.__code__.co_argcount])


def _sandboxes(box: dict[str, Any], without: set[str]) -> dict[str, Any]:
    """How sandboxes are opened, the agent's share in what is taken away included."""
    if "network" in without and box["network"] != "none":
        raise click.UsageError("--without network and a network don't go together")
    if "files" in without:
        box["writable"] = "none"

    def open_sandbox(mounts: tuple[Any, ...] = ()) -> AsyncSandbox:
        return AsyncSandbox(**{**box, "mounts": [*box["mounts"], *mounts]})

    return {
        "open_sandbox": open_sandbox,
        "open_saved": functools.partial(_open_saved, box),
    }


def _open_saved(box: dict[str, Any], image: str) -> AsyncSandbox:
    return AsyncSandbox(**{**box, "image": image})
