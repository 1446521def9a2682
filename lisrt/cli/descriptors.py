"""The soft limit on open files, which is this process's own to raise."""

from __future__ import annotations

import resource

import click

__all__ = ["allow_descriptors"]


def allow_descriptors(wanted: int) -> None:
    """Raises it as far as it has to be. click.ClickException where the hard limit is below."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise click.ClickException(f"this needs {wanted} open files and the hard limit is {hard}; use a smaller --concurrency")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
