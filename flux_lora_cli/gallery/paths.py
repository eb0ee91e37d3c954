"""Paths out of a manifest: checked to stay inside their folder, and written as relative links."""

from __future__ import annotations

import os
import secrets
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from flux_lora_cli.errors import UsageError

#: What the tool saves, and so what a manifest may name as an image.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


def confined(folder: Path, relative: object) -> Path | None:
    """The file that a manifest names, or None where it is not an existing file inside ``folder``.

    Refused are absolute paths, drive letters, backslashes, ``..``, and links that lead out.
    """
    if not isinstance(relative, str) or not relative or any(c in relative for c in "\\:\0"):
        return None
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts:
        return None
    try:
        root = folder.resolve(strict=True)
        found = (root / parts).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    return found if found.is_file() and found.is_relative_to(root) else None


def confined_image(folder: Path, relative: object) -> Path | None:
    """As :func:`confined`, for files with the suffix of an image."""
    found = confined(folder, relative)
    if found is None or found.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    return found if PurePosixPath(str(relative)).suffix.lower() in IMAGE_SUFFIXES else None


def link_base(page_folder: Path, folder: Path) -> str:
    """``folder`` as a URL prefix relative to the page's folder: ``""`` or ``"../other/"``.

    Raises:
        UsageError: no relative path leads there (another drive on Windows).
    """
    try:
        relative = os.path.relpath(folder.resolve(), page_folder.resolve())
    except ValueError as error:
        raise UsageError(
            f"no relative link leads from {page_folder} to {folder}",
            "write the page on the same drive as the images",
        ) from error
    relative = relative.replace(os.sep, "/")
    return "" if relative == "." else quote(relative) + "/"


def link(relative: str) -> str:
    """A checked relative path as a URL path: ``a b#1.png`` becomes ``a%20b%231.png``."""
    return quote(relative, errors="surrogatepass")


def new_beside(target: Path) -> Path:
    """An empty new file in the target's folder, which is made; to be written, then renamed.

    The name begins with a dot and is drawn, and the file is created, never followed: a link that
    somebody left in the folder is not written through.

    Raises:
        OSError: the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{secrets.token_hex(8)}.tmp")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path
