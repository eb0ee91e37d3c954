"""Every file of a folder against what its records say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from flux_lora_cli.domain.records import Finding, JobRecord

_INPUT = re.compile(r"inputs/([0-9a-f]{64})\.[A-Za-z0-9]+")
#: Besides dot files: what the tool itself keeps in a folder.
_OWN = frozenset({"manifest.json", "index.html", "ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"})


class Files(Protocol):
    """The folder's files; paths are relative, with ``/``."""

    def check(self, path: str, size: int | None, sha256: str | None) -> Finding:
        """Read a file whole and compare."""

    def names(self) -> Iterator[str]:
        """Every file of the folder."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that should be there; of an input image, ``job`` and ``bytes`` are None."""

    path: str
    sha256: str | None
    bytes: int | None
    job: str | None


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        never_saved: images of completed jobs that were asked for and have no file yet.
        foreign: files that nobody knows, in no order.
    """

    checked: int = 0
    bytes: int = 0
    missing: int = 0
    altered: int = 0
    never_saved: int = 0
    foreign: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every saved file is there and unaltered."""
        return not self.missing and not self.altered

    def count(self, finding: Finding) -> None:
        """Add one finding."""
        self.missing += finding is Finding.MISSING
        self.altered += finding is Finding.ALTERED


def verify(
    records: Iterable[JobRecord],
    files: Files,
    found: Callable[[Expected, Finding], None],
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Read every byte of every saved file and of every input image.

    Args:
        records: gone through once.
        found: told of each file, in the order of the records.
        progress: called after each file.
    """
    report = Report()
    known: set[str] = set()

    def look(expected: Expected) -> None:
        if expected.path in known:
            return
        known.add(expected.path)
        finding = files.check(expected.path, expected.bytes, expected.sha256)
        report.checked += 1
        report.bytes += expected.bytes or 0
        report.count(finding)
        found(expected, finding)
        progress(report)

    for record in records:
        for expected in expected_files(record):
            look(expected)
        if record.state.value == "completed":
            report.never_saved += sum(o.file is None and not o.left_out for o in record.outputs)
    for path in files.names():
        if path in known or path in _OWN or any(part.startswith(".") for part in path.split("/")):
            continue
        match = _INPUT.fullmatch(path)
        if match:
            look(Expected(path, match[1], None, None))
        else:
            report.foreign.append(path)
    return report


def expected_files(record: JobRecord) -> Iterator[Expected]:
    """Yield the files that a record says are there: its images, and its input image."""
    for output in record.outputs:
        if output.file is not None:
            yield Expected(output.file, output.sha256, output.bytes, record.id or record.task_id)
    name = input_file(record)
    if name is not None:
        yield Expected(name, name[7:71], None, None)


def input_file(record: JobRecord) -> str | None:
    """Return the path of a job's local input image (``inputs/SHA256.ext``), None where it has none."""
    image = None if record.input is None else record.input.get("image")
    return image if isinstance(image, str) and _INPUT.fullmatch(image) else None
