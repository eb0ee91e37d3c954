"""The program's commands, each imported only when it is used."""

from __future__ import annotations

from importlib import import_module

import click
import typer
from typer.core import TyperGroup

from flux_lora_cli.cli.command import SETTINGS, spread
from flux_lora_cli.cli.exit_help import exit_code_lines

#: Command name → (module under ``cli``, one line of help).
COMMANDS = {
    "submit": ("submit", "submit tasks; prints one task id a line"),
    "status": ("status", "the state of tasks; without ids, the recent ones"),
    "wait": ("wait", "wait for tasks, save their images, print the files' paths"),
    "batch": ("batch", "run presets to the end; run again to resume"),
    "preset": ("preset", "check, show, list and start presets; spends nothing"),
    "verify": ("verify", "check every file of a folder against its manifest"),
    "replay": ("replay", "submit again what made an image"),
    "merge": ("merge", "join the folders of shards"),
    "gallery": ("gallery", "a page to look at the results"),
    "embed": ("embed", "copies of the images with their requests inside"),
    "doctor": ("doctor", "what works and what does not: key, service, folder"),
    "schema": ("schema", "the JSON Schemas of presets, manifest and events"),
    "serve": ("serve", "the API itself, offline (the sandbox)"),
}


class LazyGroup(TyperGroup):
    """The root command. Help needs no command's module; a command needs only its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"flux_lora_cli.cli.{COMMANDS[cmd_name][0]}")
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

            near = get_close_matches(args[0], COMMANDS, 1)
            if not near or "mean" in error.message:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes as they stand."""
        formatter.write("\n" + (self.epilog or "") + "\n")


def root() -> click.Command:
    """The whole command line as one click command."""
    app = typer.Typer(
        name="flux-lora",
        cls=LazyGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        no_args_is_help=True,
        context_settings=SETTINGS,
        epilog=exit_code_lines(),
    )

    def flux_lora() -> None:
        """Batch image generation with FLUX LoRA models.

        Every prompt is paid for once, every image is kept, every image can be
        made again. Try it without a key: flux-lora submit --sandbox "a cat"
        """

    app.callback()(spread(flux_lora))
    # Typer wants at least one registered command before it makes a group.
    app.command("serve", hidden=True)(lambda: None)
    command = typer.main.get_command(app)
    if isinstance(command, click.Group):
        command.commands.clear()
    return command
