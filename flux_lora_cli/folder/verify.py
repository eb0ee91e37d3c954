"""Every file of a folder against its manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.folder import files
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.ledger import LEDGER_NAME, read_ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.records import JobRecord, error_parts

_INPUT = re.compile(r"inputs/[0-9a-f]{64}\.[A-Za-z0-9]+")
#: What the tool itself keeps in a folder: dot files, and these.
_OWN = re.compile(rf"(?:.*/)?\..*|{MANIFEST_NAME}|index\.html|{LEDGER_NAME}(?:-journal)?", re.DOTALL)


def input_files(record: JobRecord) -> Iterator[str]:
    """The paths of a job's local input images (``inputs/SHA256.ext``)."""
    request = record.input or {}
    several = request.get("images")
    for value in (request.get("image"), *(several if isinstance(several, list) else ())):
        if isinstance(value, str) and _INPUT.fullmatch(value):
            yield value


def existing(folder: Path) -> Path:
    with files.explained(folder):
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {folder}")
    return folder


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one file; ``path`` is relative to the folder, None for ``never_saved``.

    Of input images and foreign files, ``job`` (as messages call it) and ``index`` (of the image) are None.
    """

    kind: str  # ok, missing, altered; never_saved (asked for, without a file); foreign (a file that nobody knows)
    path: str | None
    job: str | None = None
    index: int | None = None
    message: str = ""  # why an image was never saved

    @property
    def counts(self) -> bool:
        """Whether the folder is not whole because of it."""
        return self.kind in ("missing", "altered", "never_saved")


def verify_folder(path: Path) -> Iterator[Finding]:
    """What there is to say of every saved file and every input image, all of whose bytes are read; foreign files last.

    Raises NotFoundError: there is no folder, or neither manifest nor ledger in it; FolderError.
    """
    images = ImageStore(existing(path), read_only=True)
    only_ledger = not os.path.lexists(path / MANIFEST_NAME) and os.path.lexists(path / LEDGER_NAME)
    known: set[str] = set()
    for record in (read_ledger if only_ledger else read_manifest)(path).records:
        for output in record.outputs:
            if output.file is not None and output.file not in known:
                known.add(output.file)
                yield Finding(_kind_of(images, output.file, output.sha256), output.file, record.name, output.index)
            elif output in record.missing and output.error is not None:
                yield Finding("never_saved", None, record.name, output.index, error_parts(output.error)[1])
        for name in sorted({*input_files(record)} - known):
            known.add(name)
            yield Finding(_kind_of(images, name), name)
    for name in images.all_files():
        if name not in known and not _OWN.fullmatch(name):
            yield Finding(_kind_of(images, name) if _INPUT.fullmatch(name) else "foreign", name)


def _kind_of(images: ImageStore, name: str, sha256: str | None = None) -> str:
    """Of a file and the content that it should have; an input image has that as its name."""
    if not os.path.lexists(images.folder / files.on_disk(name)):
        return "missing"
    return "ok" if images.sha256(name) == (sha256 or Path(name).stem) else "altered"
