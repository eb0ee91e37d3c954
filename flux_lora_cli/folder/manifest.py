"""``manifest.json``, version 1: the readable picture of a folder. Streamed out and in, one job per line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import FolderError, LedgerNewer, ManifestDamaged, NotFoundError
from flux_lora_cli.folder import files
from flux_lora_cli.folder.entries import decimal_text, dumps
from flux_lora_cli.folder.reading import EntryError, loads, record_of
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.text import printable

MANIFEST_NAME = "manifest.json"
VERSION = 1
#: Seconds between two writes while a run goes on; and how many times longer than a write the pause is, at least.
SECONDS_BETWEEN_WRITES = 5.0
TIMES_THE_LAST_WRITE = 20.0
#: Largest manifest that is read: some 8 times that of 100,000 jobs. One that another program has laid out has to be
#: read whole, which takes ten times its size in memory.
MAX_BYTES, MAX_FOREIGN_BYTES = 1 << 30, 32 << 20

_MAX_LINE = 32 << 20
_MAX_HEAD_LINES = 12
_JOBS = b' "jobs": [\n'
_END = b" ]}\n"
#: Room for the summary, which is written when the jobs after it are counted.
_SUMMARY_WIDTH = 512

_PENDING = frozenset({State.PLANNED.value, State.SUBMITTING.value, State.SUBMITTED.value})


@dataclass(slots=True)
class Cadence:
    """When to write the manifest again: at most 5 s behind, or 20 times what the last write took.

    All times are seconds of one monotonic clock, handed in.
    """

    dirty: bool = False
    _last_end: float | None = None
    _last_took: float = 0.0

    def touch(self) -> None:
        """Something changed."""
        self.dirty = True

    def writing(self) -> None:
        """A write begins: what changes from now on needs another."""
        self.dirty = False

    def wrote(self, began: float, ended: float) -> None:
        """A write has ended."""
        self._last_end, self._last_took = ended, ended - began

    def due(self, now: float) -> bool:
        """Whether to write now; at once before the first write."""
        if not self.dirty:
            return False
        if self._last_end is None:
            return True
        # A little early: what changed right after the last write began is that much older.
        pause = max(SECONDS_BETWEEN_WRITES - 2 * self._last_took, TIMES_THE_LAST_WRITE * self._last_took)
        return now >= self._last_end + pause


@dataclass(frozen=True, slots=True)
class Source:
    """A preset file that jobs came from; ``path`` as the user named it, ``-`` for standard input."""

    path: str
    sha256: str


@dataclass(slots=True)
class Manifest:
    """A manifest as it was read; ``records`` in their order, keyed and numbered like the ledger's."""

    service: str
    sandbox: bool
    created_at: str
    updated_at: str
    tool_version: str
    sources: list[Source] = field(default_factory=list)
    records: list[JobRecord] = field(default_factory=list)


class Summary:
    """The manifest's ``summary``, one record at a time.

    ``images`` are those saved; ``missing`` those of completed jobs that were asked for and have no file; ``nsfw`` and
    ``nsfw_unknown`` count every output of completed jobs; ``cost_usd`` is the sum of the costs that are known, null
    where there are some and none is known.
    """

    def __init__(self) -> None:
        self._tallies: Counter[str] = Counter()

    def add(self, tally: str) -> None:
        """Count a record by its ``tally``."""
        self._tallies[tally] += 1

    def document(self) -> dict[str, Any]:
        """What was counted, as it is written."""
        names = ("completed", "failed", "unknown", "pending", "skipped", "images", "missing", "nsfw", "nsfw_unknown")
        counts = {"jobs": self._tallies.total(), **dict.fromkeys(names, 0)}
        cost, known, unknown = Decimal(0), False, False
        for tally, times in self._tallies.items():
            state, *numbers, amount = tally.split(" ")
            counts["pending" if state in _PENDING else state] += times
            for name, number in zip(names[5:], numbers, strict=True):
                counts[name] += times * int(number)
            if amount == "-":
                unknown = True
            elif amount != "0":
                known, cost = True, cost + times * Decimal(amount)
        return {**counts, "cost_usd": decimal_text(cost) if known or not unknown else None}


def tally(record: JobRecord) -> str:
    """What a record adds to the summary: its state, images, missing, nsfw, nsfw_unknown, and cost (``-``: unknown)."""
    cost = decimal_text(record.cost) or "-"
    if record.state is not State.COMPLETED:
        return f"{record.state.value} 0 0 0 0 {cost}"
    saved = flagged = unsaid = 0
    for output in record.outputs:
        saved += output.file is not None
        flagged += output.nsfw is True
        unsaid += output.nsfw is None
    return f"completed {saved} {len(record.missing)} {flagged} {unsaid} {cost}"


def summary(records: Iterable[JobRecord]) -> dict[str, Any]:
    """The records counted as the manifest's ``summary`` does."""
    counted = Summary()
    for record in records:
        counted.add(tally(record))
    return counted.document()


def write_manifest(folder: Path, head: Manifest, rows: Iterable[tuple[str, str]]) -> None:
    """Replace a folder's manifest; on return it is durable.

    Args:
        head: its ``records`` are left aside.
        rows: the tally and the entry, as JSON, of each job in order.

    Raises:
        OSError: it could not be written; the one before is untouched.
    """
    files.write_atomically(folder / MANIFEST_NAME, lambda file: _stream(file, head, rows))


def _stream(file: BinaryIO, head: Manifest, rows: Iterable[tuple[str, str]]) -> None:
    document = {
        "version": VERSION,
        "tool": {"name": "flux-lora", "version": __version__},
        "service": head.service,
        "sandbox": head.sandbox,
        "created_at": head.created_at,
        "updated_at": head.updated_at,
        "sources": [{"path": source.path, "sha256": source.sha256} for source in head.sources],
    }
    lines = ",\n ".join(f"{dumps(name)}: {dumps(value)}" for name, value in document.items())
    file.write(f'{{{lines},\n "summary": '.encode())
    place = file.tell()
    file.write(b" " * _SUMMARY_WIDTH + b",\n" + _JOBS)
    counted = Summary()
    separator = "  "
    for tally_, entry in rows:
        counted.add(tally_)
        file.write((separator + entry).encode())
        separator = ",\n  "
    file.write((b"\n" if separator != "  " else b"") + _END)
    file.seek(place)
    file.write(dumps(counted.document()).encode().ljust(_SUMMARY_WIDTH)[:_SUMMARY_WIDTH])


# ---- reading --------------------------------------------------------------------------------


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder (or the file itself): the one reader, for whatever may have come from elsewhere.

    Raises:
        NotFoundError: there is none.
        ManifestDamaged: it cannot be read, or something in it is not as the format says; the message names the place.
        LedgerNewer: a later version wrote it.
    """
    path = path if path.name == MANIFEST_NAME else path / MANIFEST_NAME
    manifest, entries = scan(path)
    keys: set[str] = set()
    linked: dict[str, bool] = {}
    for number, value in enumerate(entries):
        try:
            record = record_of(loads(value) if isinstance(value, str) else value, f"jobs[{number}]", number)
            if record.key in keys:
                raise EntryError(f"jobs[{number}] has the fingerprint or the task of another")
            _confine(path.parent, record, linked, f"jobs[{number}]")
        except EntryError as error:
            raise damaged(path, str(error)) from None
        keys.add(record.key)
        manifest.records.append(record)
    return manifest


def _confine(folder: Path, record: JobRecord, linked: dict[str, bool], at: str) -> None:
    for output in record.outputs:
        if output.file is None:
            continue
        parent = output.file.rpartition("/")[0]
        if parent not in linked:
            linked[parent] = files.inside(folder, output.file) is None
        if linked[parent]:
            raise EntryError(f"{at}.outputs: {printable(output.file)[:100]} leads out of the folder by way of a link")


def scan(path: Path, *, tolerant: bool = False) -> tuple[Manifest, Iterator[Any]]:
    """The head of a manifest, and its entries one by one: a line of JSON each where this tool wrote it, else decoded.

    Args:
        tolerant: of a damaged manifest, what can be read; ``service`` and ``created_at`` may then be empty.

    Raises:
        NotFoundError, ManifestDamaged, LedgerNewer: as ``read_manifest``; ManifestDamaged also while iterating.
    """
    try:
        file = files.open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no {MANIFEST_NAME} in {printable(str(path.parent))}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise damaged(path, "it is too large")
        lines = [file.readline(_MAX_LINE)]
        if lines[0].startswith(b'{"version"') and lines[0].endswith(b",\n"):
            while len(lines) < _MAX_HEAD_LINES and lines[-1] not in (_JOBS, b""):
                lines.append(file.readline(_MAX_LINE))
        if lines[-1] == _JOBS:
            head = _parsed(path, b"".join(lines) + b"]}", tolerant)
            return _head(path, head, tolerant), _lines(path, file, tolerant)
        file.close()
        document = _parsed(path, _whole_file(path), tolerant)
        jobs = document.pop("jobs", None)
        if not isinstance(jobs, list):
            if not tolerant:
                raise damaged(path, "it has no list of jobs")
            jobs = []
        return _head(path, document, tolerant), iter(jobs)
    except OSError as error:
        raise _unreadable(path, error) from None


def _lines(path: Path, file: BinaryIO, tolerant: bool) -> Iterator[str]:
    with file:
        number = 0
        while (line := file.readline(_MAX_LINE)) and line != _END:
            if not line.startswith(b"  {") or not line.endswith(b"\n"):
                if tolerant:
                    continue
                raise damaged(path, f"it breaks off, or is not JSON, at jobs[{number}]")
            try:
                yield line.strip().removesuffix(b",").decode()
            except UnicodeDecodeError:
                if not tolerant:
                    raise damaged(path, f"jobs[{number}] is not text") from None
            number += 1
        if not tolerant and (line != _END or file.read(1)):
            raise damaged(path, "it breaks off, or goes on after its end")


def _whole_file(path: Path) -> bytes:
    try:
        return files.read_regular_file(path, MAX_FOREIGN_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None


def _parsed(path: Path, data: bytes, tolerant: bool) -> dict[str, Any]:
    try:
        document = loads(data.decode("utf-8-sig"))
        if not isinstance(document, dict):
            raise EntryError("it is not an object")
    except (UnicodeDecodeError, EntryError) as error:
        if tolerant:
            return {}
        raise damaged(path, str(error)) from None
    return document


def _head(path: Path, document: dict[str, Any], tolerant: bool) -> Manifest:
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        raise LedgerNewer(
            f"{printable(str(path))} was written by a later flux-lora (version {version}, this one reads {VERSION})",
            "Upgrade flux-lora: pip install --upgrade flux-lora-cli",
        )

    def text(name: str) -> str:
        value = document.get(name)
        if isinstance(value, str) and 0 < len(value) <= 2048:
            return value
        if tolerant:
            return ""
        raise damaged(path, f"{name} is missing or is not a text")

    if not tolerant and version != VERSION:
        raise damaged(path, "it has no version")
    tool = document.get("tool")
    listed = document.get("sources")
    return Manifest(
        service=text("service"),
        sandbox=document.get("sandbox") is True,
        created_at=text("created_at"),
        updated_at=text("updated_at"),
        tool_version=str(tool.get("version", ""))[:100] if isinstance(tool, dict) else "",
        sources=[
            Source(item["path"], item["sha256"])
            for item in (listed if isinstance(listed, list) else ())
            if isinstance(item, dict) and isinstance(item.get("path"), str) and isinstance(item.get("sha256"), str)
        ],
    )


def damaged(path: Path, what: str) -> ManifestDamaged:
    """The error for a manifest that cannot be used."""
    return ManifestDamaged(
        f"{printable(str(path))} is damaged: {printable(what)}",
        "Restore it from a backup. With the ledger beside it, it can be moved away: a run writes it anew.",
    )


def _unreadable(path: Path, error: OSError) -> FolderError:
    return ManifestDamaged(
        f"{printable(str(path))} cannot be read: {printable(error.strerror or str(error))}",
        "Check what lies under this name; with the ledger beside it, it can be moved away: a run writes it anew.",
    )
