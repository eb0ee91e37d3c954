"""``flux-lora gallery``: a page, or one picture, to look at the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console

if TYPE_CHECKING:
    from flux_lora_cli.gallery.run import Run


def gallery(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Output folders.")],
    console: Console,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where index.html goes; else the first DIR."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="One picture instead: .png, .jpg or .webp."),
    ] = None,
    show_nsfw: Annotated[bool, typer.Option("--show-nsfw", help="Do not blur flagged images on a sheet.")] = False,
) -> None:
    """Write index.html beside the images: a page to look at the results.

    It filters, sorts, lays matrices out as grids and shows images side by side.
    It links the images and asks no host for anything. With --sheet, write a
    contact sheet or labelled grid as one picture instead.
    """
    from flux_lora_cli.domain.events import Record
    from flux_lora_cli.gallery.run import read_run

    runs = [read_run(folder) for folder in folders]
    if sheet is not None:
        from flux_lora_cli.gallery.sheet import write_sheet

        written = write_sheet(runs, sheet, show_nsfw=show_nsfw)
    else:
        from flux_lora_cli.gallery.page import write_page

        written = write_page(runs, folders[0] if output is None else output)
    images, missing = _count(runs)
    console.result(str(written))
    console.event(Record("gallery", {"file": str(written), "images": images, "missing": missing}))
    note = f", {missing} without an image" if missing else ""
    console.info(f"{images} image{'' if images == 1 else 's'}{note}")


def _count(runs: list[Run]) -> tuple[int, int]:
    files = [picture.file is not None for run in runs for _, picture in run.pictures()]
    return sum(files), len(files) - sum(files)


command = build(
    gallery,
    "gallery",
    examples="""\
  flux-lora gallery flux-lora-output/posters
  flux-lora gallery shard-1 shard-2 -o all
  flux-lora gallery flux-lora-output/posters --sheet posters.png""",
)
