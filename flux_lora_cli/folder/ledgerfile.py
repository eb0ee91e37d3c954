"""The ledger's file: creating one whole, opening one that can be trusted, what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from flux_lora_cli.errors import FluxLoraError, FolderError, LedgerDamaged
from flux_lora_cli.folder import files
from flux_lora_cli.text import printable

LEDGER_NAME = "ledger.sqlite3"
#: Version of the tables, in PRAGMA user_version.
VERSION = 1
#: "FLUX" in PRAGMA application_id: other programs' databases are not taken for ours.
APPLICATION_ID = 0x464C5558
#: Largest ledger that is opened: some 8 times that of 100,000 jobs; and largest value in it. Bytes.
MAX_BYTES, _MAX_VALUE = 1 << 30, 64 << 20
#: Seconds for which SQLite waits for another process: on opening, when Ctrl-C may have to wait, too; and later.
OPEN_SECONDS, BUSY_SECONDS = 1.8, 4.5

JOBS = """CREATE TABLE jobs (
  n INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  position INTEGER NOT NULL,
  task_id TEXT,
  tally TEXT NOT NULL,
  entry TEXT NOT NULL,
  rest TEXT NOT NULL,
  checksum INTEGER NOT NULL
)"""
BY_TASK = "CREATE INDEX jobs_by_task ON jobs (task_id) WHERE task_id IS NOT NULL"
META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"
#: All that there is in a ledger. Anything more (a trigger, a view) would act when it is read or written.
_SCHEMA = {
    ("table", "jobs", "jobs", JOBS),
    ("index", "sqlite_autoindex_jobs_1", "jobs", None),
    ("index", "jobs_by_task", "jobs", BY_TASK),
    ("table", "meta", "meta", META),
}


def checksum(*values: object) -> int:
    """CRC-32 of a row's values: SQLite finds a page that does not fit its tree, but not a flipped bit in a value."""
    return zlib.crc32("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))


# ---- errors ---------------------------------------------------------------------------------


def damaged(path: Path, what: str) -> LedgerDamaged:
    """The error for a ledger that cannot be trusted, with the way out."""
    return LedgerDamaged(
        f"the ledger {path} is damaged: {printable(what)[:200]}",
        f"Restore {path.name} from a backup. Without one, move it away, together with any {path.name}-journal, and run"
        " again: it is rebuilt from manifest.json. If the last run was killed, see `flux-lora status` first: the"
        " manifest may lack tasks of its last seconds.",
    )


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what sqlite3 and the system raise inside into errors of the folder."""
    try:
        with files.explained(path):
            yield
    # The last, of an error message that quotes a damaged schema.
    except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as error:
        raise _meaning(path, error) from error


def _meaning(path: Path, error: Exception) -> FluxLoraError:
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    vague = primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    if code == sqlite3.SQLITE_READONLY_DBMOVED or (vague and not path.parent.is_dir()):
        return files.moved(path.parent)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return FolderError(
            f"another program keeps the ledger {path} locked",
            "Close it (a database browser?), then run again.",
        )
    if primary == sqlite3.SQLITE_FULL or (vague and shutil.disk_usage(path.parent).free < 64 * 1024):
        return files.folder_error(OSError(errno.ENOSPC, str(error)), path)
    if vague or primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOLFS):
        return files.folder_error(OSError(errno.EIO, str(error)), path)
    return damaged(path, str(error))


# ---- the file -------------------------------------------------------------------------------


def is_there(path: Path) -> bool:
    """Whether there is a ledger that SQLite may open. Raises LedgerDamaged, FolderError: what lies there it may not."""
    found = False
    for suffix in ("-journal", "-wal", ""):
        each = path.with_name(path.name + suffix)
        with files.explained(each), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            info = each.lstat()
            if not stat.S_ISREG(info.st_mode):  # opening it might never end
                raise FolderError(f"{each} is not a regular file", "Remove it, or choose another folder with -o.")
            if info.st_size > (0 if suffix == "-wal" else MAX_BYTES):
                raise damaged(path, f"{each.name} is not of this program, or too large")
            found = not suffix
    return found


def create(path: Path, meta: dict[str, str]) -> None:
    """Make a ledger under its final name in one step, so that half a one is never found.

    Where another process is faster, its ledger stays. Raises FolderError.
    """
    temporary = path.with_name(files.temp_name())
    try:
        with translated(path):
            files.create(temporary, 0o600).close()
            with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as database:
                database.executescript(
                    f"PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL; BEGIN; {JOBS}; {BY_TASK}; {META};"
                    f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
                )
                rows = [(name, value, checksum(name, value)) for name, value in meta.items()]
                database.executemany("INSERT INTO meta VALUES (?, ?, ?)", rows)
                database.execute("COMMIT")
            if not path.exists():  # the journal of a ledger that was deleted would be played into the new one
                path.with_name(path.name + "-journal").unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):
                files.rename_new(temporary, path)
            files.sync_folder(path.parent)
    finally:
        files.remove(temporary)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection, checked: ours, of a version that we read, whole, and with nothing foreign in it.

    Raises sqlite3.Error, LedgerDamaged, LedgerNewer, FolderError.
    """
    # To read as well, for SQLite may have to roll back what a kill left.
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    mode = "rw" if writable or not read_only else "ro"
    database = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True, timeout=OPEN_SECONDS, isolation_level=None, check_same_thread=False,
    )  # fmt: skip
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
        database.execute("PRAGMA temp_store = MEMORY")  # there may be no folder for temporary files
        _check(path, database)
        if read_only:
            database.execute("PRAGMA query_only = ON")
        else:
            # TRUNCATE: the end of the journal is flushed as well, so that a commit is durable when it returns.
            database.execute("PRAGMA journal_mode = TRUNCATE").fetchall()
            database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    except BaseException:
        database.close()
        raise
    return database


def _check(path: Path, database: sqlite3.Connection) -> None:
    ((application,),) = database.execute("PRAGMA application_id").fetchall()
    ((version,),) = database.execute("PRAGMA user_version").fetchall()
    if application == APPLICATION_ID and version > VERSION:
        raise files.newer(path, version, VERSION)
    if application != APPLICATION_ID or version != VERSION:
        raise damaged(path, "it is a database, but not a ledger")
    found = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 10").fetchall()
    if set(found) != _SCHEMA or len(found) != len(_SCHEMA):
        strange = sorted(str(row[1])[:60] for row in set(found) - _SCHEMA)
        raise damaged(path, f"it holds what this program did not write ({', '.join(strange) or 'a table is missing'})")
    # Not quick_check: a damaged index would hide a row, and the job would be paid for again.
    problems = database.execute("PRAGMA integrity_check(1)").fetchall()
    if problems != [("ok",)]:
        raise damaged(path, " ".join(str(problems[0][0]).split()))
