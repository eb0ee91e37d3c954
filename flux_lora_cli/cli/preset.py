"""``flux-lora preset check|show|list|new``: work on presets without spending anything."""

from __future__ import annotations

from typing import ClassVar

from flux_lora_cli.cli.lazy_group import LazyGroup, build_group


class PresetGroup(LazyGroup):
    """The subcommands."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "check": ("preset_check", "every problem of the files, before anything is spent"),
        "show": ("preset_show", "the expanded jobs, exactly as they will be sent"),
        "list": ("preset_list", "the presets in a folder"),
        "new": ("preset_new", "a commented starting file"),
    }


def preset() -> None:
    """Work on presets without spending anything."""


command = build_group(
    preset,
    "preset",
    PresetGroup,
    add_completion=False,
    epilog="""\
Examples:
  flux-lora preset new nasa
  flux-lora preset check presets/*.yaml
  flux-lora preset show presets/posters.yaml
  flux-lora preset list presets""",
)
