"""``flux-lora merge``: join the folders of shards."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flux_lora_cli.cli.command import build
from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.reporter import counted
from flux_lora_cli.domain.manifest import summary
from flux_lora_cli.errors import ExitCode, ImageError, NotFoundError, UsageError
from flux_lora_cli.workflow.merge import Report

if TYPE_CHECKING:
    from flux_lora_cli.adapters.folder_reading import FolderRecords
    from flux_lora_cli.adapters.ledger import Ledger

_TERMINAL_STEP, _LOG_STEP = 0.2, 30.0
#: Names shown of a list; the rest is counted.
_SHOWN = 10


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of one service.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="The folder to join them in.", show_default=False),
    ],
    console: Console,
) -> int:
    """Join the folders of shards in one folder.

    Images and input images are copied and checked on the way; the folders themselves are left as they are.
    Merging again does only what is not done. A job that two folders have is kept once, with both charges.
    Exits 6 if an image of theirs was missing or altered.
    """
    sources = _sources(folders, output)
    with contextlib.ExitStack() as stack:
        from flux_lora_cli.adapters.folder_reading import folder_records

        opened = [stack.enter_context(folder_records(folder)) for folder in sources]
        _one_service(sources, opened)
        return _merge(sources, opened, output, console)


def _sources(folders: list[Path], output: Path) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {folder}")
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    found.pop(output.resolve(), None)  # what is in the merged folder is there already
    if not found:
        raise UsageError("there is nothing to merge", "Name the folders to join, and another one with -o.")
    return list(found.values())


def _one_service(sources: list[Path], opened: list[FolderRecords]) -> None:
    from flux_lora_cli.adapters.ledger import other_service

    for folder, records in zip(sources, opened, strict=True):
        if records.service != opened[0].service:
            raise other_service(folder, records.service, opened[0].service)


def _merge(sources: list[Path], opened: list[FolderRecords], output: Path, console: Console) -> int:
    from flux_lora_cli.adapters.folder_lock import FolderLock, unusable
    from flux_lora_cli.adapters.ledger import Ledger
    from flux_lora_cli.adapters.merge_files import FileCopier
    from flux_lora_cli.adapters.rebuild import rebuild
    from flux_lora_cli.workflow.merge import Merge

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(output, error) from error
    with FolderLock(output), Ledger.open(output, opened[0].service) as ledger:
        if ledger.created:
            ledger.save(rebuild(output, opened[0].service))
        copier = FileCopier(sources, output)
        copier.clean()
        named = [_Source(str(folder), records) for folder, records in zip(sources, opened, strict=True)]
        report = Merge(named, ledger, copier, _Meter(console).show).run()
        _write_manifest(sources, output, ledger, report)
        counts = summary(ledger.jobs())
    return _conclude(output, report, counts, console)


class _Source:
    """A source with the name that messages use."""

    def __init__(self, name: str, records: FolderRecords) -> None:
        self.name = name
        self.jobs = records.jobs


def _write_manifest(sources: list[Path], output: Path, ledger: Ledger, report: Report) -> None:
    from flux_lora_cli.adapters.clock import SystemClock
    from flux_lora_cli.adapters.folder_lock import write_lock
    from flux_lora_cli.adapters.manifest_file import ManifestFile
    from flux_lora_cli.adapters.manifest_heads import joined_head

    with write_lock(output):
        head, changed = joined_head(output, sources, ledger.service, SystemClock().now())
        if changed or report.changed:
            ManifestFile(output, head).write(ledger)


def _conclude(output: Path, report: Report, counts: dict[str, object], console: Console) -> int:
    for old, new in report.renamed:
        console.explain(f"{old} is {output / new}: its name was taken")
    if report.twice:
        console.warn(
            f"{len(report.twice)} jobs were submitted in more than one folder: {_some(report.twice)}."
            " The better result is kept, and all charges count"
        )
    console.result(str(output))
    console.summary.update(
        folder=str(output), added=report.added, updated=report.updated, copied=report.images,
        submitted_twice=len(report.twice), unsound=len(report.unsound), **counts,
    )  # fmt: skip
    console.info(
        f"{report.added} jobs added, {report.updated} updated; {output} now has {counts['jobs']} jobs,"
        f" {counts['images']} images, charged ${counts['cost_usd']}"
    )
    if not report.unsound:
        return ExitCode.OK
    were = "was" if len(report.unsound) == 1 else "were"
    console.error(
        ImageError(
            f"{counted(len(report.unsound), 'file')} {were} missing or altered, and not taken: {_some(report.unsound)}",
            f"A batch into {output} fetches what is not there, while the service still has it.",
        )
    )
    return ExitCode.INCOMPLETE


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


class _Meter:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = _TERMINAL_STEP if console.err_is_terminal else _LOG_STEP
        self._next = time.monotonic() + self._step

    def show(self, report: Report) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._step
            self._console.info(f"{report.jobs} jobs read, {report.images} images copied")


command = build(
    merge,
    "merge",
    examples="""\
  flux-lora merge shard-1 shard-2 shard-3 -o nasa
  flux-lora merge shards/* -o nasa && flux-lora verify nasa""",
)
