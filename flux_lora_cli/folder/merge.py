"""Join folders of one service: their files are copied, their records become one ledger."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flux_lora_cli.errors import NotFoundError, OtherService, UsageError
from flux_lora_cli.folder import files, month, state
from flux_lora_cli.folder.images import forget_file
from flux_lora_cli.folder.ledger import LEDGER_NAME, read_ledger
from flux_lora_cli.folder.manifest import read_manifest, summary
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, OutputRecord, is_better, join
from flux_lora_cli.folder.verify import input_files
from flux_lora_cli.text import printable


@dataclass(slots=True)
class MergeReport:
    """What a merge did. It may be repeated after a kill, or when a source has gone on: it does what is left.

    Attributes:
        jobs: read so far.
        twice: jobs that two folders were charged for; both charges count.
        unsound: files of the sources that were missing or altered, and so not taken.
        renamed: images whose name was taken by another, with the name they got.
        summary: of the merged folder, as its manifest has it.
    """

    jobs: int = 0
    added: int = 0
    updated: int = 0
    images: int = 0
    twice: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    summary: dict[str, object] = field(default_factory=dict)


def merge_folders(
    sources: Sequence[Path], target: Path, *, progress: Callable[[MergeReport], None] = lambda report: None
) -> MergeReport:
    """Take every record of every source, in the order of their positions, into ``target``, which is made if need be.

    Images are copied and checked on the way, not linked: an edit in one folder must not change the other. Sources are
    only read, by their ledgers or, without one, by their manifests. ``progress`` is called after each job.

    Raises NotFoundError: a source is not a folder of results; UsageError: there is nothing to merge; OtherService:
    they are not all of one service; FolderError, FolderBusy: one cannot be used.
    """
    read = [
        (folder, read_ledger(folder) if os.path.lexists(folder / LEDGER_NAME) else read_manifest(folder))
        for folder in _distinct(sources, target)
    ]
    first, owner = read[0][0], read[0][1].service
    for folder, manifest in read:
        if manifest.service != owner:
            raise OtherService(
                f"{printable(str(folder))} belongs to {printable(manifest.service)}, {printable(str(first))} to"
                f" {printable(owner)}",
                "Merge the folders of one service.",
            )
    presets = [source for _, manifest in read for source in manifest.sources.items()]
    pairs = [(record, folder) for folder, manifest in read for record in manifest.records]
    with OutputFolder.open(target, owner, exclusive=True, sources=presets) as merged:
        state.remember_folder(merged.path)
        merge = _Merge(merged)
        for record, folder in sorted(pairs, key=lambda pair: pair[0].order):
            merge.take(folder, record)
            progress(merge.report)
        merged.images.sync(merge.copied)
        merged.save([merged.row(merged.records[key]) for key in merge.changed])
        merged.write_manifest()
        identities = [manifest.created_at for _, manifest in read]
        month.note_charges(owner, merged.ledger, merged.records.values(), instead_of=identities)
        merge.report.summary = summary(merged.records.values())
        return merge.report


def _distinct(sources: Sequence[Path], target: Path) -> list[Path]:
    for folder in sources:
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {printable(str(folder))}")
    found = {folder.resolve(): folder for folder in reversed(sources)}
    found.pop(target.resolve(), None)  # what is in the merged folder is there already
    if not found:
        raise UsageError("there is nothing to merge", "Name the folders to join, and another one with -o.")
    return [*reversed(found.values())]


class _Merge:
    """Attributes: changed: keys of records to be saved; copied: names to be made durable before that."""

    def __init__(self, target: OutputFolder) -> None:
        self._target = target
        self.changed: dict[str, None] = {}
        self.copied: set[str] = set()
        self.report = MergeReport()

    def take(self, source: Path, record: JobRecord) -> None:
        """Add a source's record and its files."""
        self.report.jobs += 1
        known = self._target.records.get(record.key)
        if known is None or is_better(record, known):
            record = self._with_files(source, record)
        if known is None:
            joined = replace(record, order=self._target.next_order())
            self.report.added += 1
        else:
            joined = join(known, record)
            if len(joined.history) > max(len(known.history), len(record.history)):
                self.report.twice.append(record.name)
            if joined == known:
                return
            self.report.updated += 1
        self._target.records[record.key] = joined
        self.changed[record.key] = None

    def _with_files(self, source: Path, record: JobRecord) -> JobRecord:
        for name in input_files(record):
            if self._copy(source, name, name.rpartition("/")[2].partition(".")[0]) != name:
                self.report.unsound.append(f"{source}/{name}")
        return replace(record, outputs=[self._with_file(source, replace(output)) for output in record.outputs])

    def _with_file(self, source: Path, output: OutputRecord) -> OutputRecord:
        output.writing = output.temp = None
        if output.file is None:
            return output
        name = self._copy(source, output.file, output.sha256)
        if name is None:
            self.report.unsound.append(f"{source}/{output.file}")
            forget_file(output)
            return output
        self.report.images += 1
        if name != output.file:
            self.report.renamed.append((f"{source}/{output.file}", name))
        output.file, output.mtime_ns = name, self._target.images.stat(name)[1]
        return output

    def _copy(self, source: Path, relative: str, sha256: str | None) -> str | None:
        """The name under which the target has the file; None where the source's is not what it should be."""
        origin = files.inside(source, relative)
        if origin is None or sha256 is None:
            return None
        name = self._target.images.copy(origin, relative, sha256)
        if name is not None:
            self.copied.add(name)
        return name
