"""``flux-lora verify``: every file of a folder against its manifest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.domain.events import Record
from flux_lora_cli.domain.records import Finding
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import ExitCode, ImageError
from flux_lora_cli.workflow.verify import Expected, Report
from flux_lora_cli.workflow.verify import verify as run

#: Seconds between two progress lines: on a terminal one line that is written over, elsewhere now and then.
_TERMINAL_STEP, _LOG_STEP = 0.2, 30.0


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An output folder.", show_default=False)],
    console: Console,
) -> int:
    """Read every byte of a folder's images and compare with its records.

    Prints one line for each file that is not as it was saved: its path, a tab, and "missing" or "altered".
    Exits 6 if there was one, 0 if not. Files that the folder does not know are named under -v.
    """
    from flux_lora_cli.adapters.folder_reading import folder_records
    from flux_lora_cli.adapters.saved_files import FolderFiles

    def tell(expected: Expected, finding: Finding) -> None:
        if finding is Finding.SOUND:
            return
        path = str(folder / expected.path)
        console.result(f"{printable(path)}\t{finding.value}")
        data = {"path": path, "finding": finding.value, "job": expected.job, "sha256": expected.sha256}
        console.event(Record("file", data))

    with folder_records(folder) as known:
        report = run(known.jobs(), FolderFiles(folder), tell, _Meter(console).show)
        finding = known.manifest()
    if finding is not Finding.SOUND:
        report.count(finding)
        tell(Expected("manifest.json", None, None, None), finding)
    return _conclude(folder, report, console)


def _conclude(folder: Path, report: Report, console: Console) -> int:
    for path in sorted(report.foreign):
        console.explain(f"not of this folder: {folder / path}")
    console.summary.update(
        checked=report.checked,
        missing=report.missing,
        altered=report.altered,
        never_saved=report.never_saved,
        foreign=len(report.foreign),
    )
    if report.never_saved:
        console.warn(f"{report.never_saved} images of completed jobs were never saved; run the batch again")
    if report.sound:
        console.info(f"{report.checked} files checked: all as they were saved")
        return ExitCode.OK
    console.error(
        ImageError(
            f"{report.checked} files checked: {report.missing} missing, {report.altered} altered",
            "Run the batch again with --verify: it fetches them again, while the service still has them.",
        )
    )
    return ExitCode.INCOMPLETE


class _Meter:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = _TERMINAL_STEP if console.err_is_terminal else _LOG_STEP
        self._next = time.monotonic() + self._step

    def show(self, report: Report) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._step
        self._console.info(f"{report.checked} files, {report.bytes / 1e6:.0f} MB read")


command = build(
    verify,
    "verify",
    examples="""\
  flux-lora verify flux-lora-output/nasa
  flux-lora verify flux-lora-output/nasa | cut -f1""",
)
