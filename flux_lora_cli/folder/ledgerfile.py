"""The ledger's file: creating one whole, opening one that can be trusted, what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from flux_lora_cli.errors import DiskFull, FluxLoraError, FolderError, LedgerDamaged
from flux_lora_cli.folder import files
from flux_lora_cli.text import printable

LEDGER_NAME = "ledger.sqlite3"
#: Version of the tables, in PRAGMA user_version.
VERSION = 1
#: "FLUX" in PRAGMA application_id: other programs' databases are not taken for ours.
APPLICATION_ID = 0x464C5558
#: Largest ledger that is opened: some 8 times that of 100,000 jobs; and largest value in it. Bytes.
MAX_BYTES, _MAX_VALUE = 1 << 30, 64 << 20
#: Seconds for which SQLite waits for another process in one attempt; Ctrl-C is heard between two.
BUSY_SECONDS = 0.9

JOBS = """CREATE TABLE jobs (
  n INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  position INTEGER NOT NULL,
  task_id TEXT,
  tally TEXT NOT NULL,
  checksum INTEGER NOT NULL,
  entry TEXT NOT NULL,
  private TEXT NOT NULL
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


class Row(NamedTuple):
    """A record as it was when ``Ledger.row`` was called, ready to be saved from any thread."""

    key: str
    position: int
    task_id: str | None
    tally: str
    checksum: int
    entry: str
    private: str


COLUMNS = ", ".join(Row._fields)


def checksum(*values: object) -> int:
    """CRC-32 of a row's values: SQLite finds a page that does not fit its tree, but not a flipped bit in a value."""
    return zlib.crc32("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))


# ---- errors ---------------------------------------------------------------------------------


def damaged(path: Path, what: str) -> LedgerDamaged:
    """The error for a ledger that cannot be trusted, with the way out."""
    return LedgerDamaged(
        f"the ledger {printable(str(path))} is damaged: {printable(what)[:200]}",
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
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _meaning(path, error) from error
    except UnicodeDecodeError as error:  # of an error message that quotes a damaged schema
        raise damaged(path, "text in it cannot be read") from error


def _meaning(path: Path, error: Exception) -> FluxLoraError:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    where, primary = printable(str(path)), code & 0xFF
    vague = primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    if code == sqlite3.SQLITE_READONLY_DBMOVED or (vague and not path.parent.is_dir()):
        return files.moved(path.parent)
    if primary == sqlite3.SQLITE_FULL or (vague and _no_space(path.parent)):
        return DiskFull(
            f"no space is left for the ledger {where}", "Make room, then run the same command again: it continues."
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return FolderError(
            f"another program keeps the ledger {where} locked", "Close it (a database browser?), then run again."
        )
    if vague or primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOLFS):
        return FolderError(
            f"the ledger {where} cannot be used: {printable(str(error))}",
            "Check the folder's permissions and its disk, or choose another folder with -o.",
        )
    return damaged(path, str(error))


def _no_space(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 64 * 1024
    except OSError:
        return False


# ---- the file -------------------------------------------------------------------------------


def is_there(path: Path) -> bool:
    """Whether there is a ledger that SQLite may open. Raises LedgerDamaged, FolderError: what lies there it may not."""
    with files.explained(path):
        _regular(path.with_name(path.name + "-journal"))
        if _regular(path.with_name(path.name + "-wal")):
            raise damaged(path, f"{path.name}-wal beside it is not of this program")
        return _regular(path) is not None


def _regular(path: Path) -> int | None:
    """Bytes of a file; None where there is none. Opening anything else might never end."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(info.st_mode):
        raise FolderError(
            f"{printable(str(path))} is not a regular file", "Remove it, or choose another folder with -o."
        )
    if info.st_size > MAX_BYTES:
        raise damaged(path, "it is too large")
    return info.st_size


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
    database = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?{_mode(path, read_only)}",
        uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=16,
    )  # fmt: skip
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
            database.execute(f"PRAGMA {setting}")
        _check(path, database)
        if read_only:
            database.execute("PRAGMA query_only = ON")
        else:
            # TRUNCATE: the end of the journal is flushed as well, so that a commit is durable when it returns.
            database.execute("PRAGMA journal_mode = TRUNCATE").fetchall()
            database.execute("PRAGMA synchronous = FULL")
    except BaseException:
        database.close()
        raise
    return database


def _mode(path: Path, read_only: bool) -> str:
    if not read_only or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return "mode=rw"  # to read as well: SQLite may have to roll back what a kill left
    if not on_read_only_mount(path):
        return "mode=ro"
    if _regular(path.with_name(path.name + "-journal")):
        raise FolderError(
            f"the ledger {printable(str(path))} lies on a read-only disk, and its last run was killed",
            "Copy the folder to a disk that can be written, and name the copy with -o.",
        )
    return "mode=ro&immutable=1"  # nobody can write, and some such file systems have no locks


def on_read_only_mount(path: Path) -> bool:
    """Whether a path lies on a file system that is mounted read-only."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


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
