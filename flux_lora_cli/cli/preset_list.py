"""``flux-lora preset list``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.table import screen, table
from flux_lora_cli.domain.events import Record
from flux_lora_cli.domain.text import no_command, printable
from flux_lora_cli.errors import NotFoundError, PresetError

_SUFFIXES = (".yaml", ".yml")


def list_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of presets.")] = Path("presets"),
    *,
    console: Console,
) -> None:
    """List the presets in a folder: file, name, jobs, stacks, description."""
    from flux_lora_cli.adapters.preset_files import FolderPresetFiles

    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder", "name the folder that your presets lie in")
    files = FolderPresetFiles()
    rows = [_entry(path, files) for path in _presets(folder)]
    for row in rows:
        console.event(Record("preset", row))
    if rows:
        for line in _lines(rows, screen()):
            console.result(no_command(line))
    else:
        console.info(f"no presets in {folder}; start one with: flux-lora preset new {folder}/NAME.yaml")
    console.summary.update(presets=len(rows))


def _presets(folder: Path) -> list[Path]:
    """YAML files below the folder, hidden folders left out."""
    found = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _entry(path: Path, files: Any) -> dict[str, Any]:
    from flux_lora_cli.domain.presets import LoadOptions, load_sources

    options = LoadOptions(max_jobs=None, require_jobs=False, inspect=True)
    try:
        info = load_sources([str(path)], files, options).presets[0]
    except PresetError as error:
        message = f"invalid: {len(error.problems)} problems (flux-lora preset check)"
        return {"file": str(path), "name": None, "jobs": None, "stacks": [], "description": message}
    return {
        "file": str(path),
        "name": info.name,
        "jobs": info.jobs,
        "stacks": list(info.stacks),
        "description": info.description,
    }


def _lines(rows: list[dict[str, Any]], columns: int) -> Iterator[str]:
    """A table; where it does not fit the screen, with each description on a line of its own."""
    cells: list[tuple[str, ...]] = [("FILE", "NAME", "JOBS", "STACKS", "DESCRIPTION")]
    for row in rows:
        jobs = "-" if row["jobs"] is None else str(row["jobs"])
        texts = (row["file"], row["name"] or "-", jobs, ", ".join(row["stacks"]) or "-", row["description"])
        cells.append(tuple(printable(" ".join(str(text).split())) for text in texts))
    whole = list(table(cells, 0))
    if not columns or max(map(len, whole)) <= columns:
        yield from whole
        return
    for line, row_cells in zip(table([row[:-1] for row in cells], columns), cells, strict=True):
        yield line
        if row_cells is not cells[0] and row_cells[-1]:
            yield from table([("", row_cells[-1])], columns)


command = build(list_, "list", examples="  flux-lora preset list presets")
