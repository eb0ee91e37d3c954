"""One image on its way to disk: checked and hashed while it passes."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flux_lora_cli.adapters.disk import explained
from flux_lora_cli.domain.imagefile import MAX_BYTES, ImageInfo, ImageWalker
from flux_lora_cli.domain.text import printable
from flux_lora_cli.errors import NotFoundError

TEMP_PREFIX, TEMP_SUFFIX = ".flux-lora-", ".part"
#: Flags that make a new file, and refuse a link that somebody put under its name.
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_PIECE = 1 << 20
_RUN, _numbers = secrets.token_hex(8), itertools.count()


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole image that is on disk under a temporary name. ``temp`` is relative to the folder."""

    temp: str
    sha256: str
    bytes: int
    info: ImageInfo

    @property
    def width(self) -> int:
        """Pixels."""
        return self.info.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.info.height

    @property
    def media_type(self) -> str:
        """By content: ``image/png``."""
        return self.info.media_type

    @property
    def extension(self) -> str:
        """By content, without a dot."""
        return self.info.extension


class Sink:
    """One image on its way to disk. Use as a context manager: what is not finished is removed."""

    def __init__(self, path: str, name: str, walker: ImageWalker) -> None:
        self._path = path
        self._name = name
        self._walker = walker
        self._hash = hashlib.sha256()
        self._size = 0
        self._finished = False
        with explained(path):
            self._file: int | None = os.open(path, CREATE, 0o666)

    def write(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadImage: this is no image, whatever follows.
            DiskFull, FolderError: it cannot be written.
        """
        self._walker.feed(piece)
        self._hash.update(piece)
        self._size += len(piece)
        assert self._file is not None
        with explained(self._path):
            write_all(self._file, piece)

    def finish(self) -> Saved:
        """Check the image's end and flush it to disk.

        Raises:
            BadImage: the image is cut short.
            DiskFull, FolderError: it cannot be written.
        """
        info = self._walker.finish()
        assert self._file is not None
        with explained(self._path):
            os.fsync(self._file)
            # Some file systems (NFS, quotas) report a failed write only here.
            descriptor, self._file = self._file, None
            os.close(descriptor)
        self._finished = True
        return Saved(self._name, self._hash.hexdigest(), self._size, info)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None
        if not self._finished:
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - text: pathlib keeps every part of every path


def inspect_image(path: Path, limit_bytes: int = MAX_BYTES) -> ImageInfo:
    """What a local file is, by its structure.

    Raises:
        BadImage: no whole PNG, JPEG or WebP.
        NotFoundError: it cannot be read.
    """
    walker = ImageWalker(limit_bytes)
    try:
        for piece in read_pieces(path, follow=True):
            walker.feed(piece)
    except OSError as error:
        raise NotFoundError(f"cannot read {printable(str(path))}: {error.strerror}") from None
    return walker.finish()


def temp_name() -> str:
    """A new name for a temporary file; no other process, and no later one, gives the same."""
    return f"{TEMP_PREFIX}{_RUN}-{os.getpid():x}-{next(_numbers):x}{TEMP_SUFFIX}"


def is_temp(name: str) -> bool:
    """Whether a file's name is one of ours for temporary files."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; the system may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_pieces(path: Path, *, follow: bool = False) -> Iterator[bytes]:
    """A regular file in pieces; anything else is an OSError. A link is one unless ``follow``."""
    flags = _READ if follow else _READ | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        while piece := file.read(_PIECE):
            yield piece
