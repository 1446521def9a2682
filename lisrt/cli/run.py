"""lisrt run"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lisrt.agent import Agent, AgentLimits, Episode, ExitReason, Model, Prompts
from lisrt.aio import AsyncSandbox
from lisrt.cli import SANDBOX_FAULT
from lisrt.cli.options import require_image, sandbox_arguments, sandbox_options, seconds
from lisrt.cli.progress import show
from lisrt.cli.streams import tell
from lisrt.plan import DEFAULT_WORKDIR

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command("run")
@click.argument("task")
@click.option("--model", required=True, envvar="LISRT_MODEL", show_envvar=True, help="The model, as its server calls it.")
@click.option("--base-url", required=True, envvar="OPENAI_BASE_URL", show_envvar=True, help="OpenAI-compatible API.")
@click.option("--api-key", envvar="OPENAI_API_KEY", show_envvar=True, help="Better in the environment: ps shows arguments.")
@click.option("--input", "input_dir", type=click.Path(exists=True, file_okay=False), help="Copied in before the start.")
@click.option(
    *("--output", "output_dir"),
    type=click.Path(file_okay=False),
    help="For files and trajectory; a new directory below ./lisrt-output by default.",
)
@click.option("--max-turns", type=click.IntRange(1), default=100, show_default=True, help="Replies of the model.")
@click.option("--command-timeout", type=float, callback=seconds, default=120.0, show_default=True, help="Seconds per command.")
@click.option("--timeout", type=float, callback=seconds, help="Seconds for the episode; none by default.")
@click.option("--max-tokens", type=click.IntRange(1), help="Tokens of one reply.")
@click.option("--temperature", type=float, help="The server's default when not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome for machines.")
@click.option("--quiet", "-q", is_flag=True, help="No line for each step on stderr.")
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
    quiet: bool,
    **options: Any,
) -> int:
    """Let a model work on TASK in a sandbox of its own; print its answer.

    The files of --input are in /testbed/documents. The answer is what the model writes to /testbed/answer.txt; files that
    it puts into /testbed/output come back as files/ in the --output directory, beside trajectory.jsonl, which is written
    as it happens. Ctrl-C and SIGTERM end the episode and save what there is; a second one ends at once.

    Exits 0 when the model has submitted, 1 when it has not, 125 when the sandbox or the host failed, 130 or 143 after
    Ctrl-C or SIGTERM.
    """
    where = Path(output_dir or f"lisrt-output/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    if (where / "trajectory.jsonl").exists():
        raise click.BadParameter(f"{where} holds the trajectory of another run; choose a new one", param_hint="--output")
    options["workdir"] = options["workdir"] or DEFAULT_WORKDIR  # the prompts speak of it, whatever the image has
    agent = Agent(
        Model(model, base_url=base_url, api_key=api_key, temperature=temperature, max_tokens=max_tokens),
        prompts=Prompts(working_dir=options["workdir"]),
        limits=AgentLimits(max_turns=max_turns, command_timeout=command_timeout, wall_timeout=timeout),
        open_sandbox=functools.partial(AsyncSandbox, **sandbox_arguments(**options)),
    )
    require_image(options["image"])
    where.mkdir(parents=True, exist_ok=True)
    episode, received = asyncio.run(_episode(agent, task, input_dir, where, None if quiet else show))
    _report(episode, as_json)
    if episode.exit_reason is ExitReason.STOPPED:
        return 128 + received[0]
    if episode.exit_reason in (ExitReason.SANDBOX_ERROR, ExitReason.SANDBOX_DIED):
        return SANDBOX_FAULT
    return 0 if episode.exit_reason is ExitReason.SUBMITTED else 1


async def _episode(
    agent: Agent, task: str, input_dir: str | None, where: Path, watch: Callable[[dict[str, Any]], None] | None
) -> tuple[Episode, list[int]]:
    """The episode, and the signals that came meanwhile."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    received: list[int] = []
    ending = [name for name in _ENDING if signal.getsignal(name) is not signal.SIG_IGN]  # nohup's stay ignored

    def on_signal(number: int) -> None:
        received.append(number)
        stop.set()
        for name in ending:  # the second one is not for us
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_DFL)

    for name in ending:
        loop.add_signal_handler(name, on_signal, int(name))
    trajectory = where / "trajectory.jsonl"
    episode = await agent.run(
        task, input_dir=input_dir, output_dir=where / "files", trajectory=trajectory, stop=stop, watch=watch
    )
    return episode, received


def _report(episode: Episode, as_json: bool) -> None:
    if as_json:
        values = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in vars(episode).items()}
        click.echo(json.dumps({**values, "usage": asdict(episode.usage)}, indent=1))
        return
    if episode.answer is not None:
        click.echo(episode.answer, nl=not episode.answer.endswith("\n"))
    words = f"lisrt: {episode.exit_reason} after {episode.turns} turns; trajectory in {episode.trajectory}"
    tell(words)
    if episode.error:
        tell(f"lisrt: {episode.error}")
