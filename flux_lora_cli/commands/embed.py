"""``flux-lora embed``: copies of the images with their requests inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from flux_lora_cli.commands.console import Console, some
from flux_lora_cli.commands.inputs import read_lines
from flux_lora_cli.commands.options import Folder, OnlyFile, command, option
from flux_lora_cli.errors import ImageError
from flux_lora_cli.text import counted

EXAMPLES = """
flux-lora embed flux-lora-output/posters -o to-share
flux-lora embed flux-lora-output/posters -o to-share --only-file picks.txt
"""


@command
def embed(
    folder: Folder,
    console: Console,
    output: Annotated[Path, option("--output -o", "DIR", "Another folder, for the copies.", Path)],
    only_file: OnlyFile = None,
) -> int:
    """Copy each image with the request that made it written into the file.

    PNG files get the "parameters" text that web UIs read, JPEG and WebP files the same as EXIF UserComment; all say in
    XMP that a model made them. Pixels are not re-encoded, and DIR itself is never altered. "flux-lora replay FILE"
    reads the request back.
    """
    from flux_lora_cli.gallery.embed import embed_images

    names = None if only_file is None else set(read_lines("job ID", only_file))
    written = kept = 0
    left_out: list[str] = []
    for copy in embed_images(folder, output, only=names):
        if copy.problem:
            console.warn(f"{copy.file}: {copy.problem}", "not_embedded")
            left_out.append(copy.file)
            continue
        written, kept = written + copy.new, kept + (not copy.new)
        console.result(str(copy.path))
        console.record("embedded", {"file": str(copy.path), "source": copy.file, "new": copy.new})
    console.summary.update(embedded=written, kept=kept, failed=len(left_out))
    console.info(f"{counted(written, 'copy', 'copies')} written" + (f", {kept:,} already there" if kept else ""))
    if not left_out:
        return 0
    raise ImageError(
        f"{counted(len(left_out), 'image')} left out: {some(left_out)}",
        f"To see which files are not as they were saved: flux-lora verify {folder}",
    )
