"""lisrt run"""

from __future__ import annotations

import functools
import json
import os
import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lisrt.agent import Agent, AgentLimits, Episode, ExitReason, Model, Prompts
from lisrt.aio import AsyncSandbox
from lisrt.cli import SANDBOX_FAULT
from lisrt.cli.options import sandbox_arguments, sandbox_options


@click.command("run")
@click.argument("task")
@click.option("--model", required=True, envvar="LISRT_MODEL", show_envvar=True, help="The model, as its server calls it.")
@click.option("--base-url", required=True, envvar="OPENAI_BASE_URL", show_envvar=True, help="OpenAI-compatible API.")
@click.option("--api-key", envvar="OPENAI_API_KEY", show_envvar=True, help="Better in the environment: ps shows arguments.")
@click.option("--input", "input_dir", type=click.Path(exists=True, file_okay=False), help="Copied in before the start.")
@click.option("--output", "output_dir", type=click.Path(file_okay=False), help="For files and trajectory; made if missing.")
@click.option("--max-turns", type=click.IntRange(1), default=100, show_default=True, help="Replies of the model.")
@click.option("--command-timeout", type=float, default=120.0, show_default=True, help="Seconds for one command.")
@click.option("--timeout", type=float, help="Seconds for the whole episode.")
@click.option("--max-tokens", type=click.IntRange(1), help="Tokens of one reply.")
@click.option("--temperature", type=float, help="The server's default when not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome for machines.")
@sandbox_options
def command(
    task: str,
    model: str,
    base_url: str,
    api_key: str | None,
    input_dir: str | None,
    output_dir: str | None,
    max_turns: int,
    command_timeout: float,
    timeout: float | None,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Let a model work on TASK in a sandbox of its own; print its answer.

    OUTPUT receives trajectory.jsonl, written as it happens, and the model's output files in files/. Exits 0 when the
    model has submitted, 1 when it has not, 125 when the sandbox or the host failed.
    """
    where = Path(output_dir or f"lisrt-output/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    where.mkdir(parents=True, exist_ok=True)
    agent = Agent(
        Model(model, base_url=base_url, api_key=api_key, temperature=temperature, max_tokens=max_tokens),
        prompts=Prompts(working_dir=options["workdir"]),
        limits=AgentLimits(max_turns=max_turns, command_timeout=command_timeout, wall_timeout=timeout),
        open_sandbox=functools.partial(AsyncSandbox, **sandbox_arguments(**options)),
    )
    episode = agent.run_sync(task, input_dir=input_dir, output_dir=where / "files", trajectory=where / "trajectory.jsonl")
    _report(episode, as_json)
    if episode.exit_reason is ExitReason.SANDBOX_ERROR:
        return SANDBOX_FAULT
    return 0 if episode.exit_reason is ExitReason.SUBMITTED else 1


def _report(episode: Episode, as_json: bool) -> None:
    if as_json:
        values = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in vars(episode).items()}
        click.echo(json.dumps({**values, "usage": asdict(episode.usage)}, indent=1))
        return
    if episode.answer is not None:
        click.echo(episode.answer, nl=not episode.answer.endswith("\n"))
    words = f"lisrt: {episode.exit_reason} after {episode.turns} turns; trajectory in {episode.trajectory}"
    click.echo(words, err=True)
    if episode.error:
        click.echo(f"lisrt: {episode.error}", err=True)
