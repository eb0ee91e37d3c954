"""The ledger: the durable truth about a folder's jobs, in one SQLite file.

A commit is one append to the log and one fsync (WAL, ``synchronous=FULL``), so records go in groups.
What a power cut or a kill leaves is recovered by SQLite; what a bad disk or a careless copy leaves is
noticed (page structure, indexes, a checksum on every row, rows that are missing, commits that the log
lost) and refused, for a ledger that forgets is a job paid twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

from flux_lora_cli import errors
from flux_lora_cli.adapters import ledger_files as files
from flux_lora_cli.adapters.folder_lock import write_lock
from flux_lora_cli.adapters.ledger_reading import ReadLedger, connect
from flux_lora_cli.adapters.ledger_rows import (
    ROWS_AT_ONCE,
    SCHEMA,
    SELECT,
    Row,
    RowError,
    from_row,
    meta_checksum,
    to_row,
    upsert,
)
from flux_lora_cli.domain.records import JobRecord

LEDGER_NAME = files.LEDGER_NAME

#: Ledgers that this process has open. Opening and closing such a file in any other way drops SQLite's
#: locks on it (POSIX), and another process could take the log for nobody's.
_in_use: Counter[Path] = Counter()


class Ledger(ReadLedger):
    """A ledger open for reading and writing. ``open`` makes one.

    Attributes:
        created: there was none, so nothing is known yet: see whether a manifest can rebuild it.
        service: origin of the base URL, or ``sandbox``, that the folder belongs to.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, created: bool) -> None:
        super().__init__(path, database, path)
        self.created = created
        self._closed = False
        self._revision = self._newest_revision()
        self._seen = self.data_version()
        self._foreign_from = self._revision
        self._own: set[int] = set()
        self._last_inserted = 0

    def _check_log(self) -> None:
        self._all("PRAGMA journal_mode = WAL")  # after the check of the format, for it writes
        super()._check_log()

    @classmethod
    def open(cls, folder: Path, service: str, *, create: bool = True) -> Ledger:
        """Open the ledger of a folder.

        Args:
            folder: it is made where it is missing, if ``create``.
            service: whom the folder has to belong to.
            create: make a ledger where there is none.

        Raises:
            NotFoundError: no ledger, and not to be made.
            OtherService, LedgerDamaged, LedgerNewer, DiskFull, FolderError: it cannot be used.
        """
        path = folder / LEDGER_NAME
        created = not _in_use[path.resolve()] and not files.check_file(path)
        if created:
            if not create:
                raise errors.NotFoundError(f"{folder} has no ledger")
            created = _create(path, service)
        with files.translated(path):
            database = connect(path)
            try:
                ledger = cls(path, database, created)
                if ledger.service != service:
                    raise other_service(folder, ledger.service, service)
            except BaseException:
                database.close()
                raise
        _in_use[path.resolve()] += 1
        return ledger

    @staticmethod
    @contextlib.contextmanager
    def snapshot(folder: Path) -> Iterator[ReadLedger | None]:
        """Read a ledger as it is now, also while it is being written; None where there is none.

        Takes no lock and leaves nothing in the folder.
        """
        path = folder / LEDGER_NAME
        if _in_use[path.resolve()]:
            with contextlib.closing(connect(path)) as database:
                yield ReadLedger(path, database, path)
            return
        if not files.check_file(path):
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="flux-lora-") as private:
            copy = Path(private) / LEDGER_NAME
            files.copy_consistent(path, copy)
            with contextlib.closing(connect(copy)) as database:
                yield ReadLedger(path, database, copy)

    def save(self, records: Iterable[JobRecord], meta: Mapping[str, str] | None = None) -> None:
        """Write records, new or changed, in one transaction that is durable on return; ``meta`` with them.

        Raises DiskFull, FolderError, LedgerDamaged; then nothing of it was written.
        """
        with self._transaction():
            revision = self._next_revision()
            last = self._upsert(to_row(record, revision) for record in records)
            if last != self._last_inserted:
                self._put("jobs", str(self._last_row()))  # rows are numbered without a gap
            for name, value in (meta or {}).items():
                self._put(name, value)
        self._revision, self._last_inserted = revision, last
        self._own.add(revision)
        self._tasks = None

    def _upsert(self, rows: Iterator[Row]) -> int:
        """Write rows; the number of the last that this connection inserted, 0 for none."""
        last = self._last_inserted
        while some := list(islice(rows, ROWS_AT_ONCE)):
            cursor = self._database.execute(upsert(len(some)), list(chain.from_iterable(some)))
            last = cursor.lastrowid or 0
        return last

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word about the folder, durably."""
        with self._transaction():
            self._put(name, value)

    def data_version(self) -> int:
        """Return a number that changes when another connection has written."""
        ((version,),) = self._all("PRAGMA data_version")
        return int(version)

    def foreign_changes(self) -> list[JobRecord]:
        """Return the records that others wrote since the last call, or since opening; cheap if none did."""
        version = self.data_version()
        since, own = self._foreign_from, self._own
        if version == self._seen:
            self._foreign_from, self._own = self._revision, set()
            return []
        self._tasks = None
        found: list[JobRecord] = []
        newest = self._revision
        rows = self._all(SELECT + " WHERE revision > ? ORDER BY n", (since,))
        try:
            for row in rows:
                newest = max(newest, int(row[4]))
                if row[4] not in own:
                    found.append(from_row(row))
        except RowError as error:
            raise files.damaged(self.path, str(error)) from error
        self._seen, self._foreign_from, self._own, self._revision = version, newest, set(), newest
        return found

    def close(self) -> None:
        """Fold the log into the file and remove the side files, unless another process still uses them.

        Never raises: where the disk is full, the log stays and holds everything.
        """
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        if not self._closed:
            _in_use[self.path.resolve()] -= 1
            self._closed = True

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with files.translated(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _next_revision(self) -> int:
        # Within the transaction: nobody else can write now, and what they wrote before shows in data_version.
        newest = self._revision
        if self.data_version() != self._seen:
            newest = max(newest, self._newest_revision())
        return newest + 1

    def _newest_revision(self) -> int:
        ((found,),) = self._all("SELECT IFNULL(MAX(revision), 0) FROM jobs")
        return int(found)

    def _last_row(self) -> int:
        ((last,),) = self._all("SELECT IFNULL(MAX(n), 0) FROM jobs")
        return int(last)

    def _put(self, name: str, value: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, meta_checksum(name, value))
        )


def claimed_task_ids(folder: Path) -> set[str]:
    """Return the ids of the tasks in a folder's ledger; empty where it has none. Leaves nothing behind."""
    with Ledger.snapshot(folder) as ledger:
        return set() if ledger is None else ledger.claimed_task_ids()


def other_service(folder: Path, owner: str, wanted: str) -> errors.OtherService:
    """Return the error for a folder of another service."""
    return errors.OtherService(
        f"{folder} belongs to {owner}, and this run is for {wanted}",
        "Choose another folder with -o: a folder's jobs all come from one service.",
    )


def _create(path: Path, service: str) -> bool:
    with files.translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with write_lock(path.parent):
        if files.check_file(path):
            return False  # another process was faster
        files.create(path, SCHEMA, (("service", service, meta_checksum("service", service)),))
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    return True
