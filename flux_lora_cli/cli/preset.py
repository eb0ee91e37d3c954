"""``flux-lora preset check|show|list|new``: work on presets without spending anything."""

from __future__ import annotations

from importlib import import_module

import click

from flux_lora_cli.cli.command import SETTINGS

_COMMANDS = {
    "check": ("preset_check", "every problem of the files, before anything is spent"),
    "show": ("preset_show", "the expanded jobs, exactly as they will be sent"),
    "list": ("preset_list", "the presets in a folder"),
    "new": ("preset_new", "a commented starting file"),
}


class PresetGroup(click.Group):
    """The subcommands, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"flux_lora_cli.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


command = PresetGroup(
    "preset",
    help="Work on presets without spending anything.",
    context_settings=SETTINGS,
    no_args_is_help=True,
)
