"""The command line: the only place that prints, reads arguments and exits."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from lisrt.cli.streams import abandon_unwritable, open_missing, quiet_without_reader, tell
from lisrt.errors import LisrtError

SANDBOX_FAULT = 125

_COMMANDS = {
    "bench": "lisrt.cli.bench",
    "doctor": "lisrt.cli.doctor",
    "exec": "lisrt.cli.execute",
    "gc": "lisrt.cli.gc",
    "image": "lisrt.cli.image",
    "mcp": "lisrt.cli.mcp",
    "ps": "lisrt.cli.ps",
    "run": "lisrt.cli.run",
    "shell": "lisrt.cli.shell",
    "view": "lisrt.cli.view",
}


class Commands(click.Group):
    """Imports a command's module when it is named: `lisrt exec` does not wait for what only `run` needs."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **kwargs: Any) -> None:
        """`modules`: the name of each command and of the module whose `command` it is."""
        super().__init__(*args, **kwargs)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        import importlib

        module = self._modules.get(cmd_name)
        command: click.Command | None = importlib.import_module(module).command if module else None
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self._modules, n=1)
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) if near else error from None

    # click itself would exit 1 on a broken pipe

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with quiet_without_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        from lisrt.cli.config import naming_files

        with quiet_without_reader(), naming_files():
            return super().invoke(ctx)


@click.group(
    cls=Commands,
    modules=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "LISRT"},
)
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="A settings file; ./lisrt.toml by default.")
@click.version_option(package_name="lisrt")
@click.pass_context
def cli(context: click.Context, config: str | None) -> None:
    """A computer of its own for every LLM agent: without Docker, without root.

    Start with `lisrt doctor`, then `lisrt exec -- id`.
    """
    from lisrt.cli.config import ORIGINS, defaults

    name = context.invoked_subcommand
    command = context.command.get_command(context, name) if name and isinstance(context.command, click.Group) else None
    origins = context.meta.setdefault(ORIGINS, {})
    context.default_map = {name: defaults(config, command, origins)} if name else None


def main() -> NoReturn:
    """The entry point. Faults of the sandbox or the host exit 125, with the cause and the fix on stderr."""
    open_missing()
    try:
        status = cli(prog_name="lisrt", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (LisrtError, OSError, ValueError) as error:
        abandon_unwritable(sys.stdout)
        tell(f"lisrt: {error}")
        status = SANDBOX_FAULT
    abandon_unwritable(sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)
