"""The program's commands, each imported only when it is used."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

import click

from flux_lora_cli.cli.exit_help import exit_code_lines
from flux_lora_cli.cli.lazy_group import LazyGroup, build_group


class RootGroup(LazyGroup):
    """All commands."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
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


def root() -> click.Command:
    """The whole command line as one click command."""

    def flux_lora() -> None:
        """Batch image generation with FLUX LoRA models.

        Every prompt is paid for once, every image is kept, every image can be
        made again. Try it without a key: flux-lora submit --sandbox "a cat"
        """

    command = build_group(flux_lora, "flux-lora", RootGroup, add_completion=True, epilog=exit_code_lines())
    _complete_whole_words()
    return command


def _complete_whole_words() -> None:
    completing = "_FLUX_LORA_COMPLETE" in os.environ
    if completing or any(word.endswith("-completion") for word in sys.argv):
        from flux_lora_cli.cli import completion_shells

        completion_shells.register()
        completion_shells.let_bash_wait_for_a_value()
