"""Lock files that the kernel lets go of when their holder dies, however it dies."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from flux_lora_cli.errors import FolderBusy
from flux_lora_cli.folder.files import OTHER_FOLDER, folder_error
from flux_lora_cli.text import printable

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: File systems that know no locks; there the ledger alone keeps two batches apart.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


class LockFile:
    """A context manager that holds a locked file, and removes it in the end.

    Args:
        path: in an existing folder.
        patience: seconds to wait while somebody else holds it.

    Raises:
        FolderBusy: somebody else holds it.
        FolderError: the file cannot be made.
    """

    def __init__(self, path: Path, patience: float, way_out: str = OTHER_FOLDER) -> None:
        self._path = path
        self._patience = patience
        self._way_out = way_out
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> LockFile:
        from filelock import FileLock, Timeout  # here, because few commands lock

        lock = FileLock(self._path, timeout=self._patience, mode=0o600, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            raise FolderBusy(
                f"{printable(str(self._path.parent))} is in use by another process",
                "Wait until it has ended, then run the same command again.",
            ) from None
        except NotImplementedError:
            return self
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise folder_error(error, self._path, self._way_out) from error
            return self
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        if sys.platform != "win32":  # an open file cannot be removed there: it stays, unlocked
            with suppress(OSError):
                self._path.unlink()  # before the release: whoever waits for it sees that it is gone, and tries anew
        with suppress(OSError):
            self._lock.release()
        self._lock = None
