"""Files that a folder's records call saved: whether they are there, and are still what was saved."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from flux_lora_cli.domain.records import Finding, OutputRecord

_PIECE = 1 << 20


def inside(folder: Path, relative: str) -> Path | None:
    """Return the path of a file in the folder, None where a link on the way would lead elsewhere.

    ``relative`` has passed ``manifest_reading.safe_path``, or is a name that this tool gave.
    """
    path = folder
    for part in relative.split("/")[:-1]:
        path = path / part
        if path.is_symlink():
            return None
    return path / relative.rsplit("/", 1)[-1]


def quick_check(folder: Path, output: OutputRecord) -> Finding:
    """Compare size and modification time with what the ledger saw. One system call."""
    assert output.file is not None
    try:
        found = os.lstat(os.path.join(folder, output.file))  # noqa: PTH118 - ten thousand times in a rerun
    except OSError:
        return Finding.MISSING
    if not stat.S_ISREG(found.st_mode):
        return Finding.ALTERED
    same = found.st_size == output.bytes and found.st_mtime_ns == output.mtime_ns
    return Finding.SOUND if same else Finding.ALTERED


def full_check(folder: Path, relative: str, size: int | None, sha256: str | None) -> Finding:
    """Compare every byte, by length and hash, a piece at a time. A file that cannot be read is altered."""
    path = inside(folder, relative)
    if path is None:
        return Finding.ALTERED
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Finding.MISSING
    except OSError:
        return Finding.ALTERED
    if not stat.S_ISREG(found.st_mode) or (size is not None and found.st_size != size):
        return Finding.ALTERED
    try:
        return Finding.SOUND if hash_file(path) == sha256 else Finding.ALTERED
    except OSError:
        return Finding.ALTERED


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def all_files(folder: Path) -> Iterator[str]:
    """Yield the relative path, with ``/``, of every file in the folder. Links are yielded, not followed."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            entries: Iterable[os.DirEntry[str]] = sorted(os.scandir(folder / prefix), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name


class FolderFiles:
    """The files of one folder, as ``workflow.verify`` asks for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, path: str, size: int | None, sha256: str | None) -> Finding:
        """Read a file whole and compare."""
        return full_check(self._folder, path, size, sha256)

    def names(self) -> Iterator[str]:
        """Yield every file of the folder."""
        return all_files(self._folder)
