"""``flux-lora help``: the options of a command, and the guide for programs."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from flux_lora_cli.commands.console import Console
from flux_lora_cli.commands.options import argument, command

EXAMPLES = """
flux-lora help batch
flux-lora help agents
"""


@command
def help(  # noqa: A001 - the command's name
    topic: Annotated[list[str] | None, argument("COMMAND", "A command, or: agents.")] = None,
    *,
    console: Console,
) -> int:
    """Show the commands, or the options of one. "flux-lora help agents" tells programs how to use it safely."""
    if topic == ["agents"]:
        console.tell((files("flux_lora_cli") / "resources" / "SKILL.md").read_text("utf-8"))
        return 0
    from flux_lora_cli.commands.app import run_typer

    return run_typer([*(topic or ()), "--help"], console)
