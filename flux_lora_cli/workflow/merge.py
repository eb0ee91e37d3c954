"""Join folders of one service: their files are copied, their records become one ledger."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from flux_lora_cli.domain.merging import charge_id, join, same_charge, worth
from flux_lora_cli.domain.records import JobRecord, OutputRecord
from flux_lora_cli.workflow.verify import input_file

#: Records in one commit. A kill loses at most the record of files that are already copied.
_GROUP = 64


class Source(Protocol):
    """A folder that is joined into another."""

    @property
    def name(self) -> str:
        """For messages."""

    def jobs(self) -> Iterator[JobRecord]:
        """Its records, in order."""


class Copier(Protocol):
    """Copies files from a source into the merged folder, checking their hash."""

    def image(self, source: int, output: OutputRecord) -> OutputRecord:
        """Copy an image; returns it under the name that it got. Without a file where it is not sound."""

    def input(self, source: int, path: str) -> bool:
        """Copy an input image. False where it is not sound."""

    def sync(self) -> None:
        """Make the copied names durable."""


class Target(Protocol):
    """The merged folder's ledger."""

    def get(self, key: str) -> JobRecord | None:
        """One record."""

    def next_order(self) -> int:
        """The position after the last."""

    def meta(self, name: str) -> str | None:
        """A word that was remembered."""

    def save(self, records: Iterable[JobRecord], meta: Mapping[str, str] | None = None) -> None:
        """Write records and words in one durable transaction."""


@dataclass(slots=True)
class Report:
    """What a merge did.

    Attributes:
        twice: jobs that two folders were charged for; both charges count.
        unsound: files of the sources that were missing or altered, and so not taken.
        renamed: images whose name was taken by another, with the name they got.
    """

    jobs: int = 0
    added: int = 0
    updated: int = 0
    images: int = 0
    twice: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the ledger was written."""
        return bool(self.added or self.updated)


class Merge:
    """One merge. ``run`` may be repeated after a kill, or when a source has gone on: it does what is left."""

    def __init__(
        self,
        sources: Sequence[Source],
        target: Target,
        copier: Copier,
        progress: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self._sources = sources
        self._target = target
        self._copier = copier
        self._progress = progress
        self._order = target.next_order()
        self._records: dict[str, JobRecord] = {}
        self._words: dict[str, str] = {}
        self.report = Report()

    def run(self) -> Report:
        """Take every record of every source, in the order of their positions."""
        streams = [self._numbered(number) for number in range(len(self._sources))]
        for _, number, record in heapq.merge(*streams, key=lambda item: item[:2]):
            self._take(number, record)
            self.report.jobs += 1
            self._progress(self.report)
            if len(self._records) >= _GROUP:
                self._commit()
        self._commit()
        return self.report

    def _numbered(self, number: int) -> Iterator[tuple[int, int, JobRecord]]:
        for record in self._sources[number].jobs():
            yield record.order, number, record

    def _take(self, number: int, record: JobRecord) -> None:
        known = self._records.get(record.key) or self._target.get(record.key)
        if known is None:
            self._note(replace(self._copied(number, record), order=self._order))
            self._order += 1
            self.report.added += 1
            return
        word = f"merged {record.key} {charge_id(record)}"
        counted = self._words.get(word) or self._target.meta(word)
        add = bool(record.attempts) and bool(known.attempts) and not same_charge(known, record) and not counted
        if add:
            self._words[word] = "counted"
            self.report.twice.append(record.id or record.key)
        other = self._copied(number, record) if worth(record) > worth(known) else record
        if add and charge_id(known) is not None:
            self._words[f"merged {known.key} {charge_id(known)}"] = "counted"
        joined = join(known, other, add_charge=add)
        if joined != known:
            self._note(joined)
            self.report.updated += 1

    def _note(self, record: JobRecord) -> None:
        self._records[record.key] = record

    def _copied(self, number: int, record: JobRecord) -> JobRecord:
        source = self._sources[number].name
        name = input_file(record)
        if name is not None and not self._copier.input(number, name):
            self.report.unsound.append(f"{source}/{name}")
        outputs = []
        for output in record.outputs:
            if output.file is not None:
                copy = self._copier.image(number, output)
                self._report_image(source, output, copy)
                output = copy
            outputs.append(replace(output, writing=None, temp=None))
        return replace(record, outputs=outputs)

    def _report_image(self, source: str, output: OutputRecord, copy: OutputRecord) -> None:
        if copy.file is None:
            self.report.unsound.append(f"{source}/{output.file}")
            return
        self.report.images += 1
        if copy.file != output.file:
            self.report.renamed.append((f"{source}/{output.file}", copy.file))

    def _commit(self) -> None:
        if self._records or self._words:
            self._copier.sync()
            self._target.save(self._records.values(), self._words)
            self._records, self._words = {}, {}
