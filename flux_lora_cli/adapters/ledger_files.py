"""The ledger's files: creating one whole, telling a damaged one, copying one that is being written."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from flux_lora_cli import errors
from flux_lora_cli.adapters.folder_lock import unusable
from flux_lora_cli.adapters.ledger_log import HEADER, log_cut

LEDGER_NAME = "ledger.sqlite3"
SIDE_SUFFIXES = ("-wal", "-shm", "-journal")
#: Version of the tables, in PRAGMA user_version.
VERSION = 1
#: "FLUX" in PRAGMA application_id: other programs' databases are not taken for ours.
APPLICATION_ID = 0x464C5558

_MAGIC = b"SQLite format 3\0"
_COPY_TRIES = 50
_COPY_PAUSE = 0.02


def damaged(path: Path, what: str) -> errors.LedgerDamaged:
    """Return the error for a ledger that cannot be trusted, with the way out."""
    return errors.LedgerDamaged(
        f"the ledger {path} is damaged ({what})",
        f"Restore {path.name} from a backup. Without one, move {path.name} and, where they are there,"
        f" {path.name}-wal and {path.name}-shm to another folder and run again: it is then rebuilt from"
        " manifest.json, which may lack what happened in the last seconds of a run that was killed.",
    )


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what sqlite3 and the system raise inside into errors of the folder."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _meaning(path, error) from error
    except UnicodeDecodeError as error:
        # Of an error message that quotes a damaged schema: sqlite3 decodes it, and raises this in its place.
        raise damaged(path, "text in it cannot be read") from error
    except OSError as error:
        raise unusable(path.parent, error) from error


def _meaning(path: Path, error: Exception) -> errors.FolderError:
    # By the words: Python 3.10 does not hand out SQLite's codes. The words are the same in every SQLite 3.
    words = str(error)
    if "is full" in words or (_vague(words) and _no_space(path.parent)):
        return errors.DiskFull(
            f"no space is left for the ledger {path}",
            "Nothing more was submitted. Make room, then run the same command again: it continues.",
        )
    if "locked" in words:
        return errors.FolderError(
            f"another program keeps the ledger {path} locked",
            "Close it (a database browser?) and run again; on a network disk choose a local folder with -o.",
        )
    if _vague(words) or "readonly" in words:
        return errors.FolderError(
            f"the ledger {path} cannot be written: {words}",
            "Check the folder's permissions and its disk, or choose another folder with -o.",
        )
    return damaged(path, words)


def _vague(words: str) -> bool:
    return "disk I/O error" in words or "unable to open" in words


def _no_space(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 64 * 1024
    except OSError:
        return False


def check_file(path: Path) -> bool:
    """Return whether there is a ledger; look at what can be told before SQLite touches it.

    Raises LedgerDamaged (cut to nothing, no database), FolderError (a link, a folder, not readable).
    """
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            raise errors.FolderError(f"{path} is not a regular file", "Remove it, or choose another folder with -o.")
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unusable(path.parent, error) from error
    if len(head) < 100 or not head.startswith(_MAGIC):
        raise damaged(path, "it is no SQLite database")
    if log_cut(path):
        raise damaged(path, f"{path.name}-wal, which holds its last commits, was cut or replaced")
    return True


def create(path: Path, schema: str, rows: tuple[tuple[str, str, int], ...]) -> None:
    """Make a ledger under its final name in one step, so that half a one is never found.

    The caller holds the folder's write lock. Side files of an earlier ledger, which would be
    played into the new one, are removed.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with translated(path):
        try:
            for left in path.parent.glob(f".{path.name}-*"):  # by a kill
                left.unlink(missing_ok=True)
            os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                database.executescript(
                    f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {schema}"
                )
                database.executemany("INSERT INTO meta VALUES (?, ?, ?)", rows)
                database.execute("COMMIT")
            for suffix in SIDE_SUFFIXES:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            for suffix in ("", *SIDE_SUFFIXES):
                with contextlib.suppress(OSError):
                    temporary.with_name(temporary.name + suffix).unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_consistent(path: Path, target: Path) -> None:
    """Copy a ledger and its log, also while another process writes, without leaving anything beside it.

    Pages that a checkpoint moves meanwhile are in the copied log as well, unless the log was started anew;
    its header tells, and the copy is made again.

    Never in a process that has this ledger open: closing the file would drop SQLite's locks (POSIX).
    """
    log = path.with_name(path.name + "-wal")
    with translated(path):
        for _ in range(_COPY_TRIES):
            before = _log_header(log)
            shutil.copyfile(path, target)
            copied_log = target.with_name(target.name + "-wal")
            copied_log.unlink(missing_ok=True)
            if before:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(log, copied_log)
            if before == _log_header(log):
                return
            time.sleep(_COPY_PAUSE)
    raise errors.FolderError(f"the ledger {path} changes too fast to be read", "Try again in a moment.")


def _log_header(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            return file.read(HEADER)
    except FileNotFoundError:
        return b""
