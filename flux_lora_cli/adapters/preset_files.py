"""Files of presets, read under confinement: a preset may come from a stranger."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..domain.job import LocalImage
from ..domain.presets.files import SourceFile
from ..domain.presets.problems import FileRefused, Problem
from ..errors import NotFoundError, PresetError, UsageError

if TYPE_CHECKING:
    from ..domain.presets import Loaded, LoadOptions

#: A preset of 100,000 jobs has about 10 MB.
MOST_SOURCE_BYTES = 32 * 1024 * 1024
#: As the limit on output images.
MOST_IMAGE_BYTES = 100_000_000
#: Files looked at to find the nearest name of a wildcard.
_MOST_NAMES = 2_000


class FolderPresetFiles:
    """Reads presets from disk. Implements ``domain.presets.files.PresetFiles``.

    Args:
        allow: folders below which presets may name files, besides their own (``--allow-path``).

    Raises:
        NotFoundError: one of those folders does not exist.
    """

    def __init__(self, allow: Sequence[str | Path] = ()) -> None:
        for folder in allow:
            if not Path(folder).exists():
                raise NotFoundError(f"--allow-path: {folder}: no such folder")
        self._allowed = [os.path.realpath(folder) for folder in allow]
        self._images: dict[str, LocalImage] = {}

    def source(self, path: str) -> SourceFile:
        """A file named on the command line. Raises NotFoundError, PresetError."""
        real = os.path.realpath(path)
        try:
            data = _read(real, MOST_SOURCE_BYTES)
        except FileRefused as error:
            if not Path(real).exists():
                raise NotFoundError(f"{path}: no such file", hint=_near(path)) from None
            problem = Problem(path, 1, 1, "", str(error))
            raise PresetError(str(problem), problems=(problem,)) from None
        return SourceFile(path, real, str(Path(real).parent), data, hashlib.sha256(data).hexdigest())

    def beside(self, path: str, folder: str, root: str) -> SourceFile:
        """A file that a preset names. Raises FileRefused."""
        real = self._confined(path, folder, root)
        data = _read(real, MOST_SOURCE_BYTES)
        return SourceFile(_shown(real), real, str(Path(real).parent), data, hashlib.sha256(data).hexdigest())

    def image(self, path: str, folder: str, root: str) -> LocalImage:
        """An input image that a preset names. Raises FileRefused."""
        return self._image(self._confined(path, folder, root))

    def given_image(self, path: str) -> LocalImage:
        """An input image named on the command line. Raises NotFoundError, UsageError."""
        real = os.path.realpath(path)
        if not Path(real).exists():
            raise NotFoundError(f"--image: {path}: no such file", hint="give a file, or an http(s) URL")
        try:
            return self._image(real)
        except FileRefused as error:
            raise UsageError(f"--image: {path}: {error}") from None

    def names(self, folder: str, suffix: str) -> Sequence[str]:
        """Relative names of the files below a folder, without the suffix."""
        found = []
        for place, _, files in os.walk(folder):
            for name in files:
                if name.endswith(suffix):
                    full = Path(place, name[: -len(suffix)])
                    found.append(os.path.relpath(full, folder).replace(os.sep, "/"))
            if len(found) > _MOST_NAMES:
                break
        return found

    def _confined(self, path: str, folder: str, root: str) -> str:
        if "\0" in path or not path.strip():
            raise FileRefused("no path")
        base = os.path.realpath(root or os.curdir)
        real = os.path.realpath(Path(folder or base, path))
        for allowed in (base, *self._allowed):
            if real == allowed or real.startswith(allowed.rstrip(os.sep) + os.sep):
                return real
        raise FileRefused("lies outside the preset's own folder (links resolved); --allow-path DIR allows more")

    def _image(self, real: str) -> LocalImage:
        image = self._images.get(real)
        if image is None:
            image = self._images[real] = _probe(real)
        return image


def load_preset(path: str | Path, options: LoadOptions | None = None, *, allow: Sequence[str | Path] = ()) -> Loaded:
    """Read, check and expand one preset, for scripts.

    Args:
        path: a preset (.yaml), or a list of jobs (.txt, .csv, .jsonl).
        options: overrides, limits and filters; see ``LoadOptions``.
        allow: folders besides the preset's own that it may read from.

    Raises:
        NotFoundError, UsageError, PresetError: as ``load_sources``.
    """
    from ..domain.presets import load_sources

    return load_sources([str(path)], FolderPresetFiles(allow), options)


def _open(real: str) -> int:
    """A descriptor of a regular file; devices and pipes are never waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(real, flags)
    except FileNotFoundError:
        raise FileRefused("no such file") from None
    except OSError as error:
        raise FileRefused(f"cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileRefused("is not a file")
    return descriptor


def _read(real: str, most: int) -> bytes:
    with os.fdopen(_open(real), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise FileRefused(f"is too large: {size} bytes; at most {most} are read")
        data = file.read(most + 1)
    if len(data) > most:
        raise FileRefused(f"is too large: at most {most} bytes are read")
    return data


def _kind(head: bytes) -> tuple[str, str] | None:
    """(media type, extension) by the first bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png", "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", "jpg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp", "webp"
    return None


def _probe(real: str) -> LocalImage:
    with os.fdopen(_open(real), "rb") as file:
        kind = _kind(file.read(16))
        if kind is None:
            raise FileRefused("is not an image; allowed: PNG, JPEG, WebP")
        size = os.fstat(file.fileno()).st_size
        if size > MOST_IMAGE_BYTES:
            raise FileRefused(f"is too large for an input image: {size} bytes; at most {MOST_IMAGE_BYTES}")
        file.seek(0)
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return LocalImage(real, digest.hexdigest(), size, *kind)


def _shown(real: str) -> str:
    """A path as short as it can be named from here."""
    here = os.path.relpath(real) if os.name != "nt" or Path(real).drive == Path.cwd().drive else real
    return real if here.startswith("..") else here


def _near(path: str) -> str:
    from ..domain.suggest import nearest

    place = Path(path)
    try:
        names = [entry.name for entry in os.scandir(place.parent)]
    except OSError:
        return f"the folder {place.parent} does not exist"
    found = nearest(place.name, names)
    return f"did you mean {place.parent / found}?" if found else ""
