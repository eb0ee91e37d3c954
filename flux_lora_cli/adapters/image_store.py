"""The files of an output folder: complete and on disk before they get their name, never overwritten."""

from __future__ import annotations

import hashlib
import os
import stat as stat_module
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

from flux_lora_cli.adapters.disk import explained, rename_new, sync_folder
from flux_lora_cli.adapters.sink import CREATE, Saved, Sink, is_temp, read_pieces, temp_name, write_all
from flux_lora_cli.domain.filenames import is_safe_path
from flux_lora_cli.domain.imagefile import MAX_BYTES, ImageWalker
from flux_lora_cli.domain.inline import inline_bytes
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import FolderError, NotFoundError

#: ``Client.download``: a URL and a limit in bytes to the pieces of what is there.
Fetch = Callable[[str, int], Iterable[bytes]]

#: Every path is asked about several times on an image's way.
_is_safe = lru_cache(maxsize=1024)(is_safe_path)


class ImageStore:
    """One output folder. All paths given and returned are relative to it, with ``/``.

    Safe to use from several threads. Every method that touches a path refuses one that leaves the folder,
    also by way of a link (FolderError).
    """

    def __init__(self, folder: Path, fetch: Fetch | None = None, limit_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._fetch = fetch
        self._limit_bytes = limit_bytes
        self._unsynced: set[Path] = set()
        self._begun: set[str] = set()  # temporary files without a name yet

    def check_writable(self) -> None:
        """Really write into the folder, which is made if need be; asked before anything is paid for.

        Raises:
            DiskFull: there is no room at all.
            FolderError: it cannot be made or written.
        """
        with explained(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise FolderError(f"{printable(str(self.folder))} is a file", "Choose a folder with -o.")
            self.folder.mkdir(parents=True, exist_ok=True)
        probe = self.folder / temp_name()
        try:
            with explained(self.folder):
                descriptor = os.open(probe, CREATE, 0o600)
                try:
                    write_all(descriptor, bytes(4096))
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        finally:
            with suppress(OSError):
                probe.unlink()

    def free_bytes(self) -> int | None:
        """Bytes that we may still write; None where the system does not tell."""
        try:
            info = os.statvfs(self.folder)
        except (AttributeError, OSError):
            return None
        return info.f_bavail * info.f_frsize

    def fetch(self, output: str, name_hint: str = "image") -> Saved:
        """Bring one output (URL, data URI or bare base64) to disk, whole, under a temporary name.

        Raises:
            BadImage, OutputGone, RefusedUrl: see ``errors``.
            RateLimited, NeverSent, InsecureConnection, Uncertain: of the connection.
            DiskFull, FolderError: of the folder.
        """
        inline = inline_bytes(output)
        with self.begin(name_hint) as sink:
            if inline is not None:
                sink.write(inline)
            else:
                assert self._fetch is not None, "this store was made without a way to fetch"
                for piece in self._fetch(output, self._limit_bytes):
                    sink.write(piece)
            return sink.finish()

    def begin(self, name_hint: str = "image", walker: ImageWalker | None = None) -> Sink:
        """Start an image in the folder that ``name_hint``, a relative path, lies in."""
        parent = self._parent(name_hint, make=True)
        name = temp_name()
        relative = name_hint[: name_hint.rfind("/") + 1] + name
        self._begun.add(relative)
        return Sink(f"{parent}{os.sep}{name}", relative, walker or ImageWalker(self._limit_bytes))

    def abandon(self, keep: Iterable[str] = ()) -> None:
        """Remove what fetches cut off by the end of the run have begun, but for ``keep`` (relative paths)."""
        for name in self._begun - set(keep):
            with suppress(OSError):
                (self.folder / name).unlink()
        self._begun.clear()

    def publish(self, temp: str, final: str) -> None:
        """Give a finished image its name. Durable after ``sync_dirs``.

        Raises:
            FileExistsError: something has that name; it is left alone.
        """
        source, target = self._place(temp), self._place(final, make=True)
        with explained(target):
            rename_new(source, target)
        self._begun.discard(temp)

    def replace(self, temp: str, final: str) -> None:
        """Put a finished image in place of our own damaged one."""
        source, target = self._path(temp), self._path(final, make=True)
        with explained(target):
            source.replace(target)
        self._begun.discard(temp)

    def sync_dirs(self, paths: Iterable[str]) -> None:
        """Make the names of these files durable; one flush a folder, not one a file."""
        folders = {self.folder / parent for parent in {path.rpartition("/")[0] for path in paths}}
        unsynced = set(self._unsynced)
        for folder in sorted(folders | unsynced):
            with explained(folder):
                sync_folder(folder)
        self._unsynced -= unsynced

    def stat(self, path: str) -> tuple[int, int] | None:
        """Size in bytes and modification time in ns; None where there is no such regular file."""
        try:
            found = os.lstat(self._place(path))
        except (OSError, FolderError):
            return None
        return (found.st_size, found.st_mtime_ns) if stat_module.S_ISREG(found.st_mode) else None

    def hash(self, path: str) -> str | None:
        """SHA-256 in lower-case hex; None where there is no such regular file, or it cannot be read."""
        digest = hashlib.sha256()
        try:
            for piece in read_pieces(self._path(path)):
                digest.update(piece)
        except (OSError, FolderError):
            return None
        return digest.hexdigest()

    def discard(self, temp: str) -> None:
        """Remove a temporary file, if it is one and is there."""
        if is_temp(PurePosixPath(temp).name):
            with suppress(OSError, FolderError):
                self._path(temp).unlink()

    def sweep(self, older_than: float, keep: Iterable[str] = ()) -> int:
        """Remove temporary files last written before ``older_than`` (seconds since the epoch); how many.

        A download takes 10 minutes at most, so what is older than that was left behind by a kill.
        """
        kept = set(keep)
        removed = 0
        for base, _folders, names in os.walk(self.folder):
            for name in filter(is_temp, names):
                path = Path(base, name)
                with suppress(OSError):
                    if path.relative_to(self.folder).as_posix() in kept or path.lstat().st_mtime >= older_than:
                        continue
                    path.unlink()
                    removed += 1
        return removed

    def keep_input(self, source: Path, sha256: str, extension: str) -> str:
        """Keep a local input image once, as ``inputs/SHA256.ext``; its relative path.

        Raises:
            NotFoundError: the source cannot be read.
            FolderError: the source is not what it was when it was hashed, or the copy cannot be written.
        """
        final = f"inputs/{sha256}.{extension}"
        if self.hash(final) == sha256:
            return final
        try:
            with self.begin(final) as sink:
                for piece in read_pieces(source, follow=True):
                    sink.write(piece)
                saved = sink.finish()
        except OSError as error:
            raise NotFoundError(f"cannot read {printable(str(source))}: {error.strerror}") from None
        if saved.sha256 != sha256:
            self.discard(saved.temp)
            raise FolderError(f"{printable(str(source))} changed while it was read", "Run the same command again.")
        # A file of that name with another content is a damaged copy of ours: the name is its hash.
        self.replace(saved.temp, final)
        self.sync_dirs([final])
        return final

    def _path(self, path: str, *, make: bool = False) -> Path:
        return Path(self._place(path, make=make))

    def _place(self, path: str, *, make: bool = False) -> str:
        """The same without a ``Path``, which costs more than a system call; asked several times an image."""
        return f"{self._parent(path, make=make)}{os.sep}{path.rpartition('/')[2]}"

    def _parent(self, path: str, *, make: bool) -> Path:
        if not _is_safe(path):
            raise FolderError(f"not a path inside the folder: {printable(path[:200])}", "It is not used.")
        below = path.rpartition("/")[0]
        if not below and not make:
            return self.folder
        parent = self.folder / below if below else self.folder
        if make and not parent.is_dir():
            self._refuse_outside(parent)
            with explained(parent):
                self._make(parent)
        if below and not self._plain(below):
            self._refuse_outside(parent)
        return parent

    def _plain(self, below: str) -> bool:
        """Whether the way to a sub-folder is free of links: then it cannot lead outside, at one call a level."""
        path = str(self.folder)
        for part in below.split("/"):
            path = f"{path}{os.sep}{part}"
            try:
                if not stat_module.S_ISDIR(os.lstat(path).st_mode):
                    return False
            except OSError:
                return False
        return True

    def _refuse_outside(self, parent: Path) -> None:
        root = os.path.realpath(self.folder)
        real = os.path.realpath(parent)
        if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
            raise FolderError(
                f"{printable(str(parent))} is a link that leads out of the output folder",
                "Remove the link, or choose another folder with -o; nothing is written through it.",
            )

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise FolderError(f"{printable(str(folder))} is in the way of a folder", "Move it away.") from None
        self._unsynced.add(folder.parent)
