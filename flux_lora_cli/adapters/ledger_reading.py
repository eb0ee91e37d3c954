"""Reading a ledger, with every check that tells whether it can be trusted."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flux_lora_cli import errors
from flux_lora_cli.adapters import ledger_files as files
from flux_lora_cli.adapters.ledger_log import lost_commits
from flux_lora_cli.adapters.ledger_rows import SELECT, RowError, from_row, meta_checksum
from flux_lora_cli.domain.records import JobRecord

_CHUNK = 256
#: Seconds to wait for another writer's transaction.
_BUSY_TIMEOUT = 30.0


def connect(path: Path) -> sqlite3.Connection:
    """Connect to a ledger that is there, as every connection to it has to be. Raises FolderError."""
    # psow=0: see ledger_log.lost_commits.
    address = f"{path.absolute().as_uri()}?mode=rw&psow=0"
    with files.translated(path):
        database = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT)
        try:
            database.execute("PRAGMA synchronous = FULL")
        except BaseException:
            database.close()
            raise
    return database


class ReadLedger:
    """A ledger's content; ``Ledger`` adds writing. Used in the thread that opened it.

    Args:
        path: the name of it that messages use.
        database: a connection to it, or to a copy.
        opened: the file that ``database`` is connected to.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, opened: Path) -> None:
        self.path = path
        self._database = database
        self._opened = opened
        self._tasks: dict[str, int] | None = None
        self._check_format()
        self._check_log()
        self._check_content()
        service = self.meta("service")
        if service is None:
            raise files.damaged(path, "it does not say which service it belongs to")
        self.service = service

    def jobs(self) -> Iterator[JobRecord]:
        """Yield every record in the manifest's order, a few at a time in memory.

        Raises LedgerDamaged at the first row that is not as it was written, or that is missing.
        """
        rows = [n for (n,) in self._all("SELECT n FROM jobs ORDER BY position, n")]
        if len(rows) != self._count() or (rows and max(rows) != len(rows)):
            raise files.damaged(self.path, "rows are missing")
        in_order = rows == sorted(rows)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            if in_order:
                where, values = "n BETWEEN ? AND ?", (chunk[0], chunk[-1])
            else:
                where, values = f"n IN ({','.join('?' * len(chunk))})", tuple(chunk)
            yield from self._records(f"{SELECT} WHERE {where} ORDER BY position, n", values)

    def __iter__(self) -> Iterator[JobRecord]:
        return self.jobs()

    def recent(self, count: int) -> list[JobRecord]:
        """Return the ``count`` records that were added last, the newest first."""
        return list(self._records(SELECT + " ORDER BY n DESC LIMIT ?", (count,)))

    def get(self, key: str) -> JobRecord | None:
        """Return one record."""
        return next(iter(self._records(SELECT + " WHERE key = ?", (key,))), None)

    def find_task(self, task_id: str) -> JobRecord | None:
        """Return the record that has this task."""
        if self._tasks is None:
            self._tasks = dict(self._all("SELECT task_id, n FROM jobs WHERE task_id IS NOT NULL"))
        row = self._tasks.get(task_id)
        if row is None:
            return None
        return next(iter(self._records(SELECT + " WHERE n = ?", (row,))), None)

    def claimed_task_ids(self) -> set[str]:
        """Return the ids of all tasks that this ledger has."""
        return {str(task) for (task,) in self._all("SELECT task_id FROM jobs WHERE task_id IS NOT NULL")}

    def next_order(self) -> int:
        """Return the position after the last."""
        ((last,),) = self._all("SELECT MAX(position) FROM jobs")
        return 0 if last is None else last + 1

    def meta(self, name: str) -> str | None:
        """Return a word about the folder, None where it was never set."""
        for value, checksum in self._all("SELECT value, checksum FROM meta WHERE name = ?", (name,)):
            if checksum != meta_checksum(name, value):
                raise files.damaged(self.path, f"{name} does not match its checksum")
            return str(value)
        return None

    def _check_format(self) -> None:
        ((application,),) = self._all("PRAGMA application_id")
        ((version,),) = self._all("PRAGMA user_version")
        if application != files.APPLICATION_ID or version < 1:
            raise files.damaged(self.path, "it is a database, but not a ledger")
        if version > files.VERSION:
            raise errors.LedgerNewer(
                f"the ledger {self.path} was written by a later flux-lora (format {version}, this one reads"
                f" {files.VERSION})",
                "Upgrade flux-lora: pip install --upgrade flux-lora-cli",
            )

    def _check_log(self) -> None:
        self._all("BEGIN IMMEDIATE")  # nobody writes during the look
        try:
            with files.translated(self.path), contextlib.closing(connect(self._opened)) as second:
                ((_, frames, _),) = second.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # Below zero: another process folds the log, so it is in use, and was whole when that began.
            if frames >= 0 and lost_commits(self._opened, frames):
                raise files.damaged(self.path, "its log has lost commits")
        finally:
            self._all("ROLLBACK")

    def _check_content(self) -> None:
        found = self._all("PRAGMA integrity_check(1)")
        if found != [("ok",)]:
            raise files.damaged(self.path, " ".join(str(found[0][0]).split())[:200])

    def _count(self) -> int:
        value = self.meta("jobs") or "0"
        if not value.isdecimal():
            raise files.damaged(self.path, "the number of jobs cannot be read")
        return int(value)

    def _all(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with files.translated(self.path):
            return self._database.execute(query, values).fetchall()

    def _records(self, query: str, values: tuple[object, ...] = ()) -> Iterator[JobRecord]:
        try:
            for row in self._all(query, values):
                yield from_row(row)
        except RowError as error:
            raise files.damaged(self.path, str(error)) from error
