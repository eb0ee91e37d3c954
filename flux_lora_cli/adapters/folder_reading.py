"""A folder's records for commands that only read: from the ledger, else from the manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from flux_lora_cli import errors
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.ledger_reading import ReadLedger
from flux_lora_cli.adapters.manifest_file import MANIFEST_NAME
from flux_lora_cli.adapters.rebuild import manifest_records, manifest_service
from flux_lora_cli.domain.records import Finding, JobRecord


class FolderRecords:
    """What one folder knows.

    Attributes:
        service: whom it belongs to.
    """

    def __init__(self, folder: Path, service: str, ledger: ReadLedger | None, at_rest: bool) -> None:
        self.service = service
        self._folder = folder
        self._ledger = ledger
        self._at_rest = at_rest

    def jobs(self) -> Iterator[JobRecord]:
        """Yield the records in order; may be called again."""
        return manifest_records(self._folder) if self._ledger is None else self._ledger.jobs()

    def manifest(self) -> Finding:
        """Compare the manifest with the ledger, as far as files go.

        While a run goes on, or after one that was killed, the manifest is behind by right: then it is sound.
        """
        if self._ledger is None or not self._at_rest:
            return Finding.SOUND
        if not (self._folder / MANIFEST_NAME).exists():
            return Finding.MISSING
        try:
            same = _fold(manifest_records(self._folder)) == _fold(self._ledger.jobs())
        except errors.ManifestDamaged:
            same = False
        return Finding.SOUND if same else Finding.ALTERED


@contextlib.contextmanager
def folder_records(folder: Path) -> Iterator[FolderRecords]:
    """Open a folder for reading: no lock is taken, and nothing is left in it.

    Raises:
        NotFoundError: no such folder, or neither ledger nor manifest in it.
        LedgerDamaged, LedgerNewer, ManifestDamaged, FolderError: it cannot be read.
    """
    if not folder.is_dir():
        raise errors.NotFoundError(f"there is no folder {folder}")
    at_rest = not folder.joinpath("ledger.sqlite3-wal").exists()
    with Ledger.snapshot(folder) as ledger:
        service = manifest_service(folder) if ledger is None else ledger.service
        if service is None:
            raise errors.NotFoundError(
                f"{folder} has neither a ledger nor a manifest",
                "Name the folder that a batch or wait wrote, not the one above it.",
            )
        yield FolderRecords(folder, service, ledger, at_rest)


def _fold(records: Iterable[JobRecord]) -> int:
    """Return one number for all files that the records name, whatever their order."""
    return sum(
        hash((output.file, output.sha256, output.bytes))
        for record in records
        for output in record.outputs
        if output.file is not None
    )
