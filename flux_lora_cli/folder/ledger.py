"""The ledger: the durable truth about jobs, in one SQLite file with a rollback journal.

A commit is durable when ``save`` returns. What a kill or a power cut leaves is recovered by SQLite; what a bad disk, a
careless copy or a stranger leaves is noticed (structure, indexes, schema, a checksum on each row)
and refused, for a ledger that forgets is a job paid twice.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from flux_lora_cli.errors import FolderBusy, FolderError, NotFoundError, OtherFolder, OtherService
from flux_lora_cli.folder import files, ledgerfile
from flux_lora_cli.folder.entries import EntryError, loads
from flux_lora_cli.folder.ledgerfile import LEDGER_NAME, checksum, damaged, translated
from flux_lora_cli.folder.manifest import Manifest, tally
from flux_lora_cli.folder.records import JobRecord, entry_and_rest, iso, of_row
from flux_lora_cli.text import printable

__all__ = ["LEDGER_NAME", "Ledger", "Row"]

_CHUNK = 256


class Row(NamedTuple):
    """A record as it was when ``Ledger.row`` was called, ready to be saved from any thread."""

    key: str
    position: int
    task_id: str | None
    tally: str
    entry: str
    rest: str
    checksum: int


_COLUMNS = ", ".join(Row._fields)
_SELECT = f"SELECT {_COLUMNS} FROM jobs"  # noqa: S608 - constants, here and below
_SELECT_SOME = f"{_SELECT} WHERE n IN (SELECT value FROM json_each(?)) ORDER BY position, n"  # noqa: S608
_UPSERT = f"""INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in Row._fields[1:])}"""  # noqa: S608
_TASK_IDS = """SELECT task_id FROM jobs
UNION SELECT json_extract(value, '$.task_id') FROM jobs, json_each(entry, '$.history')"""
_FORGET = """DELETE FROM jobs WHERE n IN (SELECT n FROM jobs
WHERE (tally LIKE 'completed %' OR tally LIKE 'failed %' OR tally LIKE 'skipped %')
AND coalesce(json_extract(entry, '$.submitted_at'), '') < ?
ORDER BY n LIMIT max(0, (SELECT COUNT(*) FROM jobs) - ?))"""


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
            created_at: of the manifest beside it, with which it has to agree.

        Raises NotFoundError: no ledger, and not to be made; FolderError and its leaves: it cannot be used.
        """
        if not ledgerfile.is_there(path):
            if not create or read_only or service is None:
                raise NotFoundError(f"there is no {path.name} in {path.parent}")
            made = {"service": service, "created_at": created_at or iso(datetime.now(UTC))}
            ledgerfile.create(path, made)
        with translated(path):
            database = ledgerfile.connect(path, read_only=read_only)
            try:
                ledger = cls(path, database)
                if service not in (None, ledger.service):
                    raise of_another_service(path.parent, ledger.service, str(service))
                if created_at not in (None, ledger.created_at):
                    raise OtherFolder(
                        f"the ledger and the manifest of {path.parent} belong to different folders",
                        f"Put back {path.name} or manifest.json, whichever is foreign, or choose another with -o.",
                    )
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
        if not self.service or not self.created_at:
            raise damaged(path, "rows are missing")

    # ---- reading ----

    def records(self) -> Iterator[JobRecord]:
        """Every record, in order. Raises LedgerDamaged."""
        return map(self._record, self._rows())

    def find(self, key_or_task_id: str) -> JobRecord | None:
        """The record of a key or of a job's present task. Raises LedgerDamaged."""
        for wanted in ("key = ?", "task_id = ? ORDER BY n DESC"):
            for row in self._all(f"{_SELECT} WHERE {wanted} LIMIT 1", key_or_task_id):
                return self._record(Row(*row))
        return None

    def recent(self, number: int) -> list[JobRecord]:
        """The records that were added last, newest first. Raises LedgerDamaged."""
        return [self._record(Row(*row)) for row in self._all(f"{_SELECT} ORDER BY n DESC LIMIT ?", number)]

    def task_ids(self) -> set[str]:
        """Every task that it has claimed, those of earlier attempts too."""
        return {task for (task,) in self._all(_TASK_IDS) if task is not None}

    def entries(self) -> Iterator[tuple[str, str]]:
        """The tally and the manifest's entry of every record, in order, a few at a time. Raises LedgerDamaged."""
        return ((row.tally, row.entry) for row in self._rows())

    def meta(self, name: str) -> str | None:
        """A word about the folder. Raises LedgerDamaged."""
        for value, kept in self._all("SELECT value, checksum FROM meta WHERE name = ?", name):
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
        cost = record.cost
        entry, rest = entry_and_rest(record, cost)
        values = record.key, record.order, record.task_id, tally(record, cost), entry, rest
        return Row(*values, checksum(*values))

    def save(self, rows: Iterable[Row]) -> None:
        """Write rows, new or changed, in one transaction; durable on return.

        Without ``take_hold``, a row that another process has changed since it was read here stays as that one left it.

        Raises FolderBusy: another batch took the folder over; FolderMoved: the file is not where it was, and what was
        written is in the moved one; FolderError: nothing was written.
        """
        written: dict[str, int] = {}
        with self._transaction():
            for row in rows:
                known = self._all("SELECT checksum FROM jobs WHERE key = ?", row.key)
                seen = written.get(row.key, self._seen.get(row.key))
                if self._holder is None and known and seen not in (None, known[0][0]):
                    continue
                self._database.execute(_UPSERT, row)
                written[row.key] = row.checksum
        if self._holder is None:
            self._seen.update(written)
        self.check_place()

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word, durably. Raises as ``save``."""
        with self._transaction():
            self._put(name, value)

    def forget(self, keep: int, before: str) -> None:
        """Remove the oldest records that have ended and were submitted before a time (ISO), if there are over ``keep``.

        Raises as ``save``.
        """
        with self._transaction():
            self._database.execute(_FORGET, (before, keep))

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
            self._database.execute("PRAGMA busy_timeout = 900")
            if self._holder is not None:
                with suppress(FolderError, FolderBusy), self._transaction():
                    self._database.execute("DELETE FROM meta WHERE name = 'holder'")
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA journal_mode = DELETE").fetchall()  # removes the empty journal
            self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ----

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction of whoever holds the folder, if this process ever did. Raises FolderBusy."""
        with self._lock, translated(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if self._holder is not None and self.meta("holder") != self._holder:
                    raise self.busy()
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _put(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, checksum(name, value)))

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, translated(self.path):
            return self._database.execute(query, values).fetchall()

    def _rows(self) -> Iterator[Row]:
        """Every row, in order, a few at a time. Raises LedgerDamaged."""
        numbers = [n for (n,) in self._all("SELECT n FROM jobs ORDER BY position, n")]
        for start in range(0, len(numbers), _CHUNK):
            some = json.dumps(numbers[start : start + _CHUNK])
            yield from (self._checked(Row(*row)) for row in self._all(_SELECT_SOME, some))

    def _checked(self, row: Row) -> Row:
        if row.checksum != checksum(*row[:-1]):
            raise damaged(self.path, "a row does not match its checksum")
        return row

    def _record(self, row: Row) -> JobRecord:
        self._checked(row)
        try:
            record = of_row(loads(row.entry), loads(row.rest), row.key, row.position)
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
        f"{folder} belongs to {printable(owner)}, and this run is for {wanted}",
        "Choose another folder with -o: the jobs of a folder all come from one service.",
    )
