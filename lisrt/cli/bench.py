"""lisrt bench"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lisrt import spawner
from lisrt.bench import Bench, Config, Think, dumps, page, repeatable, text
from lisrt.bench.backend import Unavailable
from lisrt.bench.backends import BACKENDS
from lisrt.bench.documents import Document
from lisrt.bench.machine import facts
from lisrt.bench.run import names_of
from lisrt.bench.verdict import Verdict
from lisrt.bench.workloads import WORKLOADS
from lisrt.bench.workloads.base import LAUNCHERS, was_interrupted
from lisrt.cli.descriptors import allow_descriptors
from lisrt.cli.options import IMAGE_HELP, require_image, say_when_unpacking
from lisrt.cli.whole_files import is_special, writing
from lisrt.errors import LisrtError
from lisrt.limits import size

NEEDS_DESCRIPTORS = frozenset(WORKLOADS) - {"density", "steady", "install"}
"""Workloads that have `--concurrency` sandboxes alive; `density` takes what it can get."""
SAID = ("launcher", "system calls", "memory", "pids")
"""Of what is enforced in lisrt's sandboxes, what people are told."""
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _size(_context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else size(int(value) if value.isdecimal() else value, what="--memory")
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def _think(_context: click.Context, option: click.Parameter, value: str) -> Think:
    try:
        return Think.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def _backends(_context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    try:
        return names_of(value, BACKENDS, "backend", others=True) if value is not None else ()
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def _workloads(_context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    try:
        return names_of(value, WORKLOADS, "workload")
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def _report(_context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Said now, not after an hour, if it can't be written then."""
    if value not in (None, "-"):
        place = value if is_special(value) else os.path.dirname(os.path.realpath(value))
        if os.path.isdir(value) or not os.access(place, os.W_OK):
            why = "is a directory" if os.path.isdir(value) else "can't be written"
            raise click.BadParameter(f"{value} {why}", param=option)
    return value


def _write(file: str | None, report: str) -> None:
    if file is not None:
        with writing(file) as out:
            out.write(report)



OPTIONS = (
    click.option("--concurrency", "-n", type=click.IntRange(1), default=512, show_default=True, help="Sandboxes alive at once."),
    click.option(
        "--backend", "-b", metavar="NAME,...", callback=_backends,
        help="Runtimes: native, bwrap (both are lisrt), docker, podman, or module:factory (see bench/README.md); by"
        " default what makes sandboxes here.",
    ),
    click.option(
        "--workload", "-w", metavar="NAME,...", default="lifecycle", show_default=True, callback=_workloads,
        help=f"What to have them do: {', '.join(WORKLOADS)}.",
    ),
    click.option("--commands", type=click.IntRange(1), default=4, show_default=True, help="Commands that each one runs."),
    click.option("--jobs", "-j", type=click.IntRange(1), help="Operations in flight at once; 2 per CPU by default."),
    click.option(
        "--serial", type=click.IntRange(0), default=50, show_default=True,
        help="Rounds of what is done one at a time (a fifth of it in steady, a tenth in rollout).",
    ),
    click.option(
        "--rivals", type=click.IntRange(1), default=64, show_default=True,
        help="Instances of other runtimes alive at once, at most.",
    ),
    click.option("--image", "-i", help=IMAGE_HELP),
    click.option(
        "--memory", metavar="SIZE", callback=_size, help="Memory limit of each sandbox, of all runtimes; none by default."
    ),
    click.option("--seed", type=int, default=1, show_default=True, help="Of all that is done in random order, or drawn."),
    click.option(
        "--think", metavar="none|lognormal:MEDIAN:SIGMA", default="none", show_default=True, callback=_think,
        help="rollout: seconds that the model takes before each tool call.",
    ),
    click.option(
        "--ramp", type=click.FloatRange(0), default=0.0, show_default=True,
        help="rollout: seconds over which the episodes begin; by default all at one moment.",
    ),
    click.option(
        "--episodes", metavar="DIRECTORY", type=click.Path(exists=True, file_okay=False),
        help="rollout: trajectories to play, *.jsonl; by default those of the repository.",
    ),
    click.option(
        "--suite", metavar="SDIST", type=click.Path(exists=True, dir_okay=False),
        help="steady: also run the tests of this package (.tar.gz), by pytest or unittest.",
    ),
    click.option(
        "--interval", type=click.FloatRange(0, min_open=True), default=0.2, show_default=True,
        help="staggered: seconds between requests.",
    ),
    click.option("--ceiling", type=click.IntRange(1), help="density: stop at so many; by default when something breaks."),
    click.option(
        "--minutes", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True,
        help="soak: how long, for each backend.",
    ),
    click.option("--json", "json_file", metavar="FILE", callback=_report, help="Write the report as JSON; - for stdout."),
    click.option("--html", "html_file", metavar="FILE", callback=_report, help="Write the report as a page with plots."),
)  # fmt: skip


def _with_options(function: Decorated) -> Decorated:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command("bench")
@_with_options
def command(
    backend: tuple[str, ...],
    workload: tuple[str, ...],
    jobs: int | None,
    json_file: str | None,
    html_file: str | None,
    **told: Any,
) -> int:
    """Measure sandboxes: how fast they come, work and go, what they weigh, and how other runtimes compare.

    By default (lifecycle) some are made and used one at a time, then many are kept alive at once, used and destroyed. The same
    system calls from C, the floor, are measured at the same moments where that is possible.

    \b
    lifecycle   create, commands, files, destroy: one at a time, then all alive
    exec        kinds of commands in live sandboxes, from threads and from one event loop
    rollout     recorded agent episodes, tool call by tool call
    steady      Python, git and a compiler at work, in turn with the bare host
    burst       all ask for a sandbox at one moment: time to the first answer
    staggered   one asks every 0.2 seconds: time to the first answer
    fork-tree   forks of forks
    freeze      commands beside busy programs, and beside frozen ones
    density     more and more alive, until something breaks; says what
    soak        an hour of coming and going; says what grows
    install     pip and apt through the cache; needs a network

    Exits 1 when any sandbox failed at anything, 125 when nothing could be measured, 2 for a wrong option, 130 after Ctrl-C, which
    leaves nothing behind, and earlier reports as they were. A runtime that is not to be had is no failure unless it was the
    only one.
    """
    config = Config(**told)
    config = replace(config, jobs=jobs) if jobs else config
    require_image(config.image)
    if NEEDS_DESCRIPTORS & set(workload):
        allow_descriptors(config.concurrency + 16 * config.jobs + 256)
    console = Console(stderr=True)
    say_when_unpacking()
    machine = facts()
    bench = _run_with_bars(config, backend, workload, console)
    if machine["load_before"] > machine["cpus"]:
        bench.notes.append(f"the machine was busy before: load {machine['load_before']:.1f} on {machine['cpus']} CPUs")
    report = bench.document(machine, repeatable(sys.argv[1:]))
    _write(json_file, dumps(report))
    _write(html_file, page(report))
    if "-" not in (json_file, html_file):
        _print(bench, report)
    for message, count in bench.errors.items():
        console.print(f"{count} × {message}", style="red", markup=False)
    return 0 if bench.served == bench.asked and not bench.failures else 1


def _print(bench: Bench, report: Document) -> None:
    """For people, on stdout: the verdict comes last."""
    lines = [(line, "") for line in [*Verdict(report).sentences(), *bench.notes]]
    if bench.guarantees:
        lines += [(f"{name}: {bench.guarantees.get(name, 'unknown')}", "dim") for name in SAID]
    for name, settings in bench.settings.items():
        if name not in LAUNCHERS:  # whose are said above
            lines.append((f"{name}: {', '.join(f'{key} {value}' for key, value in settings.items())}", "dim"))
    lines += [(f"{name} left out: {why}", "yellow") for name, why in bench.left_out.items()]
    is_good = bench.served == bench.asked and not bench.failures
    verdict = f"{bench.served} of {bench.asked} sandboxes served, {bench.failures} failures"
    lines.append((verdict, "bold" if is_good else "bold red"))
    out = Console(highlight=False)
    with out.capture() as rest:  # click prints it: rich would exit 1 when nobody reads it
        for line, style in lines:
            out.print(line, style=style, markup=False, soft_wrap=True)
    click.echo(text(report, color=sys.stdout.isatty()) + rest.get(), nl=False)


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """One for each phase, from when it begins."""
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
                if not sys.stderr.isatty():  # a job's log: so that it does not look as if it hung
                    console.print(f"{phase}: {total:,}", markup=False)
            progress.update(tasks[phase], completed=done, total=total)

        yield show


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as at the end of a job or of timeout(1): podman's containers and Docker's would stay."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, and then the process as ever."""

    def terminate(_number: int, _frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_with_bars(config: Config, names: tuple[str, ...], workloads: tuple[str, ...], console: Console) -> Bench:
    with _terminable(), _bars(console) as show:
        bench = Bench(config, names, workloads, show)
        try:
            bench.run()
        except Unavailable as error:
            raise LisrtError(f"nothing could be measured: {error}") from None
        except BaseException as error:
            if not was_interrupted(error):
                raise
            for home in spawner.running_all():
                home.stop()
            console.print("interrupted: there is no report", style="yellow")
            raise (_Terminated if was_interrupted(error, _Terminated) else KeyboardInterrupt) from error
    return bench
