"""Whole folders: every file of one is checked against its manifest; those of several are joined in one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flux_lora_cli.errors import NotFoundError, OtherService, UsageError
from flux_lora_cli.folder import files, state
from flux_lora_cli.folder.images import ImageStore, forget_file
from flux_lora_cli.folder.ledger import LEDGER_NAME, read_ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest, summary
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, error_parts, join
from flux_lora_cli.text import printable

_INPUT = re.compile(r"inputs/[0-9a-f]{64}\.[A-Za-z0-9]+")
#: What the tool itself keeps in a folder: dot files, and these.
_OWN = re.compile(rf"(?:.*/)?\..*|{MANIFEST_NAME}|index\.html|{LEDGER_NAME}(?:-journal)?", re.DOTALL)


def input_files(record: JobRecord) -> Iterator[str]:
    """The paths of a job's local input images (``inputs/SHA256.ext``)."""
    request = record.input or {}
    several = request.get("images")
    for value in (request.get("image"), *(several if isinstance(several, list) else ())):
        if isinstance(value, str) and _INPUT.fullmatch(value):
            yield value


def _existing(folder: Path) -> Path:
    with files.explained(folder):
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {folder}")
    return folder


# ---- checked --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one file; ``path`` is relative to the folder, None for ``never_saved``.

    Of input images and foreign files, ``job`` (as messages call it) and ``index`` (of the image) are None.
    """

    kind: str  # ok, missing, altered; never_saved (asked for, without a file); foreign (a file that nobody knows)
    path: str | None
    job: str | None = None
    index: int | None = None
    message: str = ""  # why an image was never saved

    @property
    def counts(self) -> bool:
        """Whether the folder is not whole because of it."""
        return self.kind in ("missing", "altered", "never_saved")


def verify_folder(path: Path) -> Iterator[Finding]:
    """What there is to say of every saved file and every input image, all of whose bytes are read; foreign files last.

    Raises NotFoundError: there is no folder, or neither manifest nor ledger in it; FolderError.
    """
    images = ImageStore(_existing(path), read_only=True)
    only_ledger = not os.path.lexists(path / MANIFEST_NAME) and os.path.lexists(path / LEDGER_NAME)
    known: set[str] = set()
    for record in (read_ledger if only_ledger else read_manifest)(path).records:
        for output in record.outputs:
            if output.file is not None and output.file not in known:
                known.add(output.file)
                yield Finding(_kind_of(images, output.file, output.sha256), output.file, record.name, output.index)
            elif output in record.missing and output.error is not None:
                yield Finding("never_saved", None, record.name, output.index, error_parts(output.error)[1])
        for name in sorted({*input_files(record)} - known):
            known.add(name)
            yield Finding(_kind_of(images, name), name)
    for name in images.all_files():
        if name not in known and not _OWN.fullmatch(name):
            yield Finding(_kind_of(images, name) if _INPUT.fullmatch(name) else "foreign", name)


def _kind_of(images: ImageStore, name: str, sha256: str | None = None) -> str:
    """Of a file and the content that it should have; an input image has that as its name."""
    if not os.path.lexists(images.folder / files.on_disk(name)):
        return "missing"
    return "ok" if images.sha256(name) == (sha256 or Path(name).stem) else "altered"


# ---- joined ---------------------------------------------------------------------------------


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
    distinct = {_existing(folder).resolve(): folder for folder in reversed(sources)}
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
