"""Join folders of one service: their files are copied, their records become one ledger."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flux_lora_cli.errors import OtherService, UsageError
from flux_lora_cli.folder import files, state
from flux_lora_cli.folder.images import ImageStore, forget_file
from flux_lora_cli.folder.ledger import LEDGER_NAME, read_ledger
from flux_lora_cli.folder.manifest import read_manifest, summary
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, join
from flux_lora_cli.folder.verify import existing, input_files
from flux_lora_cli.text import printable


@dataclass(slots=True)
class MergeReport:
    """What a merge did. It may be repeated after a kill, or when a source has gone on: it does what is left."""

    jobs: int = 0  # read so far
    added: int = 0
    updated: int = 0
    images: int = 0
    twice: list[str] = field(default_factory=list)  # jobs that two folders were charged for; both charges count
    unsound: list[str] = field(default_factory=list)  # files that were missing or altered, and so not taken
    renamed: list[tuple[str, str]] = field(default_factory=list)  # images whose name was taken, and the one they got
    summary: dict[str, object] = field(default_factory=dict)  # of the merged folder, as its manifest has it


def merge_folders(
    sources: Sequence[Path], target: Path, *, progress: Callable[[MergeReport], None] = lambda report: None
) -> MergeReport:
    """Take every record of every source, in the order of their positions, into ``target``, which is made if need be.

    Images are copied and checked on the way, not linked: an edit in one folder must not change the other. Sources are
    only read, by their ledgers or, without one, by their manifests. ``progress`` is called after each job.

    Raises NotFoundError: a source is not a folder of results; UsageError: there is nothing to merge; OtherService:
    they are not all of one service; FolderError, FolderBusy: one cannot be used.
    """
    distinct = {existing(folder).resolve(): folder for folder in reversed(sources)}
    distinct.pop(target.resolve(), None)  # what is in the merged folder is there already
    if not distinct:
        raise UsageError("there is nothing to merge", "Name the folders to join, and another one with -o.")
    read = [
        (folder, read_ledger(folder) if os.path.lexists(folder / LEDGER_NAME) else read_manifest(folder))
        for folder in reversed(distinct.values())
    ]
    owner = read[0][1].service
    for folder, manifest in read:
        if manifest.service != owner:
            owners = f"{folder} belongs to {printable(manifest.service)}, {read[0][0]} to {printable(owner)}"
            raise OtherService(owners, "Merge the folders of one service.")
    presets = [source for _, manifest in read for source in manifest.sources.items()]
    pairs = [(record, folder) for folder, manifest in read for record in manifest.records]
    report, changed = MergeReport(), dict[str, JobRecord]()
    with OutputFolder.open(target, owner, exclusive=True, sources=presets) as merged:
        state.remember_folder(merged.path)
        for record, folder in sorted(pairs, key=lambda pair: pair[0].order):
            known = merged.records.get(record.key)
            joined = replace(record, order=merged.next_order()) if known is None else join(known, record)
            if joined.outputs is record.outputs:
                joined = _with_files(merged.images, folder, joined, report)
            if known is not None and len(joined.history) > max(len(known.history), len(record.history)):
                report.twice.append(record.name)
            if joined != known:
                merged.records[record.key] = changed[record.key] = joined
                report.added += known is None
                report.updated += known is not None
            report.jobs += 1
            progress(report)
        merged.save(map(merged.row, changed.values()))
        merged.write_manifest()
        identities = [manifest.created_at for _, manifest in read]
        state.note_charges(owner, merged.ledger, merged.records.values(), instead_of=identities)
        report.summary = summary(merged.records.values())
    return report


def _with_files(images: ImageStore, source: Path, record: JobRecord, report: MergeReport) -> JobRecord:
    """The record, whose files are copied; those of its images that are not what they should be are forgotten."""

    def copied(name: str, sha256: str) -> str | None:
        origin = files.inside(source, name)
        found = None if origin is None else images.copy(origin, name, sha256)
        if found is None:
            report.unsound.append(f"{source}/{name}")
        return found

    for name in input_files(record):
        copied(name, Path(name).stem)
    outputs = [replace(output, writing=None, temp=None) for output in record.outputs]
    for output in outputs:
        if output.file is None:
            continue
        found = copied(output.file, output.sha256 or "")
        if found is None:
            forget_file(output)
            continue
        report.images += 1
        if found != output.file:
            report.renamed.append((f"{source}/{output.file}", found))
        output.file, output.mtime_ns = found, images.stat(found)[1]
    return replace(record, outputs=outputs)
