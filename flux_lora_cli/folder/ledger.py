"""The ledger: the durable truth about jobs, in one SQLite file with a rollback journal.

A commit is durable when ``save`` returns. What a kill or a power cut leaves is recovered by SQLite; what a bad disk, a
careless copy or a stranger leaves is noticed (structure, indexes, schema, a checksum on each row, the number of rows)
and refused, for a ledger that forgets is a job paid twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from flux_lora_cli.errors import FolderBusy, FolderError, NotFoundError, OtherService
from flux_lora_cli.folder import ledgerfile
from flux_lora_cli.folder.entries import dumps, entry, private
from flux_lora_cli.folder.files import OTHER_FOLDER, moved
from flux_lora_cli.folder.holder import Holder
from flux_lora_cli.folder.ledgerfile import COLUMNS, LEDGER_NAME, SELECT, UPSERT, Row, checksum, damaged, translated
from flux_lora_cli.folder.manifest import tally
from flux_lora_cli.folder.reading import EntryError, add_private, loads, record_of
from flux_lora_cli.folder.records import JobRecord, iso
from flux_lora_cli.text import printable

__all__ = ["LEDGER_NAME", "Ledger", "Row"]

#: Attempts of ``ledgerfile.BUSY_SECONDS`` each while another process keeps the ledger locked.
_OPEN_ATTEMPTS, _SAVE_ATTEMPTS = 2, 5
_CHUNK = 256
_ENDED = ("completed", "failed", "skipped")
_PRUNE_AT_ONCE = 500

T = TypeVar("T")


class Ledger:
    """A ledger that is open. ``open`` makes one; safe to use from several threads.

    Attributes:
        created: there was none before.
        service: origin of the base URL, or ``sandbox``.
        created_at: when its folder was made; ledger and manifest of one folder agree in it.
    """

    @classmethod
    def open(
        cls,
        path: Path,
        service: str | None,
        *,
        create: bool = True,
        read_only: bool = False,
        created_at: str | None = None,
        max_records: int | None = None,
        way_out: str = OTHER_FOLDER,
    ) -> Ledger:
        """Open the ledger in a file.

        Args:
            path: its folder exists.
            service: whom it has to belong to; None for any (only one that is there).
            create: make one where there is none.
            created_at: for one that is made here; now where it is None.
            max_records: beyond so many, the oldest jobs that have ended are forgotten.
            way_out: what a message about a file that cannot be used proposes.

        Raises:
            NotFoundError: no ledger, and not to be made.
            OtherService, LedgerDamaged, LedgerNewer, DiskFull, FolderError: it cannot be used.
        """
        created = not ledgerfile.is_there(path, way_out)
        if created:
            if not create or read_only or service is None:
                raise NotFoundError(f"there is no {path.name} in {printable(str(path.parent))}")
            now = created_at or iso(datetime.now(UTC))
            ledgerfile.create(path, {"service": service, "created_at": now, "jobs": "0"}, way_out)
        with translated(path, way_out):
            database = _retried(lambda: ledgerfile.connect(path, read_only=read_only), _OPEN_ATTEMPTS)
        try:
            with translated(path, way_out):
                ledger = cls(path, database, created=created, max_records=max_records, way_out=way_out)
        except BaseException:
            database.close()
            raise
        ledgerfile.note_open(ledger._identity, 1)
        if service is not None and ledger.service != service:
            ledger.close()
            raise OtherService(
                f"{printable(str(path.parent))} belongs to {printable(ledger.service)}, and this run is for {service}",
                "Choose another folder with -o: the jobs of a folder all come from one service.",
            )
        return ledger

    def __init__(
        self, path: Path, database: sqlite3.Connection, *, created: bool, max_records: int | None, way_out: str
    ) -> None:
        self.path = path
        self.created = created
        self._database = database
        self._max_records = max_records
        self._way_out = way_out
        self._lock = threading.RLock()
        self._holder: Holder | None = None
        self._closed = False
        self._seen: dict[str, int] = {}  # checksums of the rows that were read or written here, by key
        info = path.stat()
        self._identity = info.st_dev, info.st_ino
        self.service = self.meta("service") or ""
        self.created_at = self.meta("created_at") or ""
        # In one statement, for another process may be writing.
        counts = self._all("SELECT (SELECT COUNT(*) FROM jobs), value FROM meta WHERE name = 'jobs'")
        if not self.service or not self.created_at or not counts or str(counts[0][0]) != counts[0][1]:
            raise damaged(path, "rows are missing")

    # ---- reading ----

    def records(self) -> Iterator[JobRecord]:
        """Every record, in order. Raises LedgerDamaged."""
        for row in self._rows():
            yield self._record(row)

    def find(self, key_or_task_id: str) -> JobRecord | None:
        """The record of a key or of a job's present task. Raises LedgerDamaged."""
        rows = self._all(f"{SELECT} WHERE key = ?", (key_or_task_id,)) or self._all(
            f"{SELECT} WHERE task_id = ? ORDER BY n DESC LIMIT 1", (key_or_task_id,)
        )
        return self._record(Row(*rows[0])) if rows else None

    def recent(self, number: int) -> list[JobRecord]:
        """The records that were added last, newest first. Raises LedgerDamaged."""
        return [self._record(Row(*row)) for row in self._all(f"{SELECT} ORDER BY n DESC LIMIT ?", (number,))]

    def task_ids(self) -> set[str]:
        """Every task that it has claimed, those of earlier attempts too."""
        found: set[str] = set()
        for task_id, past in self._all("SELECT task_id, past_tasks FROM jobs"):
            found.update(past.split())
            if task_id is not None:
                found.add(task_id)
        return found

    def entries(self) -> Iterator[tuple[str, str]]:
        """The tally and the manifest's entry of every record, in order, a few at a time. Raises LedgerDamaged."""
        for row in self._rows():
            self._verify(row)
            yield row.tally, row.entry

    def meta(self, name: str) -> str | None:
        """A word about the folder. Raises LedgerDamaged."""
        rows = self._all("SELECT value, checksum FROM meta WHERE name = ?", (name,))
        if not rows:
            return None
        if rows[0][1] != checksum(name, rows[0][0]):
            raise damaged(self.path, "a row does not match its checksum")
        return str(rows[0][0])

    @property
    def holder(self) -> Holder | None:
        """The batch that holds the folder, or held it when it was killed."""
        return Holder.read(self.meta("holder"))

    def forgotten_cost(self, month: str) -> Decimal:
        """USD of the records of a month (``2025-11``) that were forgotten (``max_records``)."""
        return Decimal(self.meta(f"forgotten {month}") or 0)

    # ---- writing ----

    def row(self, record: JobRecord) -> Row:
        """The record as it is now; touches no file."""
        head = (
            record.key,
            record.order,
            record.task_id,
            " ".join(past.task_id for past in record.history if past.task_id),
            tally(record),
        )
        bodies = dumps(entry(record)), dumps(private(record))
        return Row(*head, checksum(*head, *bodies), *bodies)

    def save(self, rows: Iterable[Row]) -> None:
        """Write rows, new or changed, in one transaction; durable on return.

        Without ``take_hold``, a row that another process has changed since it was read here stays as that one left it.

        Raises:
            FolderBusy: another batch took the folder over.
            FolderMoved: the file is not where it was; what was written is in the moved one.
            DiskFull, FolderError, LedgerDamaged: nothing was written.
        """
        wanted = {row.key: row for row in rows}
        with self._transaction():
            self._check_hold()
            known = self._checksums(wanted)
            if self._holder is None:
                wanted = {k: row for k, row in wanted.items() if self._seen.get(k, known.get(k)) == known.get(k)}
            self._database.executemany(UPSERT, wanted.values())
            if added := len(wanted.keys() - known.keys()):
                count = int(self.meta("jobs") or 0) + added
                self._put("jobs", str(count - self._forget_oldest(count)))
        if self._holder is None:
            self._seen.update((key, row.checksum) for key, row in wanted.items())
        self.check_place()

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word, durably. Raises as ``save``."""
        with self._transaction():
            self._check_hold()
            self._put(name, value)

    def take_hold(self) -> None:
        """Become the one batch of this folder. Raises FolderBusy: another is at work on it."""
        with self._transaction(_OPEN_ATTEMPTS):
            holder = self.holder
            if holder is not None and holder.alive:
                raise holder.busy(self.path.parent)
            mine = Holder.here(iso(datetime.now(UTC)))
            self._put("holder", mine.text())
        self._holder = mine

    def check_place(self) -> None:
        """Raise FolderMoved unless the ledger is still where it was opened."""
        try:
            info = self.path.stat()
        except OSError:
            raise moved(self.path.parent) from None
        if (info.st_dev, info.st_ino) != self._identity:
            raise moved(self.path.parent)

    def close(self) -> None:
        """Let go of the folder, and leave no side file. Never raises: where it cannot, the next opening tidies up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._holder is not None:
                with contextlib.suppress(FolderError, FolderBusy), self._transaction(1):
                    self._check_hold()
                    self._database.execute("DELETE FROM meta WHERE name = 'holder'")
                self._holder = None
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("PRAGMA journal_mode = DELETE").fetchall()  # removes the empty journal
            self._database.close()
            ledgerfile.note_open(self._identity, -1)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ----

    @contextlib.contextmanager
    def _transaction(self, attempts: int = _SAVE_ATTEMPTS) -> Iterator[None]:
        with self._lock, translated(self.path, self._way_out):
            _retried(lambda: self._database.execute("BEGIN IMMEDIATE"), attempts)
            try:
                yield
                _retried(lambda: self._database.execute("COMMIT"), _SAVE_ATTEMPTS)
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _check_hold(self) -> None:
        if self._holder is None:
            return
        holder = self.holder
        if holder is None or holder.token != self._holder.token:
            raise (holder or self._holder).busy(self.path.parent)

    def _checksums(self, keys: Iterable[str]) -> dict[str, int]:
        listed = list(keys)
        found: dict[str, int] = {}
        for start in range(0, len(listed), _CHUNK):
            some = listed[start : start + _CHUNK]
            marks = ", ".join("?" * len(some))
            found.update(self._database.execute(f"SELECT key, checksum FROM jobs WHERE key IN ({marks})", some))  # noqa: S608
        return found

    def _forget_oldest(self, count: int) -> int:
        """Keep a ledger without an end in bounds, and what was paid as a sum per month; how many were forgotten."""
        if self._max_records is None or count < self._max_records + _PRUNE_AT_ONCE:
            return 0
        states = " OR ".join(f"tally LIKE '{state} %'" for state in _ENDED)
        oldest = self._database.execute(
            f"SELECT n, tally, private FROM jobs WHERE {states} ORDER BY n LIMIT ?",  # noqa: S608
            (count - self._max_records,),
        ).fetchall()
        for _, tally_, private_ in oldest:
            cost, intent_at = tally_.rpartition(" ")[2], loads(private_).get("intent_at")
            if cost not in ("-", "0") and intent_at:
                month = f"forgotten {intent_at[:7]}"
                self._put(month, str(Decimal(self.meta(month) or 0) + Decimal(cost)))
        self._database.executemany("DELETE FROM jobs WHERE n = ?", [(n,) for n, *_ in oldest])
        return len(oldest)

    def _put(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, checksum(name, value)))

    def _all(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock, translated(self.path, self._way_out):
            return _retried(lambda: self._database.execute(query, values).fetchall(), _OPEN_ATTEMPTS)

    def _rows(self) -> Iterator[Row]:
        numbers = [n for (n,) in self._all("SELECT n FROM jobs ORDER BY position, n")]
        for start in range(0, len(numbers), _CHUNK):
            some = numbers[start : start + _CHUNK]
            marks = ", ".join("?" * len(some))
            query = f"SELECT n, {COLUMNS} FROM jobs WHERE n IN ({marks})"  # noqa: S608
            found = {row[0]: row[1:] for row in self._all(query, tuple(some))}
            for n in some:
                if n in found:  # forgotten meanwhile, otherwise
                    yield Row(*found[n])

    def _verify(self, row: Row) -> None:
        if row.checksum != checksum(*row[:5], row.entry, row.private):
            raise damaged(self.path, "a row does not match its checksum")

    def _record(self, row: Row) -> JobRecord:
        self._verify(row)
        try:
            record = record_of(loads(row.entry), "a row", row.position, row.key)
            add_private(record, loads(row.private), "a row")
        except EntryError as error:
            raise damaged(self.path, str(error)) from None
        if record.task_id != row.task_id:
            raise damaged(self.path, "a row contradicts itself")
        if self._holder is None:
            self._seen[row.key] = row.checksum
        return record


def _retried(action: Callable[[], T], attempts: int) -> T:
    """Do what another process may block; between two attempts Ctrl-C is heard. Raises sqlite3.Error."""
    for left in reversed(range(attempts)):
        try:
            return action()
        except sqlite3.OperationalError as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) != sqlite3.SQLITE_BUSY or not left:
                raise
    raise AssertionError("unreachable")
