"""Files: durable, never overwriting, with errors people can act on."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import DiskFull, FluxLoraError, FolderError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
# "This file system (or kernel) cannot do that", as opposed to "the name is taken".
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK}

_Name = Path | str

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def explain(error: OSError, path: Path | str) -> FluxLoraError:
    """The error of ours for a file that could not be written."""
    where = printable(str(path))
    if error.errno in _FULL:
        return DiskFull(
            f"the disk is full: {where}",
            "Make room, then run the same command again; nothing is paid twice.",
        )
    if error.errno == errno.EROFS:
        return FolderError(f"cannot write {where}: the file system is read-only", "Choose another folder with -o.")
    if error.errno in _DENIED:
        return FolderError(
            f"cannot write {where}: permission denied",
            "Change the folder's permissions, or choose another with -o.",
        )
    reason = (error.strerror or "input/output error").lower()
    return FolderError(f"cannot write {where}: {reason}", "Check the folder, or choose another with -o.")


class explained:  # noqa: N801 - used as a function; a generator in its place takes three times as long
    """Turn an OSError into one of ours, but for FileExistsError, which callers decide on."""

    __slots__ = ("_path",)

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            raise explain(error, self._path) from error


def rename_new(source: Path | str, target: Path | str) -> None:
    """Rename, atomically, unless the target exists.

    Raises:
        FileExistsError: it does, even as a dangling link.
    """
    if os.name == "nt":
        os.rename(source, target)  # noqa: PTH104 - a path may be text; refuses an existing target by itself
        return
    if _supported(_rename_noreplace, source, target) or _supported(_link_and_unlink, source, target):
        return
    # Neither can be had (FAT on an old kernel, some network shares). What is left is a race with somebody
    # who creates this very name within microseconds.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)  # noqa: PTH104 - a path may be text


def sync_folder(path: Path) -> None:
    """Make names in a folder durable."""
    if os.name == "nt":
        return  # NTFS journals names; a folder cannot be opened for this
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network shares know no fsync of folders
            raise
    finally:
        os.close(descriptor)


def _supported(rename: Callable[[_Name, _Name], None], source: _Name, target: _Name) -> bool:
    """Rename in one way; False where the system does not know that way."""
    try:
        rename(source, target)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def _link_and_unlink(source: _Name, target: _Name) -> None:
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)  # noqa: PTH108 - a path may be text


def _rename_noreplace(source: _Name, target: _Name) -> None:
    call = _noreplace()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    number = call(os.fsencode(source), os.fsencode(target))
    if number:
        raise OSError(number, os.strerror(number), str(target))


@lru_cache(maxsize=1)
def _noreplace() -> Callable[[bytes, bytes], int] | None:
    """The C library's rename that does not overwrite, returning an errno; None where it has none."""
    import ctypes  # here, because most commands rename nothing

    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        function, extra = getattr(library, "renamex_np", None), (4,)  # RENAME_EXCL
    else:
        function, extra = getattr(library, "renameat2", None), (_RENAME_NOREPLACE,)
    if function is None:
        return None

    def call(source: bytes, target: bytes) -> int:
        names = (source, target) if sys.platform == "darwin" else (_AT_FDCWD, source, _AT_FDCWD, target)
        return ctypes.get_errno() if function(*names, *extra) else 0

    return call
