"""The images of an output folder: complete and on disk before they get their name, never overwritten."""

from __future__ import annotations

import hashlib
import os
import stat as stat_module
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from flux_lora_cli.errors import BadImage, FolderError, NotFoundError
from flux_lora_cli.folder import files
from flux_lora_cli.folder.files import explained
from flux_lora_cli.folder.imagefile import MAX_BYTES, ImageInfo, inspect_image
from flux_lora_cli.folder.records import JobRecord, OutputRecord
from flux_lora_cli.presets.job import LocalImage
from flux_lora_cli.text import printable

INPUTS = "inputs"
#: Seconds after which a temporary file was left behind by a kill: a download takes 10 minutes at most.
_STALE = 3600.0


class Received(NamedTuple):
    """A whole image on disk; ``temp`` is its name relative to the folder."""

    temp: str
    sha256: str
    bytes: int
    info: ImageInfo


class PartialImage:
    """One image on its way to disk; ``size`` bytes have come so far.

    Its file is made with the first bytes. ``write`` and ``finish`` raise BadImage (it is not an image, or is cut
    short), DiskFull, FolderError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.size += len(chunk)
        if self.size > MAX_BYTES:
            raise BadImage(f"the file is larger than {MAX_BYTES / 1e6:g} MB")
        with explained(self._path):
            if self._file is None:
                with self._lock:
                    if self._abandoned:
                        raise FolderError("nobody waits for this image any more")
                    self._file = files.create(self._path)
            self._file.write(chunk)

    def finish(self) -> Received:
        """Check the whole image and flush it to disk."""
        if self._file is None:
            raise BadImage("the file is cut short after 0 bytes")
        with explained(self._path):
            self._file.flush()
            with files.open_regular(self._path) as file:
                info = inspect_image(file)
                file.seek(0)
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(self._file)
            # Some file systems (NFS, quotas) report a failed write only here.
            written, self._file = self._file, None
            written.close()
        return Received(self._path.name, sha256, self.size, info)

    def restart(self) -> None:
        """Begin anew: what has come is of no use."""
        self.discard()
        self.size = 0

    def discard(self) -> None:
        """Remove it, whatever has become of it. Never raises."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        files.remove(self._path)

    def abandon(self) -> None:
        """Remove its name for good, while another thread may still write to it or be about to. Never raises."""
        with self._lock:
            self._abandoned = True
            files.remove(self._path)


class ImageStore:
    """The files of one folder. All paths given and returned are relative to it, with ``/``.

    Safe to use from several threads. A path that leaves the folder, also by way of a link, is refused (FolderError).
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.read_only = read_only

    def check_writable(self) -> None:
        """Really write into the folder, which is made if need be. Raises DiskFull, FolderError."""
        files.make_folders(self.folder)
        probe = self.folder / files.temp_name()
        with explained(self.folder):
            files.write_atomically(probe, bytes(4096))
            probe.unlink()

    def begin(self) -> PartialImage:
        """Start an image under a temporary name."""
        return PartialImage(self.folder / files.temp_name())

    def publish(self, temp: str, name: str, *, replace: bool = False) -> None:
        """Give a finished image its name (``replace``: over a damaged one of ours); durable after ``sync``.

        Raises FileExistsError: something has that name; FolderError: it cannot be done.
        """
        source, target = self.path(temp), self.path(name)
        files.make_folders(target.parent, below=self.folder)
        with explained(target):
            if replace:
                source.replace(target)
            else:
                files.rename_new(source, target)

    def sync(self, names: Iterable[str]) -> None:
        """Make the names of these files durable: one flush per folder. Raises DiskFull, FolderError."""
        for parent in sorted({name.rpartition("/")[0] for name in names}):
            with explained(self.folder / parent):
                files.sync_folder(self.folder / parent)

    def stat(self, name: str) -> tuple[int, int] | tuple[None, None]:
        """Size in bytes and modification time in ns; (None, None) where there is no such regular file."""
        with suppress(OSError, FolderError):
            found = self.path(name).lstat()
            if stat_module.S_ISREG(found.st_mode):
                return found.st_size, found.st_mtime_ns
        return None, None

    def sha256(self, name: str) -> str | None:
        """SHA-256 in lower-case hex; None where there is no such regular file, or it cannot be read."""
        with suppress(OSError, FolderError), files.open_regular(self.path(name), follow=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def discard(self, temp: str | None) -> None:
        """Remove a temporary file, if it is one and is there. Never raises."""
        if temp is not None and files.is_temp(temp):
            with suppress(OSError, FolderError):
                self.path(temp).unlink()

    def sweep(self, keep: Iterable[str | None] = ()) -> None:
        """Remove temporary files that a killed run left, but for ``keep``. Never raises."""
        kept, before = set(keep), time.time() - _STALE
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                if files.is_temp(path.name) and path.name not in kept and path.lstat().st_mtime < before:
                    self.discard(path.name)

    def all_files(self) -> Iterator[str]:
        """The path of every file in the folder. Links are named, not followed. Raises FolderError."""
        with explained(self.folder):
            found = [path for path in sorted(self.folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
        for path in found:
            yield files.as_written(path.relative_to(self.folder).as_posix())

    # ---- files from elsewhere ----

    def copy(self, origin: Path, wanted: str, sha256: str, *, replace: bool = False) -> str | None:
        """Copy a file of a known content in; the name that it got, which is durable.

        None where its content is another, or it cannot be read. Raises DiskFull, FolderError.
        """
        if self.sha256(wanted) == sha256:
            return wanted
        temp = files.temp_name()
        try:
            with explained(self.folder / temp):
                files.write_atomically(self.folder / temp, lambda file: file.writelines(_readable(origin)), mode=0o666)
            return self.place(temp, wanted, sha256, replace=replace)
        finally:
            self.discard(temp)

    def keep_input(self, image: LocalImage) -> str:
        """Keep a local input image once; its path (``inputs/SHA256.ext``).

        Raises NotFoundError: it cannot be read, or is not what it was when the preset was read; FolderError.
        """
        name = f"{INPUTS}/{image.sha256}.{image.extension}"
        # A file of that name with another content is a damaged copy of ours: the name is its hash.
        if self.copy(Path(os.path.realpath(image.path)), name, image.sha256, replace=True) is None:
            raise NotFoundError(
                f"{printable(image.path)} cannot be read any more, or changed while it was read",
                "Run the same command again.",
            )
        return name

    # ---- after a kill ----

    def recover(self, record: JobRecord, *, every_byte: bool = False) -> bool:
        """Bring a record's outputs in line with what is on disk; whether the record changed. Raises FolderError.

        A finished image that had no name yet gets it. Of an image that is gone or altered, ``file`` becomes None, so
        that it is fetched again; ``writing`` of an altered one keeps its name, which the new copy may replace. With
        ``every_byte``, images are read also where size and modification time are as they were.
        """
        changed = False
        for output in record.outputs:
            if output.file is not None:
                changed |= self._check(output, output.file, every_byte)
            elif output.temp is not None:
                self._resolve(output)
                changed = True
        return changed

    def _check(self, output: OutputRecord, name: str, every_byte: bool) -> bool:
        size, mtime_ns = self.stat(name)
        is_as_it_was = (size, mtime_ns) == (output.bytes, output.mtime_ns)
        if is_as_it_was and not every_byte:
            return False
        if size is not None and size == output.bytes and self.sha256(name) == output.sha256:
            output.mtime_ns = mtime_ns
            return not is_as_it_was and not self.read_only  # a copy of the folder has other times
        forget_file(output)
        output.writing = None if size is None else name
        return True

    def _resolve(self, output: OutputRecord) -> None:
        """A kill came between "complete under this temporary name" and "saved under this name"."""
        temp, wanted = output.temp, output.writing
        output.temp = output.writing = None
        if temp and wanted and output.sha256 and not self.read_only:
            output.file = self.place(temp, wanted, output.sha256)
        if output.file is None:
            forget_file(output)
        else:
            output.mtime_ns = self.stat(output.file)[1]
        self.discard(temp)

    def place(self, temp: str, wanted: str, sha256: str, *, replace: bool = False) -> str | None:
        """Give a temporary file the first name like ``wanted`` that is free, or that has its content already; durable.

        None where neither the temporary file nor one of that name has the content. Raises FolderError.
        """
        whole = files.is_temp(temp) and self.sha256(temp) == sha256
        for name in files.other_names(wanted):
            is_there = self.sha256(name) == sha256
            if not is_there and not whole:
                return None
            with suppress(FileExistsError):
                if not is_there:
                    self.publish(temp, name, replace=replace)
                self.sync([name])
                return name
        return None

    # ---- paths ----

    def path(self, name: str) -> Path:
        """Where a file of the folder lies. Raises FolderError: outside of it."""
        path = files.inside(self.folder, name)
        if path is None:
            raise FolderError(
                f"{printable(name)[:200]} would lie outside the folder {self.folder}",
                "Remove the link that leads out of it, or choose another folder with -o.",
            )
        return path


def _readable(path: Path) -> Iterator[bytes]:
    """A file as far as it can be read: its hash will tell."""
    with suppress(OSError):
        yield from files.read_pieces(path)


def forget_file(output: OutputRecord) -> None:
    """The image has no file any more: what was known of it is known no more."""
    output.file = output.sha256 = output.bytes = output.width = output.height = None
    output.media_type = output.saved_at = output.mtime_ns = None
