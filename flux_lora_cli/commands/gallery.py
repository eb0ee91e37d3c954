"""``flux-lora gallery``: a page, or a contact sheet, to look at the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from flux_lora_cli.commands.console import Console, counts_text
from flux_lora_cli.commands.options import Folders, command, flag, option
from flux_lora_cli.errors import UsageError

EXAMPLES = """
flux-lora gallery flux-lora-output/posters
flux-lora gallery shard-1 shard-2 -o all
flux-lora gallery flux-lora-output/posters --sheet posters.png
flux-lora gallery before after --compare -o review
"""


@command
def gallery(
    folders: Folders,
    console: Console,
    output: Annotated[Path | None, option("--output -o", "DIR", "For the page (default: the first DIR).", Path)] = None,
    sheet: Annotated[
        Path | None, option("--sheet", "FILE", "Write a contact sheet: .png, .jpg or .webp.", Path)
    ] = None,
    compare: Annotated[bool, flag("--compare", "Compare two folders, BEFORE and AFTER, job by job.")] = False,
) -> int:
    """Write index.html beside the images: a page to look at the results.

    It filters, sorts, lays out matrices as grids, shows images side by side, and exports picks as a list of job IDs
    for --only-file. It links the images and loads nothing from elsewhere. With --sheet, writes a contact sheet instead
    (with -o, both).

    With --compare, the page pairs the images of two folders and shows what changed. It is a folder of its own, with
    copies of the images.
    """
    if compare and (len(folders) != 2 or (output is None and sheet is None)):
        raise UsageError(
            "--compare takes two folders, BEFORE and AFTER, and a place for the page or sheet",
            "Write: flux-lora gallery BEFORE AFTER --compare -o review",
        )
    from flux_lora_cli.gallery.page import build_gallery, build_review, count_changes, pair_folders
    from flux_lora_cli.gallery.pictures import read_pictures
    from flux_lora_cli.gallery.sheet import make_pair_sheet, make_sheet

    written: list[Path] = []
    if compare:
        before, after = folders
        pairs = pair_folders(before, after)
        if sheet is not None:
            written += make_pair_sheet(before, after, pairs, sheet)
        if output is not None:
            written.append(build_review(before, after, pairs, output))
        counts = {change.lower().replace(" ", "_"): number for change, number in count_changes(pairs).items()}
    else:
        pictures = read_pictures(*folders)
        if sheet is not None:
            written += make_sheet(folders, pictures, sheet)
        if sheet is None or output is not None:
            written.append(build_gallery(folders, pictures, output or folders[0]))
        saved = sum(picture.file is not None for picture in pictures)
        counts = {"images": saved, "missing": len(pictures) - saved}
    told = {"image" if (name, number) == ("images", 1) else name: number for name, number in counts.items()}
    console.info(counts_text(told, "no images"))
    for path in written:
        console.result(str(path))
        console.record("gallery", {"file": str(path), **counts})
    console.summary.update(counts)
    return 0
