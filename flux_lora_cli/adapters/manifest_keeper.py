"""Keeps ``manifest.json`` in step with a ledger that this run, and others beside it, write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flux_lora_cli.adapters.folder_lock import write_lock
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.manifest_file import ManifestFile
from flux_lora_cli.domain.manifest import Cadence, Head
from flux_lora_cli.domain.records import JobRecord

#: Name of the ledger's word about the manifest as the last run left it.
_AS_LEFT = "manifest"


class ManifestKeeper:
    """Writes the manifest when it is due.

    Args:
        records: the folder's records by key; what other processes add to the ledger is added here.
        monotonic: seconds.
        timestamp: now, as files have it.
    """

    def __init__(
        self,
        folder: Path,
        head: Head,
        ledger: Ledger,
        records: dict[str, JobRecord],
        monotonic: Callable[[], float],
        timestamp: Callable[[], str],
    ) -> None:
        self._folder = folder
        self._head = head
        self._file = ManifestFile(folder, head)
        self._ledger = ledger
        self._records = records
        self._monotonic = monotonic
        self._timestamp = timestamp
        self._cadence = Cadence()
        self._owning = False
        self._foreign: set[str] = set()

    def own(self) -> None:
        """The records that are there now are this run's: what others write of them is not taken over."""
        self._owning = True

    def keep(self, changed: list[JobRecord]) -> float | None:
        """Note that records changed; the monotonic time at which ``tick`` is due."""
        self._cadence.touch()
        return self._cadence.due_at()

    def tick(self) -> None:
        """Write, where it is due."""
        if self._cadence.due(self._monotonic()):
            self.write()

    def finish(self) -> None:
        """Make it exact, at the end of a run. Where nothing changed, and the file is as it was left, it stays."""
        if not (self._cadence.dirty or self._take_over()) and self._ledger.meta(_AS_LEFT) == self._as_it_is():
            return
        self.write()
        left = self._as_it_is()
        if left is not None:
            self._ledger.set_meta(_AS_LEFT, left)

    def _as_it_is(self) -> str | None:
        """What tells this very file, and what would be written, from another; None where there is no file."""
        try:
            found = self._file.path.stat()
        except OSError:
            return None
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ino} {self._head.tool_version}"

    def _take_over(self) -> bool:
        """Take over what other processes wrote to the ledger; whether they did."""
        changed = self._ledger.foreign_changes()
        for record in changed:
            if not self._owning or record.key not in self._records or record.key in self._foreign:
                self._foreign.add(record.key)
                self._records[record.key] = record
        return bool(changed)

    def write(self) -> None:
        """Write now. Raises DiskFull, FolderError."""
        began = self._monotonic()
        self._take_over()
        self._head.updated_at = self._timestamp()
        with write_lock(self._folder):
            self._file.write(sorted(self._records.values(), key=lambda record: record.order))
        self._cadence.wrote(began, self._monotonic())
