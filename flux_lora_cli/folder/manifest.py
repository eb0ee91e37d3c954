"""``manifest.json``, version 1: the readable picture of a folder. Streamed out and in, one job per line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from flux_lora_cli._version import __version__
from flux_lora_cli.errors import ManifestDamaged, NotFoundError
from flux_lora_cli.folder import files
from flux_lora_cli.folder.entries import KINDS, EntryError, decimal_text, dumps, loads, many, read_fields, write_fields
from flux_lora_cli.folder.records import JobRecord, State, record_of
from flux_lora_cli.text import printable

MANIFEST_NAME = "manifest.json"
VERSION = 1
#: Bytes: the largest manifest that is read, some 8 times that of 100,000 jobs; the largest that another program laid
#: out, which takes ten times its size in memory; what stands before the jobs, and the largest line.
MAX_BYTES, _MAX_WHOLE, _MAX_HEAD, _MAX_LINE = 1 << 30, 32 << 20, 1 << 20, 32 << 20

_JOBS, _END = b' "jobs": [\n', b" ]}\n"
#: Room for the summary, which is written when the jobs after it are counted.
_SUMMARY_WIDTH = 512
_COUNTS = ("completed", "failed", "unknown", "pending", "skipped", "images", "missing", "nsfw", "nsfw_unknown")


def pause_after_write(took: float) -> float:
    """Seconds until the manifest is written again, after a write that took so many. [CONTRACT: the output folder]"""
    # A little early: what changed right after the write began is that much older.
    return max(5.0 - 2 * took, 20.0 * took)


@dataclass(frozen=True)
class _Source:
    path: str
    sha256: str


KINDS["dict[str, str]"] = many(_Source, lambda sources: {source.path: source.sha256 for source in sources})


@dataclass(slots=True)
class Manifest:
    """A manifest as it was read; ``records`` in their order, keyed and numbered like the ledger's."""

    service: str
    sandbox: bool
    created_at: str
    updated_at: str
    sources: dict[str, str] = field(default_factory=dict)  # SHA-256 of preset files, by path as the user named it
    records: list[JobRecord] = field(default_factory=list)


# ---- the summary ----------------------------------------------------------------------------


def tally(record: JobRecord, cost: Decimal | None) -> str:
    """What a record adds to the summary: its state, images, missing, nsfw, nsfw_unknown, and cost (``-``: unknown)."""
    state = "pending" if record.state in (State.PLANNED, State.SUBMITTING, State.SUBMITTED) else record.state.value
    outputs = record.outputs if record.state is State.COMPLETED else []
    saved = sum(output.file is not None for output in outputs)
    flags = [output.nsfw for output in outputs]
    usd = decimal_text(cost) or "-"
    return f"{state} {saved} {len(record.missing)} {flags.count(True)} {flags.count(None)} {usd}"


def summary(records: Iterable[JobRecord]) -> dict[str, Any]:
    """The records counted as the manifest's ``summary`` does."""
    return _summed(Counter(tally(record, record.cost) for record in records))


def _summed(tallies: Counter[str]) -> dict[str, Any]:
    """The manifest's ``summary``.

    ``images`` are those saved; ``missing`` those of completed jobs that were asked for and have no file; ``nsfw`` and
    ``nsfw_unknown`` count every output of completed jobs; ``cost_usd`` is the sum of the costs that are known, null
    where there are some and none is known.
    """
    counts = {"jobs": tallies.total(), **dict.fromkeys(_COUNTS, 0)}
    costs = []
    for text, times in tallies.items():
        state, *numbers, cost = text.split(" ")
        counts[state] += times
        for name, number in zip(_COUNTS[5:], numbers, strict=True):
            counts[name] += times * int(number)
        costs.append(None if cost == "-" else times * Decimal(cost))
    known = sum((cost for cost in costs if cost is not None), Decimal(0))
    return {**counts, "cost_usd": decimal_text(known) if known or None not in costs else None}


# ---- writing --------------------------------------------------------------------------------


def write_manifest(folder: Path, head: Manifest, rows: Iterable[tuple[str, str]]) -> None:
    """Replace a folder's manifest, durably. Raises OSError: it could not be written; the one before is untouched.

    Args:
        head: its ``records`` are left aside.
        rows: the tally and the entry, as JSON, of each job in order.
    """
    document = {"version": VERSION, "tool": {"name": "flux-lora", "version": __version__}, **write_fields(head)[0]}
    document["sources"] = [{"path": path, "sha256": sha256} for path, sha256 in head.sources.items()]
    lines = ",\n ".join(f"{dumps(name)}: {dumps(value)}" for name, value in document.items())

    def stream(file: BinaryIO) -> None:
        file.write(f'{{{lines},\n "summary": '.encode())
        place = file.tell()
        file.write(b" " * _SUMMARY_WIDTH + b",\n" + _JOBS)
        tallies, separator = Counter[str](), ""
        for text, entry in rows:
            file.write(f"{separator}  {entry}".encode())
            tallies[text], separator = tallies[text] + 1, ",\n"
        file.write((b"\n" if tallies else b"") + _END)
        file.seek(place)
        file.write(dumps(_summed(tallies)).encode().ljust(_SUMMARY_WIDTH))

    files.write_atomically(folder / MANIFEST_NAME, stream)


# ---- reading --------------------------------------------------------------------------------


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder (or the file itself): the one reader, for whatever may have come from elsewhere.

    Raises NotFoundError; LedgerNewer: a later version wrote it; ManifestDamaged: it cannot be read, or something in it
    is not as the format says, at the place that the message names.
    """
    path = path if path.name == MANIFEST_NAME else path / MANIFEST_NAME
    manifest, records = scan(path)
    manifest.records.extend(records)
    return manifest


def scan(path: Path) -> tuple[Manifest, Iterator[JobRecord]]:
    """The head of a manifest, and its records one by one; raises as ``read_manifest``, also while iterating."""
    with _explained(path):
        if path.stat().st_size > MAX_BYTES:
            raise EntryError("it is too large")
        file = files.open_regular(path)
        start = file.read(_MAX_HEAD)
        end = start.find(_JOBS) + len(_JOBS)
        if start.startswith(b'{"version"') and end >= len(_JOBS):
            document = loads((start[:end] + b"]}").decode())
            file.seek(end)
            jobs = _entries(file)
        else:  # laid out by another program
            with file:
                start += file.read(_MAX_WHOLE)
            if len(start) > _MAX_WHOLE:
                raise EntryError(f"it is larger than {_MAX_WHOLE:,} bytes, and not laid out one job per line")
            document = loads(start.decode("utf-8-sig"))
            if not isinstance(document, dict) or not isinstance(document.get("jobs"), list):
                raise EntryError("it has no list of jobs")
            jobs = iter(document["jobs"])
        version = document.get("version")
        if isinstance(version, int) and version > VERSION:
            raise files.newer(path, version, VERSION)
        if version != VERSION:
            raise EntryError("it has no version")
        return Manifest(**read_fields(Manifest, document, "manifest")), _records(path, jobs)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        what = f"there is no {MANIFEST_NAME} in {path.parent}"
        raise NotFoundError(what, "Name a folder that batch or wait wrote.") from None
    except (OSError, UnicodeDecodeError, EntryError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ManifestDamaged(
            f"{path} cannot be read, or is damaged: {printable(what)}",
            "Restore it from a backup. With the ledger beside it, it can be moved away: a run writes it anew.",
        ) from None


def _records(path: Path, entries: Iterator[Any]) -> Iterator[JobRecord]:
    keys: set[str] = set()
    with _explained(path):
        for number, value in enumerate(entries):
            record = record_of(value, f"jobs[{number}]", number)
            if record.key in keys:
                raise EntryError(f"jobs[{number}] has the fingerprint or the task of another")
            if any(output.file and files.inside(path.parent, output.file) is None for output in record.outputs):
                raise EntryError(f"an output of jobs[{number}] leads out of the folder by way of a link")
            keys.add(record.key)
            yield record


def _entries(file: BinaryIO) -> Iterator[Any]:
    with file:
        while (line := file.readline(_MAX_LINE)) != _END:
            if not line.startswith(b"  {") or not line.endswith(b"\n"):
                raise EntryError("it breaks off, or is not JSON, among its jobs")
            yield loads(line.strip().removesuffix(b",").decode())
        if file.read(1):
            raise EntryError("something follows its end")
