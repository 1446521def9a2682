"""lisrt bench"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from typing import TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lisrt import spawner
from lisrt.bench import Bench, Config, Recorder, as_json, figures, table
from lisrt.bench.machine import facts, filesystem
from lisrt.cli.options import IMAGE_HELP, say_when_unpacking


@click.command("bench")
@click.option("--concurrency", "-n", type=click.IntRange(1), default=512, show_default=True, help="Sandboxes alive at once.")
@click.option("--commands", type=click.IntRange(1), default=4, show_default=True, help="Commands that each one runs.")
@click.option("--jobs", "-j", type=click.IntRange(1), help="Operations in flight at once; 2 per CPU by default.")
@click.option("--serial", type=click.IntRange(0), default=50, show_default=True, help="Sandboxes used one at a time, first.")
@click.option("--image", "-i", help=IMAGE_HELP)
@click.option("--json", "json_file", type=click.File("w", lazy=False), help="Write the report as JSON; - for stdout.")
def command(
    concurrency: int, commands: int, jobs: int | None, serial: int, image: str | None, json_file: TextIO | None
) -> int:
    """Create many sandboxes, keep them all alive, use each, destroy them; report rates, latencies and memory.

    Exits 1 when any sandbox failed at anything. Ctrl-C leaves nothing behind.
    """
    config = Config(concurrency, commands, image, serial=serial)
    config = replace(config, jobs=jobs) if jobs else config
    _allow_descriptors(concurrency + 16 * config.jobs + 256)
    recorder = Recorder("lisrt")
    console = Console(stderr=True)
    say_when_unpacking()
    machine = facts()
    bench = _run_with_bars(config, recorder, console)
    machine["scratch_filesystem"] = filesystem(spawner.current().scratch)
    machine["guarantees"] = bench.guarantees
    rows = recorder.rows()
    if json_file is not None:
        json.dump(as_json(rows, machine, config.as_json()), json_file, indent=1)
        json_file.write("\n")
    if json_file is None or json_file.fileno() != sys.stdout.fileno():
        out = Console(highlight=False)
        with out.capture() as report:  # click prints it: rich would exit 1 when nobody reads it
            out.print(table(rows))
            for line in figures(rows):
                out.print(line)
            for name in ("launcher", "system calls", "memory", "pids"):
                out.print(f"{name}: {bench.guarantees.get(name, 'unknown')}", style="dim")
            verdict = f"{bench.served} of {concurrency} sandboxes served, {recorder.failures} failures"
            out.print(verdict, style="bold" if bench.served == concurrency and not recorder.failures else "bold red")
        click.echo(report.get(), nl=False)
    for message, count in recorder.errors.items():
        console.print(f"{count} × {message}", style="red", markup=False)
    return 0 if bench.served == concurrency and not recorder.failures else 1


def _run_with_bars(config: Config, recorder: Recorder, console: Console) -> Bench:
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        bench = Bench(config, recorder, lambda phase, done: progress.update(tasks[phase], completed=done))
        tasks = {name: progress.add_task(name, total=total) for name, total in bench.phases().items()}
        try:
            bench.run()
        except KeyboardInterrupt:
            home = spawner.running()
            if home is not None:
                home.stop()  # threads that wait for an answer get an end of file
            raise
    return bench


def _allow_descriptors(wanted: int) -> None:
    """Raises the soft limit of this process, which is ours to raise, as far as it has to be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise click.ClickException(f"this needs {wanted} open files and the hard limit is {hard}; use a smaller --concurrency")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
