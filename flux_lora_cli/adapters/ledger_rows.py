"""A job record as one row of the ledger, and back; every row carries its own checksum.

SQLite finds a page that does not fit into its tree, but not a flipped bit in a value. The checksum does.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from flux_lora_cli.domain.field_values import FieldValues
from flux_lora_cli.domain.records import OUTPUT_VALUES, JobRecord, OutputRecord, State

#: (key, position, state, task id, revision, body, checksum)
Row = tuple[str, int, str, "str | None", int, str, int]

SCHEMA = """
CREATE TABLE jobs (
  n INTEGER PRIMARY KEY,     -- 1, 2, 3 … without a gap: a row that is lost leaves one
  key TEXT NOT NULL UNIQUE,
  position INTEGER NOT NULL,
  state TEXT NOT NULL,
  task_id TEXT,
  revision INTEGER NOT NULL, -- of the transaction that wrote the row last
  body TEXT NOT NULL,        -- JSON: the other fields, where they differ from their defaults
  checksum INTEGER NOT NULL
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
"""
SELECT = "SELECT key, position, state, task_id, revision, body, checksum FROM jobs"
#: Rows that one statement writes, at most. Python lets go of its lock around every step of a statement, and threads
#: that wait for it wake up for nothing: a statement for each row made a commit twice as dear.
ROWS_AT_ONCE = 16


class RowError(Exception):
    """A row does not say what was written."""


_UPSERT = """
INSERT INTO jobs (key, position, state, task_id, revision, body, checksum) VALUES (ROWS)
ON CONFLICT (key) DO UPDATE SET position = excluded.position, state = excluded.state,
  task_id = excluded.task_id, revision = excluded.revision, body = excluded.body, checksum = excluded.checksum
"""


@lru_cache(maxsize=ROWS_AT_ONCE)
def upsert(rows: int) -> str:
    """The statement that inserts or updates so many rows."""
    return _UPSERT.replace("(ROWS)", ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows))


_JOB = FieldValues(JobRecord, {"key", "order", "state", "task_id", "outputs", "resting"})


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in the ledger")


_encode = json.JSONEncoder(separators=(",", ":"), default=_plain, allow_nan=False, check_circular=False).encode
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # ``decode`` less the search for white space that ``to_row`` never writes


def to_row(record: JobRecord, revision: int) -> Row:
    """Encode a record as it is written in the transaction ``revision``."""
    record = record.awake()
    body = _JOB.differing(record)
    if record.outputs:
        body["outputs"] = [OUTPUT_VALUES.differing(output) for output in record.outputs]
    text = _encode(body)
    state = record.state.value
    checksum = _checksum(record.key, record.order, state, record.task_id, revision, text)
    return record.key, record.order, state, record.task_id, revision, text, checksum


def from_row(row: Row) -> JobRecord:
    """Decode a row. Raises RowError unless it is as it was written."""
    key, position, state, task_id, _, text, checksum = row
    try:
        if checksum != _checksum(*row[:6]):
            raise RowError("a row does not match its checksum")
        body, end = _scan(text, 0)
        if end != len(text):
            raise RowError("a row goes on after its end")
        outputs = [OutputRecord(**output) for output in body.pop("outputs", ())]
        if "price" in body:
            body["price"] = Decimal(body["price"])
        for name in body.keys() & {"aliases", "earlier_tasks"}:
            body[name] = tuple(body[name])
        return JobRecord(key=key, order=position, state=State(state), task_id=task_id, outputs=outputs, **body)
    except (TypeError, ValueError, AttributeError, StopIteration, InvalidOperation) as error:
        raise RowError(f"a row cannot be read: {error}") from error


def meta_checksum(name: str, value: str) -> int:
    """Return the checksum of a row of ``meta``."""
    return zlib.crc32(f"{name}\0{value}".encode("utf-8", "surrogatepass"))


def _checksum(key: str, position: int, state: str, task_id: str | None, revision: int, body: str) -> int:
    head = f"{key}\0{position}\0{state}\0{task_id}\0{revision}\0{body}"
    return zlib.crc32(head.encode("utf-8", "surrogatepass"))
