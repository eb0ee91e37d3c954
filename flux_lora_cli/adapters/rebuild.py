"""A ledger that was deleted, as far as the manifest beside it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flux_lora_cli import errors
from flux_lora_cli.adapters.ledger import other_service
from flux_lora_cli.adapters.manifest_file import MANIFEST_NAME, damaged, read_manifest
from flux_lora_cli.adapters.saved_files import full_check, inside
from flux_lora_cli.domain.manifest_reading import ManifestError, ManifestNewerError, parse, service_of
from flux_lora_cli.domain.records import Finding, JobRecord, OutputRecord


def manifest_records(folder: Path) -> tuple[str, list[JobRecord]] | None:
    """Return whose folder it is and its records as the manifest tells them; None without a manifest.

    Raises ManifestDamaged, LedgerNewer (a later version's manifest), FolderError.
    """
    document = read_manifest(folder)
    if document is None:
        return None
    try:
        return service_of(document), parse(document)
    except ManifestNewerError as error:
        raise errors.LedgerNewer(
            f"{folder / MANIFEST_NAME} was written by a later flux-lora: {error}",
            "Upgrade flux-lora: pip install --upgrade flux-lora-cli",
        ) from error
    except ManifestError as error:
        raise damaged(folder / MANIFEST_NAME, str(error)) from error


def rebuild(
    folder: Path, service: str, progress: Callable[[int, int], None] | None = None
) -> list[JobRecord]:
    """Return what the manifest knows, for a ledger that is missing; an empty list without a manifest.

    States are kept: what was done or submitted is not paid for again, what was being submitted stays of
    unknown outcome. A file counts as saved only if every byte of it matches; else it is to be fetched again,
    under a name that is free.

    Args:
        progress: called with (jobs checked, jobs in all): every image is read.

    Raises:
        OtherService: the manifest names another service.
        ManifestDamaged, LedgerNewer, FolderError: a manifest is there, but of no use.
    """
    known = manifest_records(folder)
    if known is None:
        return []
    owner, records = known
    if owner != service:
        raise other_service(folder, owner, service)
    for number, record in enumerate(records, 1):
        for output in record.outputs:
            if output.file is not None:
                _confirm(folder, output)
        if progress is not None:
            progress(number, len(records))
    return records


def _confirm(folder: Path, output: OutputRecord) -> None:
    assert output.file is not None
    path = inside(folder, output.file)
    sound = full_check(folder, output.file, output.bytes, output.sha256) is Finding.SOUND
    if path is not None and sound:
        output.mtime_ns = path.lstat().st_mtime_ns
        return
    output.file = output.sha256 = output.bytes = output.width = output.height = None
    output.media_type = output.saved_at = None
