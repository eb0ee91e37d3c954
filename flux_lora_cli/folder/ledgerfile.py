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

from flux_lora_cli.errors import DiskFull, FluxLoraError, FolderError, LedgerDamaged, LedgerNewer
from flux_lora_cli.folder import files
from flux_lora_cli.text import printable

LEDGER_NAME = "ledger.sqlite3"
#: Version of the tables, in PRAGMA user_version.
VERSION = 1
#: "FLUX" in PRAGMA application_id: other programs' databases are not taken for ours.
APPLICATION_ID = 0x464C5558
#: Largest ledger that is opened: some 8 times that of 100,000 jobs.
MAX_BYTES = 1 << 30
#: Seconds for which SQLite waits for another process in one attempt; Ctrl-C is heard between two.
BUSY_SECONDS = 0.9
_MAX_VALUE = 64 << 20  # bytes of one value

JOBS = """CREATE TABLE jobs (
  n INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  position INTEGER NOT NULL,
  task_id TEXT,
  past_tasks TEXT NOT NULL,
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
    past_tasks: str
    tally: str
    checksum: int
    entry: str
    private: str


COLUMNS = "key, position, task_id, past_tasks, tally, checksum, entry, private"
UPSERT = f"""INSERT INTO jobs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET position = excluded.position, task_id = excluded.task_id,
  past_tasks = excluded.past_tasks, tally = excluded.tally, checksum = excluded.checksum, entry = excluded.entry,
  private = excluded.private"""  # noqa: S608 - constants
SELECT = f"SELECT {COLUMNS} FROM jobs"  # noqa: S608

# Ledgers that this process has open, by device and inode. Opening and closing such a file by other means than SQLite
# drops SQLite's locks on it (POSIX).
_open_here: dict[tuple[int, int], int] = {}


def checksum(*values: object) -> int:
    """CRC-32 of a row's values: SQLite finds a page that does not fit its tree, but not a flipped bit in a value."""
    return zlib.crc32("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))


def damaged(path: Path, what: str) -> LedgerDamaged:
    """The error for a ledger that cannot be trusted, with the way out."""
    return LedgerDamaged(
        f"the ledger {printable(str(path))} is damaged: {printable(what)[:200]}",
        f"Restore {path.name} from a backup. Without one, move it away, together with any {path.name}-journal, and run"
        " again: it is rebuilt from manifest.json. If the last run was killed, see `flux-lora status` first: the"
        " manifest may lack tasks of its last seconds.",
    )


@contextlib.contextmanager
def translated(path: Path, way_out: str) -> Iterator[None]:
    """Turn what sqlite3 and the system raise inside into errors of the folder."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise meaning(path, error, way_out) from error
    except UnicodeDecodeError as error:  # of an error message that quotes a damaged schema
        raise damaged(path, "text in it cannot be read") from error
    except OSError as error:
        raise files.folder_error(error, path, way_out) from error


def meaning(path: Path, error: Exception, way_out: str) -> FluxLoraError:
    """What an error of SQLite means for the user."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    where, words, primary = printable(str(path)), printable(str(error)), code & 0xFF
    vague = primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    if code == sqlite3.SQLITE_READONLY_DBMOVED or (vague and not path.parent.is_dir()):
        return files.moved(path.parent)
    if primary == sqlite3.SQLITE_FULL or (vague and _no_space(path.parent)):
        return DiskFull(
            f"no space is left for the ledger {where}", "Make room, then run the same command again: it continues."
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return FolderError(
            f"another program keeps the ledger {where} locked",
            f"Close it (a database browser?) and run again, or {way_out}.",
        )
    if vague or primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOLFS):
        return FolderError(
            f"the ledger {where} cannot be used: {words}", f"Check the folder's permissions and its disk, or {way_out}."
        )
    return damaged(path, words)


def _no_space(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 64 * 1024
    except OSError:
        return False


def is_there(path: Path, way_out: str) -> bool:
    """Whether there is a ledger; looks at what can be told before SQLite touches it.

    Raises:
        LedgerDamaged, FolderError: what lies there must not be opened.
    """
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise files.folder_error(error, path, way_out) from None
    if not stat.S_ISREG(info.st_mode):
        raise FolderError(f"{printable(str(path))} is not a regular file", f"Remove it, or {way_out}.")
    if info.st_size > MAX_BYTES:
        raise damaged(path, "it is too large")
    for suffix in ("-journal", "-wal"):
        _check_side_file(path.with_name(path.name + suffix), path)
    if not _open_here.get((info.st_dev, info.st_ino)):
        try:
            with files.open_regular(path, follow=False) as file:
                header = file.read(100)
        except OSError as error:
            raise files.folder_error(error, path, way_out) from None
        if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
            raise damaged(path, "it is not an SQLite database")
        if header[18:20] != b"\x01\x01":  # a write-ahead log would come to lie beside it
            raise damaged(path, "it is a database, but not one that this program made")
    return True


def _check_side_file(side: Path, path: Path) -> None:
    try:
        info = side.lstat()
    except OSError:
        return
    if not stat.S_ISREG(info.st_mode):
        raise FolderError(f"{printable(str(side))} is not a regular file", "Remove it.")
    if info.st_size > MAX_BYTES or (info.st_size and side.name.endswith("-wal")):
        raise damaged(path, f"{side.name} beside it is not of this program")


def create(path: Path, meta: dict[str, str], way_out: str) -> None:
    """Make a ledger under its final name in one step, so that half a one is never found.

    Where another process is faster, its ledger stays. Raises FolderError.
    """
    temporary = path.with_name(files.temp_name())
    try:
        with files.explained(path, way_out):
            os.close(files.create(temporary, 0o600))
        with (
            translated(path, way_out),
            contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as database,
        ):
            database.executescript(
                "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL; BEGIN;"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {JOBS}; {BY_TASK}; {META};"
            )
            for name, value in meta.items():
                database.execute("INSERT INTO meta VALUES (?, ?, ?)", (name, value, checksum(name, value)))
            database.execute("COMMIT")
        with files.explained(path, way_out), contextlib.suppress(FileExistsError):
            if not path.exists():  # the journal of a ledger that was deleted would be played into the new one
                path.with_name(path.name + "-journal").unlink(missing_ok=True)
            files.rename_new(temporary, path)
        with files.explained(path, way_out):
            files.sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection, checked: ours, of a version that we read, whole, and with nothing foreign in it.

    Raises:
        sqlite3.Error, LedgerDamaged, LedgerNewer, FolderError.
    """
    mode = "mode=rw"  # to read as well: SQLite may have to roll back what a kill left
    if read_only and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        mode = "mode=ro"
        if _on_read_only_mount(path):  # nobody can write, and some such file systems have no locks
            if _size(path.with_name(path.name + "-journal")):
                raise FolderError(
                    f"the ledger {printable(str(path))} lies on a read-only disk, and its last run was killed",
                    "Copy the folder to a disk that can be written, and name the copy with -o.",
                )
            mode += "&immutable=1"
    database = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?{mode}",
        uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=16,
    )  # fmt: skip
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        database.execute("PRAGMA temp_store = MEMORY")
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


def _check(path: Path, database: sqlite3.Connection) -> None:
    ((application,),) = database.execute("PRAGMA application_id").fetchall()
    ((version,),) = database.execute("PRAGMA user_version").fetchall()
    if application == APPLICATION_ID and version > VERSION:
        raise LedgerNewer(
            f"the ledger {printable(str(path))} was written by a later flux-lora (format {version}, this one reads"
            f" {VERSION})",
            "Upgrade flux-lora: pip install --upgrade flux-lora-cli",
        )
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


def _on_read_only_mount(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def note_open(identity: tuple[int, int], by: int) -> None:
    """Count the connections of this process to a file."""
    _open_here[identity] = _open_here.get(identity, 0) + by
    if _open_here[identity] <= 0:
        del _open_here[identity]
