"""Options that several commands share: they map one to one on Sandbox's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from lisrt import publish, roots, spawner, spec
from lisrt.box import Box
from lisrt.cli.streams import tell
from lisrt.egress.proxy import Proxy
from lisrt.idmap import IDMAPS
from lisrt.image import HOST, resolve_name
from lisrt.limits import DEFAULT_PIDS, ENFORCERS, Limits, size, writable_layer
from lisrt.nat.policy import Nat
from lisrt.spec import Mount
from lisrt.store.catalog import Catalog, checked_name
from lisrt.uplink import NETWORKS

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


IMAGE_HELP = "Image; by default $LISRT_IMAGE, that of ~/.config/lisrt/config.toml, or 'host'."


def seconds(_context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """For an option that is a time limit."""
    try:
        return spec.seconds(value)
    except ValueError:
        raise click.BadParameter(f"a time limit is a number of seconds above 0, not {value:g}", param=option) from None


def _writable(_context: click.Context, option: click.Parameter, value: str) -> str:
    try:
        writable_layer(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None
    return value


def _user(_context: click.Context, option: click.Parameter, value: str | None) -> int | str | None:
    try:
        return spec.user_name(int(value) if value and value.isdecimal() else value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def _workdir(_context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else spec.absolute(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


NETWORK_HELP = "nat: any public address. filtered: none, without a namespace (weaker). host: NOT isolated."


def _rules(_context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        Proxy(allow=value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None
    return value


def _network(network: str, allow: tuple[str, ...], deny: tuple[str, ...], cache: bool) -> str | Proxy | Nat:
    if cache and not allow:
        raise click.UsageError("--cache keeps what a proxy fetches: say with --allow what that may be")
    if not allow and not deny:
        return network
    if network == "nat" and not deny and not cache:
        try:
            return Nat(allow)
        except ValueError as error:
            raise click.UsageError(f"with --network nat, --allow takes addresses and ranges: {error}") from None
    if network != "none":
        raise click.UsageError(f"--allow and --deny are rules for a proxy; --network {network} has none")
    return Proxy(allow, deny, cache=cache)


def _size(_context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else size(int(value) if value.isdecimal() else value, what=f"--{option.name}")
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def _free_name(_context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else checked_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None


def save_option(help: str) -> Callable[[Decorated], Decorated]:
    """--save"""
    return click.option("--save", metavar="NAME", callback=_free_name, help=help)


def _ports(_context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> dict[int, int]:
    found: dict[int, int] = {}
    for text in value:
        host_port, colon, port = text.rpartition(":")
        if not port.isdecimal() or (colon and not host_port.isdecimal()):
            raise click.BadParameter(f"{text!r} is not SANDBOX or HOST:SANDBOX, two numbers", param=option)
        if int(port) in found:
            raise click.BadParameter(f"port {port} of the sandbox twice", param=option)
        try:
            found |= publish.wanted({int(port): int(host_port or 0)}, "none")
        except ValueError as error:
            raise click.BadParameter(str(error), param=option) from None
    return found


def publish_option(function: Decorated) -> Decorated:
    """--publish"""
    return click.option(
        "--publish",
        multiple=True,
        metavar="[HOST:]SANDBOX",
        callback=_ports,
        help="Let 127.0.0.1:HOST of this machine lead to that port of the sandbox; without HOST to any free one. Again for more.",
    )(function)


def tell_ports(box: Box, asked: Mapping[int, int]) -> None:
    """On stderr: those that nobody has chosen."""
    for port, host_port in box.ports.listening().items():
        if not asked[port]:
            tell(f"lisrt: port {port} of the sandbox is 127.0.0.1:{host_port}")


def require_disk(save: str | None, writable: str) -> None:
    """What is to be saved must not lie in memory that goes with its processes. click.UsageError."""
    if save is not None and writable != "disk":
        raise click.UsageError("--save keeps what was written to disk: leave out --writable")


def _network_options(function: Decorated) -> Decorated:
    """--network, --allow, --deny, --cache."""
    for option in (
        click.option("--cache", is_flag=True, help="With --allow: packages are fetched once for all sandboxes of yours."),
        click.option(
            "--deny", multiple=True, metavar="RULE", callback=_rules, help="What --allow allows but for this; again for more."
        ),
        click.option(
            "--allow",
            multiple=True,
            metavar="RULE",
            callback=_rules,
            help="A proxy to this host: example.org, *.example.org:8443, 10.0.0.0/8; with nat, an address. Again for more.",
        ),
        click.option("--network", type=click.Choice(NETWORKS), default="none", show_default=True, help=NETWORK_HELP),
    ):
        function = option(function)
    return function


def sandbox_options(function: Decorated) -> Decorated:
    """--image, --memory, --cpus, --pids, --disk, --enforce, --network, --mount, --env, ..., --launcher."""
    for option in (
        click.option(
            "--enforce",
            type=click.Choice(ENFORCERS),
            default="auto",
            show_default=True,
            help="Who holds memory, CPUs and processes to their limits.",
        ),
        click.option("--disk", metavar="SIZE", callback=_size, help="Limit on what is written to files."),
        click.option(
            "--pids", type=int, default=DEFAULT_PIDS, show_default=True, help="Processes and threads; 0 for no limit."
        ),
        click.option("--cpus", type=float, help="CPUs' worth of time; whole numbers where there is no control group."),
        click.option("--memory", metavar="SIZE", callback=_size, help="Limit on memory, such as 200MiB."),
        click.option(
            "--launcher",
            type=click.Choice(spawner.LAUNCHERS),
            default="auto",
            show_default=True,
            help="What makes the sandbox; auto: native where that works, else bwrap (bubblewrap).",
        ),
        click.option(
            "--writable",
            default="disk",
            show_default=True,
            metavar="disk|tmpfs:SIZE|none",
            callback=_writable,
            help="Where what is written is kept; none: all files are read-only.",
        ),
        click.option(
            "--idmap",
            type=click.Choice(IDMAPS),
            default="single",
            show_default=True,
            help="subuid: users inside are real, by the subordinate ids of /etc/subuid.",
        ),
        click.option("--hostname", help="Host name inside; 'sandbox' by default."),
        click.option(
            "--user",
            metavar="UID|NAME",
            callback=_user,
            help="Uid that programs see, or a name of the image's; by default the image's user, or 0.",
        ),
        click.option(
            "--workdir", callback=_workdir, help="Where commands start; by default the image's workdir, or /testbed."
        ),
        click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Set a variable; again for more."),
        click.option(
            "--mount", "-m", multiple=True, metavar="SOURCE:TARGET[:rw]", help="Show a host path, read-only unless :rw."
        ),
        _network_options,
        click.option("--image", "-i", help=IMAGE_HELP),
    ):
        function = option(function)
    return function


def sandbox_arguments(
    image: str | None,
    memory: int | None,
    cpus: float | None,
    pids: int,
    disk: int | None,
    enforce: str,
    network: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    cache: bool,
    mount: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str | None,
    user: int | str | None,
    hostname: str | None,
    launcher: str,
    writable: str,
    idmap: str,
) -> dict[str, Any]:
    """Sandbox's keyword arguments from the options' values."""
    say_when_unpacking()
    return {
        "image": image,
        "limits": _limits(memory=memory, cpus=cpus, pids=pids or None, disk=disk, enforce=enforce),
        "network": _network(network, allow, deny, cache),
        "mounts": [_mount(text) for text in mount],
        "env": dict(_variable(text) for text in env),
        "workdir": workdir,
        "user": user,
        "hostname": hostname,
        "launcher": launcher,
        "writable": writable,
        "idmap": idmap,
    }


def require_image(name: str | None) -> None:
    """ImageError where there is none of that name: before anything else is begun."""
    resolved = resolve_name(name)
    if resolved != HOST:
        Catalog().get(resolved)


def say_when_unpacking() -> None:
    """On stderr: else nothing would be heard for some seconds."""
    roots.on_unpacking = lambda name: tell(f"lisrt: unpacking image {name} on this host, once")


def _limits(**values: Any) -> Limits:
    try:
        return Limits(**values)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _mount(text: str) -> Mount:
    source, *rest = text.split(":")
    if not 1 <= len(rest) <= 2 or rest[1:] not in ([], ["rw"], ["ro"]):
        raise click.BadParameter(f"{text!r} is not SOURCE:TARGET or SOURCE:TARGET:rw", param_hint="--mount")
    try:
        return Mount(source, rest[0], writable=rest[1:] == ["rw"])
    except FileNotFoundError:
        tilde = " (a shell expands ~ only at the start of a word)" if source.startswith("~") else ""
        raise click.BadParameter(f"{text!r}: there is no {source!r}{tilde}", param_hint="--mount") from None
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint="--mount") from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    return name, value
