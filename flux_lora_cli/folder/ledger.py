"""The ledger: the durable truth about jobs, in one SQLite file with a rollback journal.

A commit is durable when ``save`` returns. What a kill or a power cut leaves is recovered by SQLite; what a bad disk, a
careless copy or a stranger leaves is noticed (structure, indexes, schema, a checksum on each row, the number of rows)
and refused, for a ledger that forgets is a job paid twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from flux_lora_cli.errors import FolderBusy, FolderError, NotFoundError, OtherService
from flux_lora_cli.folder import files, ledgerfile
from flux_lora_cli.folder.entries import EntryError, loads
from flux_lora_cli.folder.ledgerfile import COLUMNS, LEDGER_NAME, Row, checksum, damaged, translated
from flux_lora_cli.folder.manifest import Manifest, tally
from flux_lora_cli.folder.records import JobRecord, add_private, entry, iso, private, record_of
from flux_lora_cli.text import printable

__all__ = ["LEDGER_NAME", "Ledger", "Row"]

#: Attempts of ``ledgerfile.BUSY_SECONDS`` each while another process keeps the ledger locked.
_OPEN_ATTEMPTS, _SAVE_ATTEMPTS = 2, 5
_CHUNK = 256
_SELECT = f"SELECT {COLUMNS} FROM jobs"  # noqa: S608 - constants, here and below
_UPSERT = f"""INSERT INTO jobs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[1:])}"""  # noqa: S608
_TASK_IDS = """SELECT task_id FROM jobs
UNION SELECT json_extract(value, '$.task_id') FROM jobs, json_each(entry, '$.history')"""
_FORGET = """DELETE FROM jobs WHERE n IN (SELECT n FROM jobs
WHERE (tally LIKE 'completed %' OR tally LIKE 'failed %' OR tally LIKE 'skipped %')
AND coalesce(json_extract(entry, '$.submitted_at'), '') < ? ORDER BY n LIMIT ?)"""

T = TypeVar("T")


class Ledger:
    """A ledger that is open. ``open`` makes one; safe to use from several threads.

    Attributes:
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
    ) -> Ledger:
        """Open the ledger in a file, whose folder exists.

        Args:
            service: whom it has to belong to; None for any (only one that is there).
            create: make one where there is none.
            created_at: for one that is made here; now where it is None.

        Raises NotFoundError: no ledger, and not to be made; FolderError and its leaves: it cannot be used.
        """
        if not ledgerfile.is_there(path):
            if not create or read_only or service is None:
                raise NotFoundError(f"there is no {path.name} in {printable(str(path.parent))}")
            created_at = created_at or iso(datetime.now(UTC))
            ledgerfile.create(path, {"service": service, "created_at": created_at, "jobs": "0"})
        with translated(path):
            database = _retried(lambda: ledgerfile.connect(path, read_only=read_only), _OPEN_ATTEMPTS)
            try:
                ledger = cls(path, database)
                if service not in (None, ledger.service):
                    raise of_another_service(path.parent, ledger.service, str(service))
            except BaseException:
                database.close()
                raise
        return ledger

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._database = database
        self._lock = threading.RLock()
        self._holder: str | None = None
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
        return map(self._record, self._rows())

    def find(self, key_or_task_id: str) -> JobRecord | None:
        """The record of a key or of a job's present task. Raises LedgerDamaged."""
        for wanted in ("key = ?", "task_id = ? ORDER BY n DESC LIMIT 1"):
            for row in self._all(f"{_SELECT} WHERE {wanted}", (key_or_task_id,)):
                return self._record(Row(*row))
        return None

    def recent(self, number: int) -> list[JobRecord]:
        """The records that were added last, newest first. Raises LedgerDamaged."""
        return [self._record(Row(*row)) for row in self._all(f"{_SELECT} ORDER BY n DESC LIMIT ?", (number,))]

    def task_ids(self) -> set[str]:
        """Every task that it has claimed, those of earlier attempts too."""
        return {task for (task,) in self._all(_TASK_IDS) if task is not None}

    def entries(self) -> Iterator[tuple[str, str]]:
        """The tally and the manifest's entry of every record, in order, a few at a time. Raises LedgerDamaged."""
        for row in self._rows():
            self._verify(row)
            yield row.tally, row.entry

    def meta(self, name: str) -> str | None:
        """A word about the folder. Raises LedgerDamaged."""
        for value, kept in self._all("SELECT value, checksum FROM meta WHERE name = ?", (name,)):
            if kept != checksum(name, value):
                raise damaged(self.path, "a row does not match its checksum")
            return str(value)
        return None

    def head(self) -> Manifest:
        """What a manifest says besides its jobs."""
        sources = json.loads(self.meta("sources") or "{}")
        return Manifest(self.service, self.service == "sandbox", self.created_at, iso(datetime.now(UTC)), sources)

    def add_sources(self, earlier: Mapping[str, str], ours: Mapping[str, str]) -> None:
        """Note the preset files of this run, and of earlier ones where they are not known. Raises as ``save``."""
        known = self.head().sources
        merged = {**earlier, **known, **ours}
        if merged != known:
            self.set_meta("sources", json.dumps(merged))

    def version(self) -> int:
        """A number that another one follows when another process writes."""
        return int(self._all("PRAGMA data_version")[0][0])

    # ---- writing ----

    def row(self, record: JobRecord) -> Row:
        """The record as it is now; touches no file."""
        head = record.key, record.order, record.task_id, tally(record)
        bodies = entry(record), private(record)
        return Row(*head, checksum(*head, *bodies), *bodies)

    def save(self, rows: Iterable[Row]) -> None:
        """Write rows, new or changed, in one transaction; durable on return.

        Without ``take_hold``, a row that another process has changed since it was read here stays as that one left it.

        Raises FolderBusy: another batch took the folder over; FolderMoved: the file is not where it was, and what was
        written is in the moved one; FolderError: nothing was written.
        """
        wanted = {row.key: row for row in rows}
        with self._transaction():
            known = dict(self._chunks("SELECT key, checksum FROM jobs WHERE key IN", list(wanted)))
            if self._holder is None:
                wanted = {k: row for k, row in wanted.items() if self._seen.get(k, known.get(k)) == known.get(k)}
            self._database.executemany(_UPSERT, wanted.values())
            self._put("jobs", str(int(self.meta("jobs") or 0) + len(wanted.keys() - known.keys())))
        if self._holder is None:
            self._seen.update((key, row.checksum) for key, row in wanted.items())
        self.check_place()

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word, durably. Raises as ``save``."""
        with self._transaction():
            self._put(name, value)

    def forget(self, keep: int, before: str) -> None:
        """Remove the oldest records that have ended and were submitted before a time (ISO), if there are over ``keep``.

        Raises as ``save``.
        """
        if int(self.meta("jobs") or 0) <= keep:
            return
        with self._transaction():
            count = int(self.meta("jobs") or 0)
            removed = self._database.execute(_FORGET, (before, count - keep)).rowcount
            self._put("jobs", str(count - removed))

    def take_hold(self) -> None:
        """Become the one batch of this folder: whoever was it writes no more. Raises as ``save``."""
        holder = (
            f"{secrets.token_hex(16)} process {os.getpid()} on {socket.gethostname()}, since {iso(datetime.now(UTC))}"
        )
        with self._transaction():
            self._put("holder", holder)
        self._holder = holder

    def busy(self) -> FolderBusy:
        """The error for whoever else wants the folder."""
        holder = (self.meta("holder") or "").partition(" ")[2] or "another process"
        return files.busy(self.path.parent, holder[:200])

    def check_place(self) -> None:
        """Raise FolderMoved unless the ledger is still where it was opened."""
        with translated(self.path):
            info = self.path.stat()
        if (info.st_dev, info.st_ino) != self._identity:
            raise files.moved(self.path.parent)

    def close(self) -> None:
        """Let go of the folder, and leave no side file. Never raises: where it cannot, the next opening tidies up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._holder is not None:
                with contextlib.suppress(FolderError, FolderBusy), self._transaction(1):
                    self._database.execute("DELETE FROM meta WHERE name = 'holder'")
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("PRAGMA journal_mode = DELETE").fetchall()  # removes the empty journal
            self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ----

    @contextlib.contextmanager
    def _transaction(self, attempts: int = _SAVE_ATTEMPTS) -> Iterator[None]:
        """A transaction of whoever holds the folder, if this process ever did. Raises FolderBusy."""
        with self._lock, translated(self.path):
            _retried(lambda: self._database.execute("BEGIN IMMEDIATE"), attempts)
            try:
                if self._holder is not None and self.meta("holder") != self._holder:
                    raise self.busy()
                yield
                _retried(lambda: self._database.execute("COMMIT"), _SAVE_ATTEMPTS)
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _put(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, checksum(name, value)))

    def _all(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, translated(self.path):
            return _retried(lambda: self._database.execute(query, values).fetchall(), _OPEN_ATTEMPTS)

    def _chunks(self, query: str, values: list[Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that ends in ``IN``, a few values at a time."""
        for start in range(0, len(values), _CHUNK):
            some = values[start : start + _CHUNK]
            yield from self._all(f"{query} ({', '.join('?' * len(some))}) ORDER BY position, n", some)

    def _rows(self) -> Iterator[Row]:
        numbers = [n for (n,) in self._all("SELECT n FROM jobs ORDER BY position, n")]
        return (Row(*row) for row in self._chunks(f"{_SELECT} WHERE n IN", numbers))

    def _verify(self, row: Row) -> None:
        if row.checksum != checksum(*row[:4], row.entry, row.private):
            raise damaged(self.path, "a row does not match its checksum")

    def _record(self, row: Row) -> JobRecord:
        self._verify(row)
        try:
            record = record_of(loads(row.entry), "a row", row.position, row.key)
            add_private(record, loads(row.private), "a row")
        except EntryError as error:
            raise damaged(self.path, str(error)) from None
        if self._holder is None:
            self._seen[row.key] = row.checksum
        return record


def read_ledger(folder: Path) -> Manifest:
    """What the ledger of a folder holds, as its manifest shows it. Raises as ``Ledger.open``."""
    with Ledger.open(folder / LEDGER_NAME, None, create=False, read_only=True) as ledger:
        manifest = ledger.head()
        manifest.records.extend(ledger.records())
    return manifest


def of_another_service(folder: Path, owner: str, wanted: str) -> OtherService:
    """The error for a folder of another service."""
    return OtherService(
        f"{printable(str(folder))} belongs to {printable(owner)}, and this run is for {wanted}",
        "Choose another folder with -o: the jobs of a folder all come from one service.",
    )


def _retried(action: Callable[[], T], attempts: int) -> T:
    """Do what another process may block; between two attempts Ctrl-C is heard. Raises sqlite3.Error."""
    for left in reversed(range(attempts)):
        try:
            return action()
        except sqlite3.OperationalError as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) != sqlite3.SQLITE_BUSY or not left:
                raise
    raise AssertionError("unreachable")
