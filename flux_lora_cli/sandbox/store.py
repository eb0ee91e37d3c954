"""What the sandbox remembers: tasks, uploads, the bill. SQLite, in memory or in a file that processes share.

A task's life is decided when it is accepted: when it starts, when it is finished, how it ends. Its state at any moment
follows from the clock alone, in whichever process is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

NANOS: Final = 1_000_000_000
"""Amounts are kept in billionths of a dollar."""
KEPT_SECONDS: Final = 7 * 24 * 3600
"""Predictions and their outputs are deleted after 7 days (documentation)."""
MAX_TASKS: Final = 100_000
MAX_FILE_BYTES: Final = 200_000_000
"""Uploads and inline images kept in all; the oldest are dropped."""
_BILL_SECONDS: Final = 62 * 24 * 3600
_PRUNE_EVERY: Final = 1_000
_INLINE_CHARS: Final = 4_096
_FILE_MARK: Final = "\0file:"
_LAYOUT: Final = 3
_APPLICATION: Final = 0x464C5342

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tasks (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, version TEXT NOT NULL,
  created REAL NOT NULL, start REAL NOT NULL, finish REAL NOT NULL, fate TEXT NOT NULL, code INTEGER NOT NULL,
  error TEXT NOT NULL, images INTEGER NOT NULL, flags INTEGER NOT NULL, seed INTEGER NOT NULL, nanos INTEGER NOT NULL,
  charges INTEGER NOT NULL, deleted INTEGER NOT NULL, inputs TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS tasks_finish ON tasks (finish);
CREATE VIEW IF NOT EXISTS bill AS
  SELECT 3 * seq - 2 AS number, 'deduct' AS kind, created AS at, * FROM tasks UNION ALL
  SELECT 3 * seq - 1, 'deduct', created, * FROM tasks WHERE charges > 1 UNION ALL
  SELECT 3 * seq, 'refund', finish, * FROM tasks WHERE fate = 'failed';
CREATE TABLE IF NOT EXISTS files (
  id TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL, created REAL NOT NULL, data BLOB);
"""


class Task(NamedTuple):
    """One accepted task, as a row: seconds since the epoch; ``images``: how many outputs there will be; what each of
    its ``charges`` takes in ``nanos``. One that fails is refunded when it does.
    """

    seq: int
    id: str
    model: str
    version: str
    created: float
    start: float
    finish: float
    fate: str
    code: int
    error: str
    images: int
    flags: int
    seed: int
    nanos: int
    charges: int
    deleted: bool
    inputs: dict[str, Any]

    def status(self, now: float) -> str:
        """created, processing, completed, or how else it ended."""
        if now < self.start:
            return "created"
        if now < self.finish or self.fate == "stuck":
            return "processing"
        return self.fate


@dataclass(frozen=True, slots=True)
class Fate:
    """How a task is to end: ``completed``, ``failed`` or ``stuck``; ``few``: with an output less than asked for;
    ``charges``: how often it is charged."""

    status: str = "completed"
    code: int = 0
    error: str = ""
    few: bool = False
    charges: int = 1


class StateError(OSError):
    """The state file cannot be used."""


class Store:
    """Methods may be called from any thread.

    Raises:
        StateError: the place cannot be written, is not a regular file, or one that is damaged or another program's.
    """

    def __init__(self, path: Path | None, now: float) -> None:
        self._lock = threading.RLock()
        self._db = _opened(path) if path else _connected(":memory:")
        self._db.row_factory = sqlite3.Row
        with self.writing():
            self._prune(now)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, alone among all processes that share the file."""
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._run("ROLLBACK")
                raise
            self._run("COMMIT")

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._run(sql, *values).fetchall()

    def _prune(self, now: float) -> None:
        """Drops what is too old or too much; inside ``writing``."""
        self._run("DELETE FROM tasks WHERE created < ?", now - _BILL_SECONDS)
        self._run("DELETE FROM tasks WHERE seq <= (SELECT MAX(seq) FROM tasks) - ?", MAX_TASKS)
        self._run("DELETE FROM files WHERE created < ?", now - KEPT_SECONDS)

    # ---- tasks -----------------------------------------------------------------------------

    def next_number(self) -> int:
        """The number that the next task gets; inside ``writing``."""
        return int(self._rows("SELECT IFNULL(MAX(seq), 0) FROM tasks")[0][0]) + 1

    def free_slot(self, now: float, concurrency: int | None) -> float:
        """When the next task can start: first come, first served, ``concurrency`` at once; inside ``writing``."""
        if concurrency is None:
            return now
        sql = "SELECT finish FROM tasks WHERE finish > ? ORDER BY finish DESC LIMIT 1 OFFSET ?"
        rows = self._rows(sql, now, concurrency - 1)
        return float(rows[0][0]) if rows else now

    def add(self, task: Task) -> None:
        """Keeps a new task; inside ``writing``."""
        inputs = json.dumps({name: self._slim(value, task.created) for name, value in task.inputs.items()})
        self._run(f"INSERT INTO tasks VALUES ({','.join('?' * len(task))})", *task[:-1], inputs)  # noqa: S608
        if task.seq % _PRUNE_EVERY == 0:
            self._prune(task.created)

    def doom(self, task: Task, fate: Fate, now: float) -> None:
        """Lets an accepted task end otherwise, now."""
        if task.fate != "completed":
            return
        with self.writing():
            if fate.few:
                self._run("UPDATE tasks SET images = max(images - 1, 0) WHERE id = ?", task.id)
            elif fate.status == "failed":
                sql = "UPDATE tasks SET fate = 'failed', code = ?, error = ?, finish = min(finish, ?) WHERE id = ?"
                self._run(sql, fate.code, fate.error, now, task.id)

    def tasks(self, where: str, values: list[Any]) -> list[Task]:
        """The tasks that meet a condition, which may end in an order and a limit."""
        return [
            Task._make((*row[:-1], {name: self._whole(value) for name, value in json.loads(row["inputs"]).items()}))
            for row in self._rows(f"SELECT * FROM tasks WHERE {where}", *values)  # noqa: S608 - our own words
        ]

    def delete(self, ids: list[str]) -> int:
        """Hides tasks from results and lists; what they cost stays charged."""
        with self.writing():
            sql = "UPDATE tasks SET deleted = 1 WHERE id = ? AND deleted = 0"
            return sum(self._run(sql, task_id).rowcount for task_id in ids)

    # ---- the bill --------------------------------------------------------------------------

    def charged(self, now: float) -> int:
        """Charges less refunds; also inside ``writing``."""
        sql = "SELECT TOTAL(CASE kind WHEN 'deduct' THEN nanos ELSE -nanos END) FROM bill WHERE at <= ?"
        return int(self._rows(sql, now)[0][0])

    def bill(self, where: str, values: list[Any], limit: str = "") -> list[sqlite3.Row]:
        """Records of the bill that meet a condition, with the fields of their tasks; newest first."""
        sql = f"SELECT * FROM bill WHERE {where} ORDER BY at DESC, number DESC {limit}"  # noqa: S608 - our own words
        return self._rows(sql, *values)

    # ---- files ------------------------------------------------------------------------------

    def keep_file(self, file_id: str, media_type: str, data: bytes | None, size: int, now: float) -> None:
        """Keeps bytes, or with ``data`` None a place for ``size`` bytes to come; inside ``writing``."""
        self._run("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)", file_id, media_type, size, now, data)
        kept = "SELECT id, SUM(size) OVER (ORDER BY created DESC, id) AS bytes FROM files"
        self._run(f"DELETE FROM files WHERE id IN (SELECT id FROM ({kept}) WHERE bytes > ?)", MAX_FILE_BYTES)  # noqa: S608

    def file(self, file_id: str) -> tuple[str, int, bytes | None] | None:
        """Media type, size, and the bytes where they have come."""
        rows = self._rows("SELECT media_type, size, data FROM files WHERE id = ?", file_id)
        return rows[0] if rows else None

    def _slim(self, value: Any, now: float) -> Any:
        """Long texts (inline images) are kept once, however many tasks carry them."""
        if isinstance(value, list):
            return [self._slim(item, now) for item in value]
        if not isinstance(value, str) or len(value) <= _INLINE_CHARS:
            return value
        data = value.encode("utf-8", "surrogatepass")
        name = hashlib.sha256(data).hexdigest()
        self.keep_file(name, "text/plain", data, len(data), now)
        return _FILE_MARK + name

    def _whole(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._whole(item) for item in value]
        if not isinstance(value, str) or not value.startswith(_FILE_MARK):
            return value
        kept = self.file(value[len(_FILE_MARK) :])
        return (kept[2] or b"").decode("utf-8", "surrogatepass") if kept else ""


def _opened(path: Path) -> sqlite3.Connection:
    """The database in a file that its owner alone can read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("not a regular file")
            os.fchmod(file.fileno(), 0o600)
        return _connected(path)
    except (OSError, sqlite3.DatabaseError) as error:
        why = getattr(error, "strerror", None) or error
        raise StateError(f"the sandbox cannot keep its state in {path}: {why}") from error


def _connected(path: Path | str) -> sqlite3.Connection:
    """The database, with its tables. Raises sqlite3.DatabaseError: it is damaged, or not a sandbox's."""
    db = sqlite3.connect(path, timeout=20, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("BEGIN IMMEDIATE")  # another process may be creating the very file
        program, layout = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        found = db.execute(
            "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        if found and program != _APPLICATION:
            raise sqlite3.DatabaseError("written by another program; move it away")
        for kind, name in found if layout != _LAYOUT else ():  # another version's play money is begun anew
            db.execute(f"DROP {kind} {name}")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={_APPLICATION}")
        db.execute(f"PRAGMA user_version={_LAYOUT}")
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        if pages < 12_000 and db.execute("PRAGMA quick_check").fetchone()[0] != "ok":  # at most 50 MB
            raise sqlite3.DatabaseError("damaged; move it away")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db
