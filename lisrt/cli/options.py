"""Options that several commands share: they map one to one on Sandbox's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lisrt.plan import NETWORKS
from lisrt.spec import Mount

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def sandbox_options(function: Decorated) -> Decorated:
    """--image, --network, --mount, --env, --workdir, --user, --hostname."""
    for option in (
        click.option("--hostname", help="Host name inside; 'sandbox' by default."),
        click.option("--user", type=click.IntRange(0), default=0, show_default=True, help="Uid that programs see."),
        click.option("--workdir", default="/testbed", show_default=True, help="Where commands start."),
        click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Set a variable; again for more."),
        click.option(
            "--mount", "-m", multiple=True, metavar="SOURCE:TARGET[:rw]", help="Show a host path, read-only unless :rw."
        ),
        click.option("--network", type=click.Choice(NETWORKS), default="none", show_default=True, help="host: NOT isolated."),
        click.option("--image", "-i", help="Image; by default $LISRT_IMAGE, the settings file's, or 'host'."),
    ):
        function = option(function)
    return function


def sandbox_arguments(
    image: str | None,
    network: str,
    mount: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str,
    user: int,
    hostname: str | None,
) -> dict[str, Any]:
    """Sandbox's keyword arguments from the options' values."""
    return {
        "image": image,
        "network": network,
        "mounts": [_mount(text) for text in mount],
        "env": dict(_variable(text) for text in env),
        "workdir": workdir,
        "user": user,
        "hostname": hostname,
    }


def _mount(text: str) -> Mount:
    parts = text.split(":")
    if len(parts) == 3 and parts[2] in ("rw", "ro"):
        return Mount(parts[0], parts[1], writable=parts[2] == "rw")
    if len(parts) != 2:
        raise click.BadParameter(f"{text!r} is not SOURCE:TARGET or SOURCE:TARGET:rw", param_hint="--mount")
    return Mount(parts[0], parts[1])


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    return name, value
