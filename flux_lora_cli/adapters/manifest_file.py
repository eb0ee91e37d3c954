"""``manifest.json`` on disk: replaced in one step, streamed out a few entries at a time, one job a line."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from flux_lora_cli import errors
from flux_lora_cli.adapters.folder_lock import unusable
from flux_lora_cli.adapters.ledger_files import sync_folder
from flux_lora_cli.domain.manifest import Head, Summary, entry, head_document
from flux_lora_cli.domain.records import JobRecord

MANIFEST_NAME = "manifest.json"
#: Largest manifest that is read: some 10 times that of 100,000 jobs.
MAX_BYTES = 1 << 30

_CHUNK = 256
#: Bytes of jobs that are held in memory while they are written, and that are copied at a time.
_IN_MEMORY, _PIECE = 1 << 20, 1 << 18
#: How a line with a job begins, and the lines up to the first.
_JOB = b"  {"
_HEAD_LINES = 9
_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode
_ascii = json.JSONEncoder(allow_nan=False, check_circular=False).encode


class ManifestFile:
    """The manifest of one folder. ``head`` may be changed between two writes.

    Who writes holds ``folder_lock.write_lock``.
    """

    def __init__(self, folder: Path, head: Head) -> None:
        self.path = folder / MANIFEST_NAME
        self.head = head
        self._cleaned = False

    def write(self, records: Iterable[JobRecord]) -> None:
        """Replace the manifest; on return it is durable.

        Args:
            records: in order.

        Raises:
            DiskFull, FolderError: it could not be written; the one before is untouched.
        """
        temporary = self.path.with_name(f".{self.path.name}-{secrets.token_hex(8)}")
        try:
            self._clean()
            try:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    self._stream(file, records)
                    file.flush()
                    os.fsync(handle)
                temporary.replace(self.path)
                sync_folder(self.path.parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            raise unusable(self.path.parent, error) from error

    def _clean(self) -> None:
        """Remove what a writer that was killed left, once."""
        if not self._cleaned:
            for left in self.path.parent.glob(f".{MANIFEST_NAME}-*"):
                left.unlink(missing_ok=True)
            self._cleaned = True

    def _stream(self, file: BinaryIO, records: Iterable[JobRecord]) -> None:
        # The counts stand before the jobs, and a record at rest is unpacked for both: the jobs are kept meanwhile.
        counts = Summary()
        folder, prefix = str(self.path.parent), f".{MANIFEST_NAME}-"
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b", prefix=prefix, dir=folder) as jobs:
            separator, chunk = "\n  ", []
            for record in records:
                awake = record.awake()
                counts.add(awake)
                chunk.append(_line(entry(awake)))
                if len(chunk) == _CHUNK:
                    jobs.write((separator + ",\n  ".join(chunk)).encode())
                    separator, chunk = ",\n  ", []
            if chunk:
                jobs.write((separator + ",\n  ".join(chunk)).encode())
            jobs.seek(0)
            head = head_document(self.head, counts.document())
            lines = [f'"{name}": {_line(value)},' for name, value in head.items()]
            file.write(("{" + "\n ".join(lines) + '\n "jobs": [').encode())
            shutil.copyfileobj(jobs, file, _PIECE)
            file.write(b"\n ]}\n")


def _line(value: object) -> str:
    """Encode as one line; text as it is, but for what UTF-8 cannot carry (half a surrogate pair)."""
    text = _readable(value)
    return text if text.isascii() or _encodable(text) else _ascii(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the folder's manifest as decoded JSON, None where there is none. Its content is not trusted.

    Raises ManifestDamaged (no JSON), FolderError (cannot be read).
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise damaged(path, "it is too large")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise errors.FolderError(f"{path} cannot be read: {error.strerror}") from error
    try:
        document = json.loads(data, **_STRICT)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not valid JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise damaged(path, "it is not an object")
    return document


def read_head(folder: Path) -> dict[str, Any] | None:
    """Return the manifest without its jobs, unchecked; None where there is none.

    Raises ManifestDamaged, FolderError.
    """
    path = folder / MANIFEST_NAME
    if not _own_layout(path):
        document = read_manifest(folder)
        return None if document is None else {**document, "jobs": []}
    with path.open("rb") as file:
        head = [file.readline() for _ in range(_HEAD_LINES)]
    try:
        rest: dict[str, Any] = json.loads(b"".join(head) + b"]}", **_STRICT)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not valid JSON: {str(error)[:100]}") from error
    return rest


def read_entries(folder: Path) -> Iterator[Any]:
    """Yield the entries of ``jobs`` one by one, unchecked; nothing without a manifest.

    As this tool writes it, a line at a time; a manifest that another program has laid out is read whole.

    Raises ManifestDamaged, FolderError.
    """
    path = folder / MANIFEST_NAME
    if not _own_layout(path):
        document = read_manifest(folder)
        jobs = [] if document is None else document.get("jobs")
        if not isinstance(jobs, list):
            raise damaged(path, "it has no list of jobs")
        yield from jobs
        return
    with path.open("rb") as file:
        for line in file:
            if line.startswith(_JOB):
                try:
                    yield json.loads(line.rstrip().removesuffix(b","), **_STRICT)
                except (ValueError, RecursionError) as error:
                    raise damaged(path, f"it is not valid JSON: {str(error)[:100]}") from error


def _own_layout(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = [file.readline(1 << 20) for _ in range(_HEAD_LINES)]
            if not head[0].startswith(b'{"version"') or head[-1] != b' "jobs": [\n':
                return False
            last = b""
            for line in file:
                if last and not last.startswith(_JOB):
                    return False
                last = line
    except OSError:
        return False
    return last == b" ]}\n"


def damaged(path: Path, what: str) -> errors.ManifestDamaged:
    """Return the error for a manifest that cannot be used."""
    return errors.ManifestDamaged(
        f"{path} is damaged ({what})",
        "Restore it from a backup. With the ledger beside it, it can be moved away: a run writes it anew.",
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


_STRICT: Any = {"parse_constant": _refuse_constant, "parse_float": _finite}
