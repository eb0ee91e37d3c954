"""Files: opened without ever waiting, written whole and durably, errors that people can act on."""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from flux_lora_cli.errors import DiskFull, FolderError, FolderMoved
from flux_lora_cli.text import printable

#: What to do about a folder that cannot be used; ``state`` has words of its own.
OTHER_FOLDER = "choose another folder with -o"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: "This file system (or kernel) cannot do that", as opposed to "the name is taken".
UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK, errno.ENOLCK}
)
TEMP_PREFIX, TEMP_SUFFIX = ".flux-lora-", ".part"
PIECE = 1 << 20

# O_NONBLOCK: a FIFO opens at once, and is then refused; of regular files it changes nothing.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_RUN, _numbers = secrets.token_hex(8), itertools.count()


def open_regular(path: Path | str, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading. Never waits.

    Args:
        follow: whether the last part of the path may be a link.

    Raises:
        OSError: it cannot be opened, or is a FIFO, device, folder.
    """
    flags = _READ if follow else _READ | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular_file(path: Path | str, limit: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, is a FIFO, device or folder, or is larger.
    """
    with open_regular(path, follow=follow) as file:
        pieces, left = [], limit
        while left >= 0 and (piece := file.read(min(PIECE, left + 1))):
            pieces.append(piece)
            left -= len(piece)
    if left < 0:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return b"".join(pieces)


def read_pieces(path: Path | str, *, follow: bool = False) -> Iterator[bytes]:
    """A regular file in pieces of 1 MB. Raises OSError as ``open_regular``."""
    with open_regular(path, follow=follow) as file:
        while piece := file.read(PIECE):
            yield piece


def temp_name() -> str:
    """A new name for a temporary file; no other process, and no later one, gives the same."""
    return f"{TEMP_PREFIX}{_RUN}-{os.getpid():x}-{next(_numbers):x}{TEMP_SUFFIX}"


def is_temp(name: str) -> bool:
    """Whether a file's name is one of ours for temporary files."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


def create(path: Path | str, mode: int = 0o666) -> int:
    """A descriptor of a new file. Raises OSError, also where the name is taken, even by a dangling link."""
    return os.open(path, _CREATE, mode)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte; the system may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object], mode: int = 0o600) -> None:
    """Put a file in place, whole and durable, or leave what was there untouched.

    Args:
        content: the bytes, or what writes them to a binary file.

    Raises:
        OSError: it could not be written.
    """
    temporary = path.with_name(temp_name())
    try:
        with os.fdopen(create(temporary, mode), "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path | str) -> None:
    """Make names in a folder durable. Raises OSError."""
    if os.name == "nt":
        return  # NTFS journals names; a folder cannot be opened for this
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:  # some network shares know no fsync of folders
            raise
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder with its parents, their names durable. Raises OSError."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def inside(folder: Path, relative: str) -> Path | None:
    """The path of a file in a folder; None where its text or a link on the way would lead elsewhere.

    The last part may itself be a link: open it with ``follow=False``.
    """
    if not is_safe_path(relative):
        return None
    path = folder
    *parents, name = relative.split("/")
    for part in parents:
        path = path / part
        if path.is_symlink():
            return None
    return path / name


# Back-slashes, controls, half surrogates; a drive; an empty, "." or ".." part.
_UNSAFE_PATH = re.compile("[\\\\\x00-\x1f\x7f-\x9f\ud800-\udfff]|^.:|(?:^|/)\\.{0,2}(?:/|$)")


def is_safe_path(path: object) -> bool:
    """Whether a relative path, written with ``/``, stays inside its folder on every system."""
    return isinstance(path, str) and len(path) <= 4000 and _UNSAFE_PATH.search(path) is None


def other_names(name: str) -> Iterator[str]:
    """A name and, for where it is taken, others like it: ``a.png``, ``a-2.png``, ``a-3.png`` …"""
    yield name
    stem, dot, extension = name.rpartition(".")
    for number in range(2, 10_000):
        yield f"{stem}-{number}{dot}{extension}"


def folder_error(error: OSError, path: Path | str, way_out: str = OTHER_FOLDER) -> FolderError:
    """What an OSError on a file of the folder means for the folder."""
    where = printable(str(path))
    if error.errno in FULL:
        return DiskFull(
            f"the disk is full: {where}", "Make room, then run the same command again; nothing is paid twice."
        )
    if error.errno == errno.EROFS:
        return FolderError(
            f"cannot write {where}: the file system is read-only", f"{way_out[:1].upper()}{way_out[1:]}."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return FolderError(f"cannot use {where}: permission denied", f"Change its permissions, or {way_out}.")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return moved(Path(path).parent)
    reason = printable(error.strerror or "input/output error")
    return FolderError(f"cannot use {where}: {reason[:1].lower()}{reason[1:]}", f"Check it, or {way_out}.")


def moved(folder: Path) -> FolderMoved:
    """The error for a folder that is no longer where it was."""
    return FolderMoved(
        f"the folder {printable(str(folder))} was moved, deleted, replaced or unmounted while it was in use",
        "Put it back where it was, then run the same command again. If its ledger is lost, collect the paid tasks with"
        " `flux-lora wait`: a run in a new folder would pay for them again.",
    )


class explained:  # noqa: N801 - used as a function; a generator in its place takes three times as long
    """Turn an OSError into one of ours, but for FileExistsError, which callers decide on."""

    __slots__ = ("_path", "_way_out")

    def __init__(self, path: Path | str, way_out: str = OTHER_FOLDER) -> None:
        self._path = path
        self._way_out = way_out

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            raise folder_error(error, self._path, self._way_out) from error


def rename_new(source: Path | str, target: Path | str) -> None:
    """Rename, atomically, unless the target exists.

    Raises:
        FileExistsError: it does, even as a dangling link.
    """
    if os.name != "nt":
        for way in (_rename_noreplace, _link_and_unlink):
            try:
                way(source, target)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
            else:
                return
        # Neither can be had (FAT on an old kernel, some network shares). What is left is a race with somebody
        # who creates this very name within microseconds.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)  # noqa: PTH104 - a path may be text; Windows refuses an existing target by itself


def _link_and_unlink(source: Path | str, target: Path | str) -> None:
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)  # noqa: PTH108 - a path may be text


def _rename_noreplace(source: Path | str, target: Path | str) -> None:
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
        function, before, after = getattr(library, "renamex_np", None), (), (4,)  # RENAME_EXCL
    else:
        function, before, after = getattr(library, "renameat2", None), (-100,), (1,)  # AT_FDCWD, RENAME_NOREPLACE
    if function is None:
        return None

    def call(source: bytes, target: bytes) -> int:
        return ctypes.get_errno() if function(*before, source, *before, target, *after) else 0

    return call
