"""Every file of a folder against its manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flux_lora_cli.errors import NotFoundError
from flux_lora_cli.folder.images import ImageStore
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.records import JobRecord, State, error_parts
from flux_lora_cli.text import printable

_INPUT = re.compile(r"inputs/([0-9a-f]{64})\.[A-Za-z0-9]+")
#: Besides dot files: what the tool itself keeps in a folder.
_OWN = frozenset({MANIFEST_NAME, "index.html", LEDGER_NAME, f"{LEDGER_NAME}-journal"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one file.

    Attributes:
        kind: ``ok``, ``missing``, ``altered``; ``never_saved`` (an image that was asked for and has no file);
            ``foreign`` (a file that nobody knows).
        path: relative to the folder; None for ``never_saved``.
        job: what messages call the job; None for input images and foreign files.
        index: of the image among the job's; None likewise.
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


def verify_folder(path: Path, found: Callable[[Finding], None] = lambda finding: None) -> list[Finding]:
    """Read every byte of every saved file and of every input image, and compare.

    Args:
        found: told of each file as it is read, those that are OK too.

    Returns:
        What is not OK; foreign files last.

    Raises:
        NotFoundError: there is no folder, or neither manifest nor ledger in it.
        ManifestDamaged, LedgerDamaged, FolderError.
    """
    images = ImageStore(path, read_only=True)
    findings: list[Finding] = []
    known: set[str] = set()

    def tell(finding: Finding) -> None:
        found(finding)
        if finding.kind != "ok":
            findings.append(finding)

    def compare(name: str, size: int | None, sha256: str | None, job: str | None, index: int | None) -> None:
        if name not in known:
            known.add(name)
            tell(Finding(_state_of(images, name, size, sha256), name, job, index))

    for record in _records(path):
        for output in record.outputs:
            if output.file is not None:
                compare(output.file, output.bytes, output.sha256, record.name, output.index)
            elif record.state is State.COMPLETED and output.error is not None and not output.left_out:
                tell(Finding("never_saved", None, record.name, output.index, error_parts(output.error)[1]))
        for name in input_files(record):
            compare(name, None, name[7:71], None, None)
    for name in images.all_files():
        if name in known or name in _OWN or any(part.startswith(".") for part in name.split("/")):
            continue
        if match := _INPUT.fullmatch(name):
            compare(name, None, match[1], None, None)
        else:
            tell(Finding("foreign", name))
    return findings


def _state_of(images: ImageStore, name: str, size: int | None, sha256: str | None) -> str:
    if not os.path.lexists(images.folder / name):
        return "missing"
    found = images.stat(name)
    if found is None or (size is not None and found[0] != size):
        return "altered"
    return "ok" if images.sha256(name) == sha256 else "altered"


def _records(path: Path) -> Iterable[JobRecord]:
    """As the manifest has them; by the ledger where there is no manifest."""
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {printable(str(path))}")
    try:
        return read_manifest(path).records
    except NotFoundError:
        if not (path / LEDGER_NAME).exists():
            raise
    with Ledger.open(path / LEDGER_NAME, None, create=False, read_only=True) as ledger:
        return list(ledger.records())


def input_files(record: JobRecord) -> Iterator[str]:
    """The paths of a job's local input images (``inputs/SHA256.ext``)."""
    request = record.input or {}
    several = request.get("images")
    for value in (request.get("image"), request.get("mask_image"), *(several if isinstance(several, list) else ())):
        if isinstance(value, str) and _INPUT.fullmatch(value):
            yield value
