"""``flux-lora embed``: copies of the images with their requests inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.errors import ExitCode, ImageError

#: Names shown of those that were left out.
_SHOWN = 10


def embed(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An output folder.")],
    console: Console,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the copies go; another folder.")],
) -> int:
    """Copy each image with the request that made it written into the file.

    PNG files get the "parameters" text that web UIs read, JPEG and WebP files
    the same as EXIF UserComment; all say in XMP that a model made them. Pixels
    are not encoded anew, and DIR itself is never altered. "flux-lora replay
    FILE" reads the request back.
    """
    from flux_lora_cli.domain.events import Record
    from flux_lora_cli.gallery.embed import embed_run
    from flux_lora_cli.gallery.run import read_run

    made = kept = 0
    failed: list[str] = []
    for copy in embed_run(read_run(folder), output):
        if copy.path is None:
            failed.append(copy.file)
            console.warn(f"{copy.file}: {copy.problem}", code="not_embedded")
            continue
        made, kept = made + copy.new, kept + (not copy.new)
        console.result(str(copy.path))
        console.event(Record("embedded", {"file": str(copy.path), "source": copy.file, "new": copy.new}))
    console.summary.update(embedded=made, kept=kept, failed=len(failed))
    there = f", {kept} there already" if kept else ""
    console.info(f"{made} written{there}")
    if not failed:
        return ExitCode.OK
    names = ", ".join(failed[:_SHOWN]) + (", …" if len(failed) > _SHOWN else "")
    console.error(
        ImageError(
            f"{counted(len(failed), 'image')} left out: {names}",
            f"flux-lora verify {folder} says which files are not as they were saved.",
        )
    )
    return ExitCode.INCOMPLETE


command = build(
    embed,
    "embed",
    examples="""\
  flux-lora embed flux-lora-output/posters -o to-share""",
)
