"""``flux-lora merge``: join the folders of shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flux_lora_cli.commands.console import Console, some
from flux_lora_cli.commands.options import Folders, command, option
from flux_lora_cli.errors import ImageError
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.folder.merge import MergeReport

EXAMPLES = """
flux-lora merge shard-1 shard-2 shard-3 -o nasa
flux-lora merge shards/* -o nasa && flux-lora verify nasa
"""


@command
def merge(
    folders: Folders,
    output: Annotated[Path, option("--output -o", "DIR", "Folder to join them in.", Path)],
    console: Console,
) -> int:
    """Join the folders of shards in one folder.

    Copies images and input images and checks them on the way; the folders themselves stay as they are. Merging again
    does only what is not done. A job that two folders have is kept once, and all charges count. Exits with 6 if an
    image of theirs is missing or altered.
    """
    from flux_lora_cli.folder.merge import merge_folders

    def tell(report: MergeReport) -> None:
        console.progress(f"{counted(report.jobs, 'job')} read, {counted(report.images, 'image')} copied")

    report = merge_folders(folders, output, progress=tell)
    for old, new in report.renamed:
        console.explain(f"{old} is {output / new}: its name was taken")
    if report.twice:
        jobs = f"{counted(len(report.twice), 'job')} submitted in more than one folder: {some(report.twice)}"
        console.warn(f"{jobs}. The better result is kept, and all charges count", "submitted_twice")
    counts = {"folder": str(output), "added": report.added, "updated": report.updated, "copied": report.images}
    console.result(str(output))
    console.record("merged", counts)
    total = report.summary
    console.summary.update(**counts, submitted_twice=len(report.twice), unsound=len(report.unsound), **report.summary)
    console.info(
        f"{counted(report.added, 'job')} added, {report.updated:,} updated; {output} now has"
        f" jobs: {total['jobs']}, images: {total['images']}, for ${total['cost_usd']} in all"
    )
    if not report.unsound:
        return 0
    raise ImageError(
        f"{counted(len(report.unsound), 'file')} missing or altered, and not copied: {some(report.unsound)}",
        f"A batch into {output} fetches what is not there, as long as the service has it.",
    )
