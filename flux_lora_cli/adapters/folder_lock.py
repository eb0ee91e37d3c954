"""Locks on a folder that the kernel lets go of when their holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from flux_lora_cli import errors

LOCK_NAME = ".flux-lora.lock"
WRITE_LOCK_NAME = ".flux-lora-write.lock"

#: Seconds that a batch tries before it calls the folder busy; it has to say so within 2 s.
BATCH_PATIENCE = 0.5
#: Seconds that a short write waits for another: a manifest of 100,000 jobs takes about two.
WRITE_PATIENCE = 60.0
_STEP = 0.02

# An offset far past the content, so that on Windows, where locks are mandatory, others can read who holds it.
_WINDOWS_OFFSET = 1 << 30


class FolderLock:
    """One holder at a time for a folder, through a locked dot file.

    The file is removed on release. Whoever locks a file checks that it is still the one that the name
    stands for: a file that its last holder removed while another process had it open excludes nobody.

    Args:
        folder: an existing folder.
        name: the dot file in it.
        patience: seconds to keep trying while somebody else holds it.
    """

    def __init__(self, folder: Path, name: str = LOCK_NAME, patience: float = BATCH_PATIENCE) -> None:
        self.folder = folder
        self._path = folder / name
        self._patience = patience
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            FolderBusy: another process holds it; the message names the process, host and time.
            DiskFull, FolderError: the folder cannot be written, or cannot be locked.
        """
        deadline = time.monotonic() + self._patience
        while not self._try():
            if time.monotonic() >= deadline:
                raise self._busy()
            time.sleep(_STEP)
        self._sign()

    def release(self) -> None:
        """Remove the file and let go, in this order: nobody can lock it in between. Never raises."""
        if self._handle is None:
            return
        with contextlib.suppress(OSError):
            if sys.platform != "win32":  # an open file cannot be removed there: it stays, unlocked
                self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._handle)
        self._handle = None

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self) -> bool:
        handle = self._open()
        taken = False
        try:
            taken = _lock(handle) and self._is_current(handle)
        except OSError as error:
            raise errors.FolderError(
                f"{self.folder} cannot be locked: {error.strerror}",
                "Its file system has no file locks. Choose a folder on a local disk with -o.",
            ) from error
        finally:
            if not taken:
                os.close(handle)
        if taken:
            self._handle = handle
        return taken

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            return os.open(self._path, flags, 0o600)
        except OSError as error:
            raise unusable(self.folder, error) from error

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self._path.stat())
        except FileNotFoundError:
            return False

    def _sign(self) -> None:
        # For people only. Without room to write it, the lock holds all the same.
        assert self._handle is not None
        since = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, json.dumps(note).encode())

    def _busy(self) -> errors.FolderBusy:
        who = "another process"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with self._path.open("rb") as file:
                note = json.loads(file.read(4096))
            who = f"process {int(note['pid'])} on {str(note['host'])[:80]}, since {str(note['since'])[:30]}"
        return errors.FolderBusy(
            f"{self.folder} is in use by {who}",
            "Wait until it has ended, or choose another folder with -o.",
        )


def write_lock(folder: Path) -> FolderLock:
    """Return the short lock under which the manifest is written and the ledger is created.

    ``batch``, ``wait -o`` and ``merge`` hold it for one write each, beside the lock of the batch.
    """
    return FolderLock(folder, WRITE_LOCK_NAME, WRITE_PATIENCE)


def unusable(folder: Path, error: OSError) -> errors.FolderError:
    """Return what an OSError on a file of the folder means for the folder."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return errors.DiskFull(
            f"no space is left for {folder}", "Make room, then run the same command again: it continues."
        )
    return errors.FolderError(
        f"{folder} cannot be written: {error.strerror or error}",
        "Check its permissions and disk, or choose another folder with -o.",
    )


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        os.lseek(handle, _WINDOWS_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EDEADLK}:
                return False
            raise
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
