"""Groups of commands, each command imported only when it is used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import click
import typer
from typer.core import TyperGroup

from flux_lora_cli.cli.command import SETTINGS, spread


class LazyGroup(TyperGroup):
    """A group whose help needs no command's module; a command needs only its own."""

    #: Command name → (module under ``cli``, one line of help).
    table: ClassVar[dict[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in self.table:
            return None
        module = import_module(f"flux_lora_cli.cli.{self.table[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a wrong name, offer the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.table, 1)
            if not near or "mean" in error.message:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog as it stands."""
        if self.epilog:
            formatter.write("\n" + self.epilog + "\n")


def build_group(function: Callable[..., Any], name: str, cls: type[LazyGroup], **options: Any) -> click.Command:
    """Make a group that takes the general options; ``function``'s docstring is the help.

    Args:
        options: for ``typer.Typer``.
    """
    app = typer.Typer(
        name=name,
        cls=cls,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings=SETTINGS,
        **options,
    )
    app.callback()(spread(function))
    # Typer wants at least one registered command before it makes a group.
    app.command("unused", hidden=True)(lambda: None)
    command = typer.main.get_command(app)
    if isinstance(command, click.Group):
        command.commands.clear()
    return command
