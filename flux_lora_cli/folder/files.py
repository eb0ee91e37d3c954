"""Files: opened without ever waiting, written whole and durably, locked; errors that people can act on."""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from flux_lora_cli.errors import DiskFull, FolderBusy, FolderError, FolderMoved, LedgerNewer
from flux_lora_cli.text import printable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: "This file system cannot do that", as opposed to "the name is taken".
UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK, errno.ENOLCK}
)
#: Seconds for which the first byte of a pipe is waited for.
PIPE_SECONDS = 5.0
LOCK_NAME = ".flux-lora.lock"
TEMP_PREFIX, TEMP_SUFFIX = ".flux-lora-", ".part"

# O_NONBLOCK: a FIFO opens at once, and is then refused; of regular files it changes nothing.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_RUN, _numbers = secrets.token_hex(8), itertools.count()
# Back-slashes, controls, half surrogates; a drive; an empty, "." or ".." part.
_UNSAFE_PATH = re.compile("[\\\\\x00-\x1f\x7f-\x9f\ud800-\udfff]|^.:|(?:^|/)\\.{0,2}(?:/|$)")


# ---- reading --------------------------------------------------------------------------------


def open_regular(path: Path | str, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading; never waits. Raises OSError, also for a FIFO, device or folder.

    Without ``follow``, the last part of the path may not be a link.
    """
    descriptor = os.open(path, _READ if follow else _READ | getattr(os, "O_NOFOLLOW", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular_file(path: Path | str, limit: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file. Raises OSError as ``open_regular``, and where it has more than ``limit`` bytes."""
    with open_regular(path, follow=follow) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return data


def read_stream(path: Path | str, limit: int) -> bytes:
    """At most ``limit`` bytes and one more of a pipe, a descriptor (``<(…)``) or a file, to its end.

    Raises OSError, also where nobody writes to the pipe within PIPE_SECONDS.
    """
    with open(path, "rb", opener=lambda name, _: os.open(name, _READ)) as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            if not select.select([file], [], [], PIPE_SECONDS)[0]:
                raise OSError(errno.ETIMEDOUT, "nobody writes to this pipe")
            os.set_blocking(file.fileno(), True)
        return file.read(limit + 1)


def read_pieces(path: Path | str) -> Iterator[bytes]:
    """A regular file, which is no link, in pieces of 1 MB. Raises OSError as ``open_regular``."""
    with open_regular(path, follow=False) as file:
        while piece := file.read(1 << 20):
            yield piece


# ---- paths ----------------------------------------------------------------------------------


def on_disk(name: str) -> str:
    """A name as ledgers, manifests and presets have it, for calls of the system: UTF-8 there, whatever the locale."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def as_written(name: str) -> str:
    """The reverse of ``on_disk``."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def is_safe_path(path: object) -> bool:
    """Whether a relative path, written with ``/``, stays inside its folder on every system."""
    return isinstance(path, str) and len(path) <= 4000 and _UNSAFE_PATH.search(path) is None


def inside(folder: Path, relative: str) -> Path | None:
    """The path of a file in a folder; None where its text or a link on the way would lead elsewhere.

    The last part may itself be a link: open it with ``follow=False``.
    """
    if not is_safe_path(relative):
        return None
    path = folder / on_disk(relative)
    between = itertools.takewhile(lambda parent: parent != folder, path.parents)
    return None if any(parent.is_symlink() for parent in between) else path


def other_names(name: str) -> Iterator[str]:
    """A name and, for where it is taken, others like it: ``a.png``, ``a-2.png``, ``a-3.png`` …"""
    yield name
    stem, dot, extension = name.rpartition(".")
    for number in range(2, 10_000):
        yield f"{stem}-{number}{dot}{extension}"


def temp_name() -> str:
    """A new name for a temporary file; no other process, and no later one, gives the same."""
    return f"{TEMP_PREFIX}{_RUN}-{os.getpid():x}-{next(_numbers):x}{TEMP_SUFFIX}"


def is_temp(name: str) -> bool:
    """Whether a file's name is one of ours for temporary files."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


# ---- writing --------------------------------------------------------------------------------


def create(path: Path | str, mode: int = 0o666) -> BinaryIO:
    """A new file. Raises OSError, also where the name is taken, even by a dangling link."""
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))


def remove(path: Path) -> None:
    """Remove a file, if it is there. Never raises."""
    with suppress(OSError):
        path.unlink()


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object], mode: int = 0o600) -> None:
    """Put a file in place, whole and durable, or leave what was there untouched. Raises OSError.

    ``content`` is the bytes, or what writes them to a binary file.
    """
    temporary = path.with_name(temp_name())
    try:
        with create(temporary, mode) as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        remove(temporary)
    sync_folder(path.parent)


def rename_new(source: Path, target: Path) -> None:
    """Rename, unless the target exists. Raises FileExistsError: it does, even as a dangling link; OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        # No links there (FAT, some network shares). What is left is a race with somebody who creates this very name.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()


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


def make_folders(folder: Path, mode: int = 0o777, *, below: Path | None = None) -> None:
    """Make a folder with its parents, their names durable; ``below`` is never made anew: it may have been moved away.

    Raises DiskFull, FolderMoved, FolderError.
    """
    try:
        if folder == below or folder.is_dir():
            return
        make_folders(folder.parent, mode, below=below)
        folder.mkdir(mode, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno in FULL or (below is not None and error.errno == errno.ENOENT):
            raise folder_error(error, folder) from error
        reason = error.strerror or "something is in the way"
        raise FolderError(f"cannot make the folder {folder}: {reason}", "Choose another folder with -o.") from error


# ---- errors ---------------------------------------------------------------------------------


@contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """Turn an OSError on a file of the folder into one of ours, but for FileExistsError, which callers decide on."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise folder_error(error, path) from error


def folder_error(error: OSError, path: Path | str) -> FolderError:
    """What an OSError on a file of the folder means for the folder."""
    if error.errno in FULL:
        return DiskFull(
            f"the disk is full: {path}", "Make room, then run the same command again; nothing is paid twice."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return moved(Path(path).parent)
    reason = error.strerror or "input/output error"
    return FolderError(
        f"cannot use {path}: {reason[:1].lower()}{reason[1:]}",
        "Check its permissions and its disk, or choose another folder with -o.",
    )


def moved(folder: Path) -> FolderMoved:
    """The error for a folder that is no longer where it was."""
    return FolderMoved(
        f"the folder {folder} was moved, deleted, replaced or unmounted while it was in use",
        "Put it back where it was, then run the same command again. If its ledger is lost, collect the paid tasks with"
        " `flux-lora wait`: a run in a new folder would pay for them again.",
    )


def newer(path: Path, version: int, ours: int) -> LedgerNewer:
    """The error for a ledger or manifest of a version that this program does not read."""
    return LedgerNewer(
        f"{path} was written by a later flux-lora (format {version}, this one reads {ours})",
        "Upgrade flux-lora: pip install --upgrade flux-lora-cli",
    )


def busy(folder: Path, holder: str = "another process") -> FolderBusy:
    """The error for whoever wants a folder that another has."""
    hint = "Wait until it has ended, then run the same command again."
    return FolderBusy(f"{folder} is in use by {printable(holder)}", hint)


# ---- locks: the kernel lets go of them however their holder dies ----------------------------


@contextmanager
def held(folder: Path, patience: float) -> Iterator[None]:
    """Hold a folder by a lock on itself, which nobody can remove; where folders have none (NFS), by a lock file in it.

    Raises FolderBusy, FolderError.
    """
    with ExitStack() as stack:
        if sys.platform == "win32":
            stack.enter_context(locked(folder / LOCK_NAME, patience))
        else:
            import fcntl

            with explained(folder / LOCK_NAME):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy(folder) from None
            except OSError:
                stack.enter_context(locked(folder / LOCK_NAME, patience))
        yield


@contextmanager
def locked(path: Path, patience: float) -> Iterator[None]:
    """Hold a lock file, and remove it in the end. On a file system without locks nothing is held.

    Raises FolderBusy: somebody else still holds it after ``patience`` seconds; FolderError: it cannot be made.
    """
    from filelock import FileLock, Timeout  # here, because few commands lock

    lock = FileLock(path, timeout=patience, mode=0o600, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise busy(path.parent) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED - {errno.EPERM}:
            raise folder_error(error, path) from error
    try:
        yield
    finally:
        if lock.is_locked:
            if sys.platform != "win32":  # an open file cannot be removed there: it stays, unlocked
                remove(path)  # before the release: whoever waits for it sees that it is gone, and tries anew
            with suppress(OSError):
                lock.release()
