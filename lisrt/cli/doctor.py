"""lisrt doctor"""

from __future__ import annotations

import json

import click

from lisrt.doctor import Status, examine

_COLOURS = {Status.PASS: "green", Status.NOTE: "yellow", Status.FAIL: "red", Status.SKIPPED: "bright_black"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(as_json: bool) -> int:
    """Find out, by trying, whether sandboxes work here; and what to do where they don't. Exits 1 when they don't."""
    checks = examine()
    if as_json:
        click.echo(json.dumps([check.as_json() for check in checks], indent=2))
    else:
        for check in checks:
            click.echo(f"{click.style(f'{check.status.upper():8}', fg=_COLOURS[check.status])} {check.name:18} {check.found}")
            if check.fix and check.fix not in check.found:
                click.echo(f"{'':28}{check.fix}")
    return int(any(check.status is Status.FAIL for check in checks))
