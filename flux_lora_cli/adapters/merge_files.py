"""Copying images from folder to folder: checked on the way, never over anything, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flux_lora_cli import errors
from flux_lora_cli.adapters.folder_lock import unusable
from flux_lora_cli.adapters.ledger_files import sync_folder
from flux_lora_cli.adapters.saved_files import full_check, inside
from flux_lora_cli.domain.records import Finding, OutputRecord

_PIECE = 1 << 20
_TEMPORARY = ".merge-"


class FileCopier:
    """Copies files of ``sources`` into ``target``, both folders.

    Copies, not hard links: an image that is edited in one folder must not change in the other.
    """

    def __init__(self, sources: Sequence[Path], target: Path) -> None:
        self._sources = sources
        self._target = target
        self._touched: set[Path] = set()

    def clean(self) -> None:
        """Remove what a merge that was killed left half copied. Only under the folder's lock."""
        for path in self._target.glob(_TEMPORARY + "*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def image(self, source: int, output: OutputRecord) -> OutputRecord:
        """Copy an image; returns it under the name that it got, without a file where it is not sound."""
        assert output.file is not None
        path = None
        if output.sha256 is not None:
            path = self._place(self._sources[source], output.file, output.sha256, _names(output.file))
        if path is None:
            return replace(output, file=None, sha256=None, bytes=None, mtime_ns=None, saved_at=None)
        return replace(output, file=path, mtime_ns=(self._target / path).lstat().st_mtime_ns)

    def input(self, source: int, path: str) -> bool:
        """Copy an input image, whose name is its hash. False where it is not sound."""
        sha256 = path.removeprefix("inputs/").partition(".")[0]
        return self._place(self._sources[source], path, sha256, iter([path])) is not None

    def sync(self) -> None:
        """Make the copied names durable."""
        for folder in self._touched:
            with _translated(self._target):
                sync_folder(folder)
        self._touched.clear()

    def _place(self, source: Path, relative: str, sha256: str, names: Iterator[str]) -> str | None:
        # A name that already holds these bytes is the copy that an earlier run made.
        temporary: Path | None = None
        try:
            for name in names:
                final = inside(self._target, name)
                if final is None:
                    continue
                if full_check(self._target, name, None, sha256) is Finding.SOUND:
                    self._touched.add(final.parent)
                    return name
                if temporary is None:
                    temporary = self._fetch(source, relative, sha256)
                    if temporary is None:
                        return None
                if self._publish(temporary, final):
                    return name
            return None
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink()

    def _fetch(self, source: Path, relative: str, sha256: str) -> Path | None:
        """Copy to a temporary file, durably; None where the source's file is not what it should be."""
        origin = inside(source, relative)
        try:
            if origin is None or not stat.S_ISREG(origin.lstat().st_mode):
                return None
            reading = origin.open("rb")
        except OSError:
            return None
        temporary = self._target / f"{_TEMPORARY}{secrets.token_hex(8)}"
        digest = hashlib.sha256()
        with reading, _translated(self._target):
            try:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                with os.fdopen(handle, "wb") as writing:
                    while piece := reading.read(_PIECE):
                        digest.update(piece)
                        writing.write(piece)
                    writing.flush()
                    os.fsync(handle)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        if digest.hexdigest() == sha256:
            return temporary
        temporary.unlink()
        return None

    def _publish(self, temporary: Path, final: Path) -> bool:
        """Give a file its final name; False where something has that name."""
        with _translated(self._target):
            final.parent.mkdir(parents=True, exist_ok=True)
            self._touched.add(final.parent)
            self._touched.add(final.parent.parent)
            try:
                os.link(temporary, final)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links: the lock keeps other merges out
                if final.exists() or final.is_symlink():
                    return False
                temporary.rename(final)
        return True


def _names(name: str) -> Iterator[str]:
    """Yield a name and, for where it is taken, others like it: ``a.png``, ``a-2.png``, ``a-3.png`` …"""
    yield name
    stem, dot, extension = name.rpartition(".")
    for number in range(2, 10_000):
        yield f"{stem}-{number}{dot}{extension}"


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except errors.FluxLoraError:
        raise
    except OSError as error:
        raise unusable(folder, error) from error
