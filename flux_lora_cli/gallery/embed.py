"""Copies of a folder's images with their requests inside. The folder itself is never altered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import FolderError, ImageError, UsageError
from flux_lora_cli.folder.files import explained, inside, make_folders, read_regular_file, write_atomically
from flux_lora_cli.gallery.metadata import insert, parameters_text, request_json
from flux_lora_cli.gallery.pictures import Picture, is_image, no_job, read_pictures

#: Larger files are not read for a request. Bytes; the tool itself saves none above 100 MB.
READ_LIMIT = 128 << 20


@dataclass(slots=True)
class Embedded:
    """What ``embed_images`` did.

    Attributes:
        written: new copies.
        kept: copies that stood there already, byte for byte.
        left_out: ``(file, reason)`` of images of which there is no copy.
    """

    written: int = 0
    kept: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def embed_images(
    folder: Path,
    target: Path,
    *,
    only: Collection[str] | None = None,
    saved: Callable[[Path, str, bool], None] = lambda path, source, new: None,
) -> Embedded:
    """Copy each saved image of ``folder`` into ``target`` under its own name, with its request inside.

    A copy that stands there already, byte for byte, is left; nothing is ever overwritten.

    Args:
        only: job IDs (or aliases); None: all.
        saved: called for each copy with its path, the image's file, and whether it is new.

    Raises:
        NotFoundError: there is no such folder, or it has no job of an ID in ``only``.
        UsageError: ``target`` is the folder, or lies in it.
        FolderError: ``folder`` cannot be read; ``target`` cannot be written, or holds another file of that name.
    """
    if target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{target} lies in {folder}, which is never altered", "Name another folder with -o.")
    pictures = read_pictures(folder)
    done = Embedded()
    for picture in pictures if only is None else _chosen(pictures, only, folder):
        file = picture.output.file if picture.output else None
        if file is None:
            continue
        try:
            filled = _filled(picture)
        except ImageError as error:
            done.left_out.append((file, error.message))
            continue
        for name in input_names(picture.input):  # so that the copies can be replayed by themselves
            if is_image(folder, name) and not (target / name).exists():
                with explained(folder / name):
                    _write_new(target, name, read_regular_file(folder / name, READ_LIMIT, follow=False))
        new = _write_new(target, file, filled)
        done.written, done.kept = done.written + new, done.kept + (not new)
        saved(target / file, file, new)
    return done


def _chosen(pictures: list[Picture], only: Collection[str], folder: Path) -> list[Picture]:
    names = [{p.record.name, *p.record.aliases} for p in pictures]
    known = set[str]().union(*names)
    for name in only:
        if name not in known:
            raise no_job(folder, name, known)
    return [p for p, own in zip(pictures, names, strict=True) if not own.isdisjoint(only)]


def _filled(picture: Picture) -> bytes:
    if picture.path is None or picture.output is None:
        raise ImageError("the file is gone")
    try:
        data = read_regular_file(picture.path, READ_LIMIT, follow=False)
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != picture.output.sha256:
        raise ImageError("the file is not the one that the manifest describes")
    return insert(data, request_json(picture), parameters_text(picture))


def input_names(request: Mapping[str, Any]) -> list[str]:
    """The kept input images (``inputs/SHA256.ext``) that a request names."""
    images = request.get("images")
    values = [request.get("image"), request.get("mask_image"), *(images if isinstance(images, list) else [])]
    return [value for value in values if isinstance(value, str) and value.startswith("inputs/")]


def _write_new(target: Path, relative: str, data: bytes) -> bool:
    """Write a file under a name that is free; False where these very bytes stand there."""
    path = inside(target, relative)
    if path is None:
        raise FolderError(f"a link in {target} leads out of it", "Name another folder with -o.")
    with explained(path):
        make_folders(path.parent)
        if not path.is_symlink() and not path.exists():
            write_atomically(path, data, mode=0o644)
            return True
        if path.is_symlink() or not path.is_file() or path.read_bytes() != data:
            hint = "Nothing is ever overwritten: name another folder with -o."
            raise FolderError(f"{path} is there already, and is another file", hint)
    return False
