"""A ledger that was deleted, as far as the manifest beside it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from flux_lora_cli import errors
from flux_lora_cli.adapters.ledger import other_service
from flux_lora_cli.adapters.manifest_file import MANIFEST_NAME, damaged, read_entries, read_head
from flux_lora_cli.adapters.saved_files import full_check, inside
from flux_lora_cli.domain.manifest_reading import ManifestError, ManifestNewerError, parse_entries, service_of
from flux_lora_cli.domain.records import Finding, JobRecord, OutputRecord


def manifest_service(folder: Path) -> str | None:
    """Return whom the manifest says the folder belongs to; None without a manifest.

    Raises ManifestDamaged, LedgerNewer (a later version's manifest), FolderError.
    """
    head = read_head(folder)
    if head is None:
        return None
    with _refused(folder):
        return service_of(head)


def manifest_records(folder: Path) -> Iterator[JobRecord]:
    """Yield the records as the manifest tells them, none without one. Raises as ``manifest_service``."""
    if manifest_service(folder) is not None:
        with _refused(folder):
            yield from parse_entries(read_entries(folder))


def check_owner(folder: Path, service: str) -> None:
    """Raise OtherService where the manifest names another service; as ``manifest_service`` besides."""
    owner = manifest_service(folder)
    if owner is not None and owner != service:
        raise other_service(folder, owner, service)


@contextlib.contextmanager
def _refused(folder: Path) -> Iterator[None]:
    path = folder / MANIFEST_NAME
    try:
        yield
    except ManifestNewerError as error:
        raise errors.LedgerNewer(
            f"{path} was written by a later flux-lora: {error}",
            "Upgrade flux-lora: pip install --upgrade flux-lora-cli",
        ) from error
    except ManifestError as error:
        raise damaged(path, str(error)) from error


def rebuild(folder: Path, service: str, progress: Callable[[int, int], None] | None = None) -> list[JobRecord]:
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
    check_owner(folder, service)
    records = list(manifest_records(folder))
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
