"""lisrt run"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lisrt.agent import Agent, Episode, ExitReason, Task, read_trajectory
from lisrt.agent.resume import submitted
from lisrt.agent.transport import require
from lisrt.agent.view.words import visible
from lisrt.cli import SANDBOX_FAULT
from lisrt.cli.agent_options import BUDGETS, agent_options, make_agent
from lisrt.cli.options import require_image, sandbox_options
from lisrt.cli.progress import show
from lisrt.cli.run_tasks import run_tasks
from lisrt.cli.saved_options import restore_options, resume_option, save_options
from lisrt.cli.streams import tell
from lisrt.cli.until_signal import Signals

_FAULTS = (ExitReason.SANDBOX_ERROR, ExitReason.SANDBOX_DIED)


@click.command("run")
@click.argument("task", required=False, metavar="[TASK|-]")
@click.option("--input", "input_dir", type=click.Path(exists=True), help="A directory or file, copied in before the start.")
@click.option(
    *("--output", "output_dir"),
    type=click.Path(file_okay=False),
    help="For files and trajectory; a new directory below ./lisrt-output by default.",
)
@click.option(
    "--tasks", type=click.Path(exists=True, dir_okay=False), help="A file of tasks, a JSON object a line, instead of TASK."
)
@click.option(
    "--input-root", type=click.Path(exists=True, file_okay=False), help="Where inputs of --tasks lie; beside that file."
)
@click.option("--concurrency", "-n", type=click.IntRange(1), default=8, show_default=True, help="Of --tasks: so many at once.")
@click.option(
    "--fault-retries", type=click.IntRange(0), default=2, show_default=True, help="Of --tasks: after a sandbox's fault."
)
@click.option(
    "--max-model-errors",
    type=click.IntRange(1),
    help="Of --tasks: give up after so many in a row; twice --concurrency by default, at least 10.",
)
@click.option(
    "--checkpoint/--no-checkpoint", default=None, help="Keep files for --resume; by default of one TASK, not of --tasks."
)
@resume_option
@agent_options
@click.option("--json", "as_json", is_flag=True, help="Print the outcome for machines.")
@click.option("--quiet", "-q", is_flag=True, help="No line for each step on stderr.")
@sandbox_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Let a model work on TASK in a sandbox of its own; print its answer. Or on many (--tasks), some at once.

    The files of --input are in /testbed/documents. The answer is what the model writes to /testbed/answer.txt; files that
    it puts into /testbed/output come back as files/ in the --output directory, beside trajectory.jsonl, which is written
    as it happens. Ctrl-C and SIGTERM end the episode and save what there is; a second one ends at once. `lisrt view` shows
    a trajectory.

    With --tasks, FILE has lines such as {"id": "a", "prompt": "...", "input": "DIRECTORY"}; --output has a line for each task
    in results.jsonl, and each task's own files below episodes/. --resume goes on with a run that has ended early, or was
    killed: what has ended is passed over.

    Exits 0 when the model has submitted (every task), 1 when it has not, 125 when the sandbox or the host failed, 130 or 143
    after Ctrl-C or SIGTERM.
    """
    restore_options(context, options)
    resume = options.pop("resume")
    _check(context, options, resume)
    if options["task"] == "-":
        options["task"] = context.params["task"] = sys.stdin.read()
    where = Path(resume or options["output_dir"] or f"lisrt-output/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    if resume is None and ((where / "trajectory.jsonl").exists() or (where / "results.jsonl").exists()):
        text = f"{where} holds another run; choose a new directory, or go on with that: --resume {where}"
        raise click.BadParameter(text, param_hint="--output")
    if resume is None and where.is_dir() and os.listdir(where):
        raise click.BadParameter(f"{where} holds other files; choose a new directory", param_hint="--output")
    require_image(options["image"])
    in_memory = options["writable"].startswith("tmpfs")
    own = {name: options.pop(name) for name in _OWN}
    if own["checkpoint"] and in_memory:
        raise click.UsageError("what is kept in memory can't be kept for --resume: leave out --checkpoint, or --writable tmpfs")
    own["checkpoint"] = False if in_memory else own["checkpoint"]
    agent = make_agent(options)
    try:
        require(agent.model.base_url)
    except (ModuleNotFoundError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    where.mkdir(parents=True, exist_ok=True)
    if resume is None:
        save_options(context, where)
    if own["tasks"] is not None:
        return run_tasks(agent, where, own, resume=resume is not None)
    return _run_one(agent, where, own, resume=resume is not None)


def _check(context: click.Context, options: dict[str, Any], resume: str | None) -> None:
    """click.UsageError for what does not go together."""
    if resume is not None:
        said = [name for name in ("task", "output_dir") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if said:
            raise click.UsageError(f"--resume goes on with the run in {resume}: it takes no TASK and no --output")
    if (options["task"] is None) == (options["tasks"] is None):
        raise click.UsageError("name a TASK, or a file of them with --tasks")
    if options["task"] is not None and not options["task"].strip():
        raise click.UsageError("the TASK is empty")
    if options["tasks"] is not None and options["input_dir"] is not None:
        raise click.UsageError("--input is for one TASK: each of --tasks names its own")


_OWN = (
    "task", "input_dir", "output_dir", "tasks", "input_root", "concurrency", "fault_retries", "max_model_errors", "checkpoint",
    "as_json", "quiet",
)  # fmt: skip


#: What a resumed run would otherwise run into again at once.
_MORE = {
    ExitReason.MAX_TURNS: "--max-turns N",
    ExitReason.MAX_TOKENS: "--max-total-tokens N",
    ExitReason.MAX_COST: "--max-cost N",
    ExitReason.MAX_TOOL_TIME: "--max-tool-time N",
    ExitReason.TIMEOUT: "--timeout N",
}


def _run_one(agent: Agent, where: Path, own: dict[str, Any], *, resume: bool) -> int:
    if own["checkpoint"] is not False and "files" not in agent.without:
        agent = replace(agent, checkpoint=where / "checkpoint")
    watch = None if own["quiet"] else show
    trajectory = where / "trajectory.jsonl"
    if resume and trajectory.exists() and (known := read_trajectory(trajectory)) and submitted(known):
        raise click.BadParameter(f"the model has submitted in {where}: there is nothing to resume", param_hint="--resume")
    episode, received = asyncio.run(_episode(agent, own["task"], own["input_dir"], where, watch, resume))
    _report(episode, own["as_json"])
    if episode.exit_reason is ExitReason.SUBMITTED:
        shutil.rmtree(where / "checkpoint", ignore_errors=True)
    else:
        more = _MORE.get(episode.exit_reason, "")
        tell(f"lisrt: go on with: lisrt run --resume {where}{f' {more}, with more than before' if more else ''}")
    if episode.exit_reason is ExitReason.STOPPED:
        return 128 + received[0]
    if episode.exit_reason in _FAULTS:
        return SANDBOX_FAULT
    return 0 if episode.exit_reason is ExitReason.SUBMITTED else 1


async def _episode(
    agent: Agent,
    task: str,
    input_dir: str | None,
    where: Path,
    watch: Callable[[dict[str, Any]], None] | None,
    resume: bool,
) -> tuple[Episode, list[int]]:
    """The episode, and the signals that came meanwhile."""
    trajectory, job = where / "trajectory.jsonl", Task(task, input_dir=None if input_dir is None else Path(input_dir))
    shutil.rmtree(where / "files", ignore_errors=True)  # of a run that was stopped
    with Signals() as signals:
        if resume and trajectory.exists() and read_trajectory(trajectory):
            episode = await agent.resume(trajectory, task=job, output_dir=where / "files", stop=signals.stop, watch=watch)
        else:
            trajectory.unlink(missing_ok=True)  # not one whole line: nothing had happened
            episode = await agent.run(job, output_dir=where / "files", trajectory=trajectory, stop=signals.stop, watch=watch)
    return episode, signals.received


def _report(episode: Episode, as_json: bool) -> None:
    if as_json:
        values = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in vars(episode).items()}
        click.echo(json.dumps({**values, "usage": asdict(episode.usage)}, indent=1))
        return
    if episode.answer is not None:
        answer = visible(episode.answer) if sys.stdout.isatty() else episode.answer  # it could write to the terminal's clipboard
        click.echo(answer, nl=not answer.endswith("\n"))
    tell(f"lisrt: {episode.exit_reason} after {episode.turns} turns; trajectory in {episode.trajectory}")
    if episode.answer is None and episode.exit_reason is ExitReason.SUBMITTED:
        tell("lisrt: there is no answer: the model has written no answer file")
    for name in episode.not_enforced:
        tell(f"lisrt: {BUDGETS[name]} was not enforced: the server does not count tokens")
    if episode.error:
        tell(f"lisrt: {visible(episode.error)}")
