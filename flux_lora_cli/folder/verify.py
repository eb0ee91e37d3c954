"""Every file of a folder against its manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.folder.files import on_disk
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.ledger import LEDGER_NAME, read_ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.records import JobRecord, error_parts
from flux_lora_cli.text import printable

_INPUT = re.compile(r"inputs/[0-9a-f]{64}\.[A-Za-z0-9]+")
#: Besides dot files: what the tool itself keeps in a folder.
_OWN = frozenset({MANIFEST_NAME, "index.html", LEDGER_NAME, f"{LEDGER_NAME}-journal"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one file.

    Attributes:
        kind: ``ok``, ``missing``, ``altered``; ``never_saved`` (an image that was asked for and has no file);
            ``foreign`` (a file that nobody knows).
        path: relative to the folder; None for ``never_saved``.
        job, index: the job as messages call it, and the image among its; None for input images and foreign files.
        message: why an image was never saved.
    """

    kind: str
    path: str | None
    job: str | None = None
    index: int | None = None
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether the folder is not whole because of it."""
        return self.kind in ("missing", "altered", "never_saved")


def verify_folder(path: Path) -> Iterator[Finding]:
    """What there is to say of every saved file and every input image, all of whose bytes are read; foreign files last.

    Raises NotFoundError: there is no folder, or neither manifest nor ledger in it; FolderError.
    """
    images = ImageStore(path, read_only=True)
    known: set[str] = set()
    for record in _records(path):
        for output in record.outputs:
            if output.file is not None and output.file not in known:
                known.add(output.file)
                yield Finding(_state_of(images, output.file, output.sha256), output.file, record.name, output.index)
            elif output in record.missing and output.error is not None:
                yield Finding("never_saved", None, record.name, output.index, error_parts(output.error)[1])
        for name in sorted({*input_files(record)} - known):
            known.add(name)
            yield Finding(_state_of(images, name), name)
    for name in images.all_files():
        if name not in known and name not in _OWN and not any(part.startswith(".") for part in name.split("/")):
            yield Finding(_state_of(images, name) if _INPUT.fullmatch(name) else "foreign", name)


def _state_of(images: ImageStore, name: str, sha256: str | None = None) -> str:
    """Of a file and the content that it should have; an input image has that as its name."""
    if not os.path.lexists(images.folder / on_disk(name)):
        return "missing"
    return "ok" if images.sha256(name) == (sha256 or Path(name).stem) else "altered"


def _records(path: Path) -> list[JobRecord]:
    """As the manifest has them; by the ledger where there is no manifest."""
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {printable(str(path))}")
    if os.path.lexists(path / MANIFEST_NAME) or not os.path.lexists(path / LEDGER_NAME):
        return read_manifest(path).records
    return read_ledger(path).records


def input_files(record: JobRecord) -> Iterator[str]:
    """The paths of a job's local input images (``inputs/SHA256.ext``)."""
    request = record.input or {}
    several = request.get("images")
    for value in (request.get("image"), request.get("mask_image"), *(several if isinstance(several, list) else ())):
        if isinstance(value, str) and _INPUT.fullmatch(value):
            yield value
