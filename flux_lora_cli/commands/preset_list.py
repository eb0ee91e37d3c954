"""``flux-lora preset list``: the presets of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from flux_lora_cli.commands.console import Console, print_table
from flux_lora_cli.commands.inputs import load_options
from flux_lora_cli.commands.options import ModelsOptions, ServiceOptions, argument, command
from flux_lora_cli.errors import NotFoundError, PresetError
from flux_lora_cli.text import counted, printable

EXAMPLES = """
flux-lora preset list
flux-lora preset list my-presets
"""


@command
def preset_list(
    console: Console,
    folder: Annotated[Path, argument("DIR", "Folder of presets (default: presets).", Path)] = Path("presets"),
) -> int:
    """List the presets of a folder and the folders below it: file, jobs, stacks, description."""
    from flux_lora_cli.presets.diff import is_preset
    from flux_lora_cli.presets.load import load_presets

    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {printable(str(folder))}", "Name the folder that your presets are in.")
    options = load_options(ModelsOptions(), ServiceOptions.offline(), max_jobs=None, require_jobs=False)
    rows = [["FILE", "JOBS", "STACKS", "DESCRIPTION"]]
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not is_preset(path.name) or not path.is_file():
            continue
        entry: dict[str, Any] = {"file": str(path), "name": None, "jobs": None, "stacks": [], "description": ""}
        try:
            (preset,) = load_presets(path, options=options).presets
            entry |= {"name": preset.name, "jobs": preset.jobs, "stacks": list(preset.stacks)}
            entry["description"] = preset.description
        except PresetError as error:
            problems = counted(len(error.problems), "problem")
            entry["description"] = f"invalid: {problems} (flux-lora preset check)"
        console.record("preset", entry)
        jobs = "-" if entry["jobs"] is None else str(entry["jobs"])
        rows.append([entry["file"], jobs, ", ".join(entry["stacks"]) or "-", entry["description"]])
    console.summary.update(presets=len(rows) - 1)
    if len(rows) > 1:
        print_table(rows, console)
    else:
        console.info(f"no presets in {folder}; start one with: flux-lora preset new {folder / 'NAME.yaml'}")
    return 0
