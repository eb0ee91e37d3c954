"""Every file of a folder against its manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.folder.entries import decimal_text
from flux_lora_cli.folder.files import on_disk
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.ledger import LEDGER_NAME, read_ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.records import JobRecord, PastTask, error_parts
from flux_lora_cli.text import printable

_INPUT = re.compile(r"inputs/([0-9a-f]{64})\.[A-Za-z0-9]+")
#: Besides dot files: what the tool itself keeps in a folder.
_OWN = frozenset({MANIFEST_NAME, "index.html", LEDGER_NAME, f"{LEDGER_NAME}-journal"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one file or task.

    Attributes:
        kind: ``ok``, ``missing``, ``altered``; ``never_saved`` (an image that was asked for and has no file);
            ``foreign`` (a file that nobody knows); ``history`` (an earlier task of a job).
        path: relative to the folder; None where it is not about a file.
        job: what messages call the job; None for input images and foreign files.
        index: of the image among the job's; None likewise.
        message: why an image was never saved; what became of an earlier task.
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
        for past in record.history:
            yield Finding("history", None, record.name, None, _told(past))
        for output in record.outputs:
            if output.file is not None and output.file not in known:
                known.add(output.file)
                kind = _state_of(images, output.file, output.bytes, output.sha256)
                yield Finding(kind, output.file, record.name, output.index)
            elif output in record.missing and output.error is not None:
                yield Finding("never_saved", None, record.name, output.index, error_parts(output.error)[1])
        for name in input_files(record):
            if name not in known:
                known.add(name)
                yield Finding(_state_of(images, name, None, name[7:71]), name)
    for name in images.all_files():
        if name in known or name in _OWN or any(part.startswith(".") for part in name.split("/")):
            continue
        is_input = _INPUT.fullmatch(name)
        yield Finding(_state_of(images, name, None, is_input[1]) if is_input else "foreign", name)


def _told(past: PastTask) -> str:
    """An earlier task in words, with what support needs for a claim."""
    charged = "an unknown price" if past.cost is None else f"${decimal_text(past.cost)}"
    refunded = f", ${decimal_text(past.refunded)} refunded" if past.refunded else ""
    what = past.error or "its outcome is not known"
    return f"earlier task {past.task_id or '(ID not known)'}: {what}; charged {charged}{refunded}"


def _state_of(images: ImageStore, name: str, size: int | None, sha256: str | None) -> str:
    if not os.path.lexists(images.folder / on_disk(name)):
        return "missing"
    found = images.stat(name)
    is_right = found is not None and size in (None, found[0]) and images.sha256(name) == sha256
    return "ok" if is_right else "altered"


def _records(path: Path) -> list[JobRecord]:
    """As the manifest has them; by the ledger where there is no manifest."""
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {printable(str(path))}")
    try:
        return read_manifest(path).records
    except NotFoundError:
        if not (path / LEDGER_NAME).exists():
            raise
    return read_ledger(path).records


def input_files(record: JobRecord) -> Iterator[str]:
    """The paths of a job's local input images (``inputs/SHA256.ext``)."""
    request = record.input or {}
    several = request.get("images")
    for value in (request.get("image"), request.get("mask_image"), *(several if isinstance(several, list) else ())):
        if isinstance(value, str) and _INPUT.fullmatch(value):
            yield value
