"""Where the records of a run are kept: an output folder, the user's own ledger, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flux_lora_cli.engine.threads import Pool
from flux_lora_cli.folder.ledger import Ledger
from flux_lora_cli.folder.manifest import Cadence
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord


class Store:
    """Records of a run.

    Args:
        folder: the output folder; None where nothing is saved (``submit`` without ``--wait``).
        ledger: the user's own ledger, for tasks that belong to no preset (``submit``): its rows are written first,
            and the folder gets copies keyed by the task's ID.
    """

    def __init__(self, folder: OutputFolder | None, ledger: Ledger | None = None) -> None:
        self.folder = folder
        self.ledger = ledger
        self._cadence = Cadence()

    def row(self, record: JobRecord) -> tuple[Any, Any]:
        """The record as it is now, for ``write``; cheap, called on the event loop."""
        own = None if self.ledger is None else self.ledger.row(record)
        if self.folder is None:
            return own, None
        if self.ledger is not None:
            if record.task_id is None:
                return own, None
            record = self._copy(record)
        self._cadence.touch()
        self.folder.records[record.key] = record
        return own, self.folder.row(record)

    def write(self, rows: list[tuple[Any, Any]]) -> None:
        """Make rows durable; blocking. Raises FolderError."""
        if self.ledger is not None:
            self.ledger.save([own for own, _ in rows])
        if self.folder is not None:
            theirs = [row for _, row in rows if row is not None]
            if theirs:
                self.folder.save(theirs)

    async def write_manifest_if_due(self, pool: Pool, time: Callable[[], float]) -> None:
        """Write the manifest where it is time to. Raises FolderError."""
        if self.folder is None or not self._cadence.due(time()):
            return
        await self.write_manifest(pool, time)

    async def write_manifest(self, pool: Pool, time: Callable[[], float]) -> None:
        """Write the manifest now. Raises FolderError."""
        if self.folder is None:
            return
        began = time()
        self._cadence.writing()
        await pool.call(self.folder.write_manifest)
        self._cadence.wrote(began, time())

    def _copy(self, record: JobRecord) -> JobRecord:
        assert self.folder is not None
        key = f"task:{record.task_id}"
        known = self.folder.records.get(key)
        order = self.folder.next_order() if known is None else known.order
        return replace(record, key=key, order=order)
