"""What the sandbox remembers: tasks, uploads, what was charged. SQLite, in memory or shared by processes.

A task's life is decided when it is accepted: when it starts (a slot of the
service is free), when it is finished, and how it ends. Its state at any moment
follows from the clock alone, so that no worker has to run.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

KEPT_SECONDS: Final = 7 * 24 * 3600
"""Predictions and their outputs are deleted after 7 days (documentation)."""
_LAYOUT: Final = 1
_INLINE_CHARS: Final = 4096
_BLOB: Final = "\0blob:"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tasks (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, version TEXT NOT NULL,
  created REAL NOT NULL, start REAL NOT NULL, finish REAL NOT NULL, fate TEXT NOT NULL, code INTEGER NOT NULL,
  error TEXT NOT NULL, images INTEGER NOT NULL, flags INTEGER NOT NULL, seed INTEGER NOT NULL,
  cost INTEGER NOT NULL, inputs TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS tasks_finish ON tasks (finish);
CREATE TABLE IF NOT EXISTS blobs (sha TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
  id TEXT PRIMARY KEY, media_type TEXT NOT NULL, data BLOB, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""


class Task(NamedTuple):
    """One accepted task, as stored. Times in seconds since the epoch; ``cost`` in billionths of a dollar."""

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
    cost: int
    inputs: str
    deleted: int = 0

    def status(self, now: float) -> str:
        """created, processing, completed, or how else it ended."""
        if now < self.start:
            return "created"
        if now < self.finish or self.fate == "stuck":
            return "processing"
        return self.fate


@dataclass(frozen=True, slots=True)
class Fate:
    """How a task is to end, where a fault decides that at its submit."""

    status: str
    code: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What part of the predictions is asked for; newest first. Times in seconds since the epoch."""

    page: int = 1
    page_size: int = 20
    model: str = ""
    status: str = ""
    after: float | None = None
    before: float | None = None


class StateError(ValueError):
    """The state file is none of ours, or of another version."""


class Store:
    """Tasks and uploads. Methods may be called from any thread."""

    def __init__(self, path: Path | None, now: float) -> None:
        self._lock = threading.RLock()
        self._db = _connect(path)
        with self.writing():
            oldest = now - KEPT_SECONDS
            self._db.execute("DELETE FROM uploads WHERE created < ?", (oldest,))

    def close(self) -> None:
        """Closes the file; the last process to do so leaves no side files."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, alone among all processes that share the file."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # ---- tasks ---------------------------------------------------------------------------

    def free_slot(self, now: float, concurrency: int | None) -> float:
        """When the next task can start: first come, first served, ``concurrency`` at once."""
        if concurrency is None:
            return now
        row = self._db.execute(
            "SELECT finish FROM tasks WHERE finish > ? ORDER BY finish DESC LIMIT 1 OFFSET ?",
            (now, concurrency - 1),
        ).fetchone()
        return now if row is None else float(row[0])

    def add(self, task: Task) -> None:
        """Keeps a new task; long inline images are kept once, however many tasks carry them."""
        inputs = self._slim(task.inputs)
        row = (*task[1:14], inputs)
        self._db.execute(
            "INSERT INTO tasks (id, model, version, created, start, finish, fate, code, error, images, flags,"
            " seed, cost, inputs) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            row,
        )

    def task(self, task_id: str, now: float) -> Task | None:
        """The task, unless it is unknown, deleted or too old."""
        with self._lock:
            row = self._db.execute(
                "SELECT * FROM tasks WHERE id = ? AND deleted = 0 AND created > ?",
                (task_id, now - KEPT_SECONDS),
            ).fetchone()
        return Task(*row) if row else None

    def delete(self, ids: list[str]) -> None:
        """Hides tasks from looks and lists; what they cost stays charged."""
        with self.writing():
            self._db.executemany("UPDATE tasks SET deleted = 1 WHERE id = ?", [(item,) for item in ids])

    def page(self, listing: Listing, now: float) -> list[Task]:
        """One page of the predictions, newest first."""
        where, values = _conditions(listing, now)
        values += [listing.page_size, (listing.page - 1) * listing.page_size]
        with self._lock:
            rows = self._db.execute(
                f"SELECT * FROM tasks WHERE {where} ORDER BY seq DESC LIMIT ? OFFSET ?",  # noqa: S608
                values,
            ).fetchall()
        return [Task(*row) for row in rows]

    def all_tasks(self) -> list[Task]:
        """Every task ever accepted, oldest first."""
        with self._lock:
            return [Task(*row) for row in self._db.execute("SELECT * FROM tasks ORDER BY seq")]

    def charged(self) -> tuple[int, int, int]:
        """Tasks, images and billionths of a dollar charged in all."""
        with self._lock:
            row = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM(images), 0), COALESCE(SUM(cost), 0) FROM tasks"
            ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def inputs(self, task: Task) -> dict[str, Any]:
        """The request as it was sent."""
        found: dict[str, Any] = json.loads(task.inputs)
        for name, value in found.items():
            if isinstance(value, str) and value.startswith(_BLOB):
                found[name] = self._blob(value[len(_BLOB) :])
        return found

    def _slim(self, inputs: str) -> str:
        if len(inputs) <= _INLINE_CHARS:
            return inputs
        found = json.loads(inputs)
        for name, value in found.items():
            if isinstance(value, str) and len(value) > _INLINE_CHARS:
                sha = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
                self._db.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (sha, json.dumps(value)))
                found[name] = _BLOB + sha
        return json.dumps(found)

    def _blob(self, sha: str) -> str:
        with self._lock:
            row = self._db.execute("SELECT data FROM blobs WHERE sha = ?", (sha,)).fetchone()
        return str(json.loads(row[0])) if row else ""

    # ---- uploads, numbers ----------------------------------------------------------------

    def open_upload(self, upload_id: str, media_type: str, now: float) -> None:
        """A place for bytes to come."""
        with self.writing():
            self._db.execute("INSERT INTO uploads VALUES (?, ?, NULL, ?)", (upload_id, media_type, now))

    def fill_upload(self, upload_id: str, data: bytes) -> bool:
        """The bytes; false for a place that was never opened."""
        with self.writing():
            done = self._db.execute("UPDATE uploads SET data = ? WHERE id = ?", (data, upload_id))
            return done.rowcount == 1

    def upload(self, upload_id: str) -> tuple[str, bytes] | None:
        """Media type and bytes."""
        with self._lock:
            row = self._db.execute(
                "SELECT media_type, data FROM uploads WHERE id = ? AND data IS NOT NULL", (upload_id,)
            ).fetchone()
        return (str(row[0]), bytes(row[1])) if row else None

    def number(self, name: str) -> float | None:
        """A number kept by name."""
        row = self._db.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()
        return float(row[0]) if row else None

    def keep_number(self, name: str, value: float) -> None:
        """Keeps a number by name; inside ``writing``."""
        self._db.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (name, value))


def _connect(path: Path | None) -> sqlite3.Connection:
    target = ":memory:" if path is None else str(path)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(target, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        if path is not None:
            db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        layout = db.execute("PRAGMA user_version").fetchone()[0]
        if layout not in (0, _LAYOUT):
            raise StateError(f"{target}: written by another version of the sandbox; delete it to start anew")
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_LAYOUT}; COMMIT;")
    except (sqlite3.DatabaseError, StateError) as error:
        db.close()
        if isinstance(error, StateError):
            raise
        raise StateError(f"{target}: not a state file of the sandbox ({error})") from error
    return db


def _conditions(listing: Listing, now: float) -> tuple[str, list[Any]]:
    where = ["deleted = 0", "created > ?"]
    values: list[Any] = [now - KEPT_SECONDS]
    if listing.model:
        where.append("model = ?")
        values.append(listing.model)
    if listing.after is not None:
        where.append("created >= ?")
        values.append(listing.after)
    if listing.before is not None:
        where.append("created <= ?")
        values.append(listing.before)
    if listing.status == "created":
        where.append("start > ?")
        values.append(now)
    elif listing.status == "processing":
        where.append("start <= ? AND (finish > ? OR fate = 'stuck')")
        values += [now, now]
    elif listing.status:
        where.append("finish <= ? AND fate = ?")
        values += [now, listing.status]
    return " AND ".join(where), values
