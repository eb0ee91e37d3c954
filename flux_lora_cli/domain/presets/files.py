"""What the preset language needs of the file system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..job import LocalImage


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read. ``path`` as messages show it; ``real`` and ``folder`` absolute, links resolved."""

    path: str
    real: str
    folder: str
    data: bytes
    sha256: str


class PresetFiles(Protocol):
    """Confined reading. ``root`` is the folder of the file on the command line, ``folder`` that of the asking file."""

    def source(self, path: str) -> SourceFile:
        """A file named on the command line. Raises NotFoundError, PresetError (too large, no file)."""

    def beside(self, path: str, folder: str, root: str) -> SourceFile:
        """A file that a preset names. Raises problems.FileRefused, also where it lies outside ``root``."""

    def image(self, path: str, folder: str, root: str) -> LocalImage:
        """An input image that a preset names. Raises problems.FileRefused."""

    def given_image(self, path: str) -> LocalImage:
        """An input image named on the command line. Raises NotFoundError, UsageError."""

    def names(self, folder: str, suffix: str) -> Sequence[str]:
        """Relative names (``/`` between folders, no suffix) of the files below a folder, for nearest names."""
