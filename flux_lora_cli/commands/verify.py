"""``flux-lora verify``: every file of a folder against its manifest."""

from __future__ import annotations

from collections import Counter

from flux_lora_cli.commands.console import Console, counts_text
from flux_lora_cli.commands.options import Folder, command
from flux_lora_cli.errors import ImageError
from flux_lora_cli.text import counted

EXAMPLES = """
flux-lora verify flux-lora-output/nasa
flux-lora verify flux-lora-output/nasa | cut -f1
"""

#: Findings on files that were saved.
_CHECKED = ("ok", "missing", "altered")


@command
def verify(folder: Folder, console: Console) -> int:
    """Read every byte of a folder's images and compare with its records.

    Prints one line for each file that is not as it was saved: its path, a tab, and "missing" or "altered". Exits with
    6 if there is one, or if an image never came; otherwise with 0. Nothing is sent and nothing is changed. With -v,
    also names files that the folder does not know.
    """
    from flux_lora_cli.folder.verify import verify_folder

    counts = Counter[str]()
    for finding in verify_folder(folder):
        path = finding.path and str(folder / finding.path)
        counts[finding.kind] += 1
        console.progress(f"{counted(sum(counts[kind] for kind in _CHECKED), 'file')} checked")
        if finding.kind in ("missing", "altered"):
            console.result(f"{path}\t{finding.kind}")
        elif finding.kind == "never_saved":
            console.complain(f"{finding.job}: image {finding.index} was never saved: {finding.message}")
        elif finding.kind == "foreign":
            console.explain(f"not of this folder: {path}")
        if finding.counts:
            data = {"path": path, "finding": finding.kind, "job": finding.job, "index": finding.index}
            console.record("file", data)

    wrong = {kind: counts[kind] for kind in ("missing", "altered", "never_saved")}
    checked = sum(counts[kind] for kind in _CHECKED)
    console.summary.update(checked=checked, **wrong, foreign=counts["foreign"])
    if not any(wrong.values()):
        console.info(f"{counted(checked, 'file')} checked: all as they were saved")
        return 0
    raise ImageError(
        f"{counted(checked, 'file')} checked: {counts_text(wrong)}",
        "Run the batch again with --verify: it fetches what the service still has, and buys nothing again.",
    )
