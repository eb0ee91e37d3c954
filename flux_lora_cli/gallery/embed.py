"""Copies of a run's images with the request inside. The run's own folder is never altered."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux_lora_cli.errors import BadImage, FolderError, ImageError, NotFoundError, UsageError
from flux_lora_cli.gallery import containers
from flux_lora_cli.gallery.metadata import parameters_text, record_json, request_record
from flux_lora_cli.gallery.paths import confined, confined_image, new_beside
from flux_lora_cli.gallery.run import Picture, Run, RunJob

#: Larger files are not read for a request. Bytes; the tool itself saves none above 100 MB.
READ_LIMIT = 128 << 20


@dataclass(frozen=True, slots=True)
class Embedded:
    """One image: ``path`` of its copy, or ``problem``, why there is none; not ``new``: it stood there already."""

    file: str
    path: Path | None = None
    problem: str = ""
    new: bool = True


def embed_run(run: Run, target: Path) -> Iterator[Embedded]:
    """Copy each saved image of ``run`` into ``target`` under its own name, with its request inside.

    A copy that is there already, byte for byte, is left; nothing is ever overwritten.

    Raises:
        UsageError: ``target`` is the run's folder, or lies in it.
        FolderError: ``target`` cannot be written, or holds another file of that name.
    """
    check_target(run.folder, target)
    for job, picture in run.pictures():
        if picture.file is not None:
            yield _embed(run, job, picture, picture.file, target)


def check_target(source: Path, target: Path) -> None:
    """Refuse a target that would alter the run's folder."""
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"{target} lies in the run's own folder, which is never altered", "name another folder with -o"
        )


def _embed(run: Run, job: RunJob, picture: Picture, file: str, target: Path) -> Embedded:
    source = confined_image(run.folder, file)
    if source is None:
        return Embedded(file, problem="the file is gone")
    if source.stat().st_size > READ_LIMIT:
        return Embedded(file, problem=f"the file is larger than {READ_LIMIT >> 20} MB")
    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        return Embedded(file, problem="the file is not the one that the manifest describes")
    texts = containers.Texts(record_json(request_record(run, job, picture)), parameters_text(job))
    try:
        filled = containers.insert(data, texts)
    except ImageError as error:
        return Embedded(file, problem=error.message)
    _copy_input(run, job, target)
    path = _inside(target, file)
    return Embedded(file, path, new=_write_new(path, filled))


def _copy_input(run: Run, job: RunJob, target: Path) -> None:
    """The input image that a request names, so that the copies can be replayed by themselves."""
    named = job.input.get("image")
    if not isinstance(named, str) or not named.startswith("inputs/"):
        return
    source = confined(run.folder, named)
    if source is not None and not (target / named).exists():
        _write_new(_inside(target, named), source.read_bytes())


def _inside(target: Path, relative: str) -> Path:
    """The place of a copy; a link in the target folder that leads out of it is not followed."""
    path = target / relative
    if not path.parent.resolve().is_relative_to(target.resolve()):
        raise FolderError(f"{path.parent} leads out of {target}", "name another folder with -o")
    return path


def _write_new(path: Path, data: bytes) -> bool:
    """Write a file under a name that is free; False where these very bytes stand there."""
    try:
        if path.exists() or path.is_symlink():
            return _same(path, data)
        temporary = new_beside(path)
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            _claim(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return _same(path, data)
    except OSError as error:
        raise FolderError(f"{path} cannot be written: {error.strerror or error}") from error
    return True


def _claim(temporary: Path, path: Path) -> None:
    """Give the finished file its name, unless the name was taken meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("xb") as stream, temporary.open("rb") as source:
            shutil.copyfileobj(source, stream)


def _same(path: Path, data: bytes) -> bool:
    if path.is_symlink() or not path.is_file() or path.read_bytes() != data:
        raise FolderError(
            f"{path} is there already and is another file",
            "embed never overwrites: name another folder with -o",
        )
    return False


def read_embedded(path: Path) -> dict[str, Any] | None:
    """The request that an image carries (see ``metadata.request_record``); None where it carries none.

    Raises:
        NotFoundError: there is no such file.
        BadImage: it cannot be read, or is larger than any image of this tool.
    """
    try:
        if path.stat().st_size > READ_LIMIT:
            raise BadImage(f"{path} is larger than {READ_LIMIT >> 20} MB")
        return containers.read_record(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{path}: no such file") from error
    except OSError as error:
        raise BadImage(f"{path} cannot be read: {error.strerror or error}") from error
