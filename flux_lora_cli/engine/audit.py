"""What folders did against what the service charged: by task IDs, and by time for charges that no ledger knows.

Nothing is concluded before the whole bill was read, and nothing is changed but for refunds, which are recorded once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine.bill import Books, Finding, PaidTask, amount, judge, refund_of, sum_of
from flux_lora_cli.engine.budget import ZERO, dollars, note_refunds
from flux_lora_cli.engine.calls import ask
from flux_lora_cli.engine.limits import Retry
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, UNSURE_SLACK, bill_candidates
from flux_lora_cli.errors import FluxLoraError, NotFoundError, ServiceError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME
from flux_lora_cli.folder.output import OutputFolder, read_records
from flux_lora_cli.folder.records import JobRecord, State, purchases
from flux_lora_cli.service.wire import MAX_BILL_IDS, BillItem, parse_time
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.service.client import Client

_PAGE, _MAX_PAGES = 100, 1_000
_RETRY = Retry(tries=4, cap=8.0)


@dataclass
class Sums:
    """USD charged and refunded; what cannot be understood is in neither."""

    charged: Decimal = ZERO
    refunded: Decimal = ZERO


@dataclass
class Report(Sums):
    """What an audit found.

    Attributes:
        totals: folder, model and month (``2026-11``, UTC) → the sums of these.
        refunds: task → USD of it that were given back, as far as it was charged for.
        unread: entries of the bill that could not be understood at all.
    """

    tasks: int = 0
    findings: list[Finding] = field(default_factory=list)
    totals: dict[tuple[str, str, str], Sums] = field(default_factory=dict)
    refunds: dict[str, Decimal] = field(default_factory=dict)
    unread: int = 0


class Auditor:
    """Reads the bill. ``progress`` is told how many tasks were looked up."""

    def __init__(self, client: Client, progress: Callable[[int], None] = lambda tasks: None) -> None:
        self._client, self._progress = client, progress
        self.report = Report()

    def audit(self, all_books: Sequence[Books], service: str, *, since: datetime | None = None) -> Report:
        """Compare the books with the bill.

        Args:
            since: also look for charges since then that no ledger at hand knows.

        Raises:
            ServiceError: the bill cannot be read, or has no record of any task; nothing is concluded.
            KeyRefused, …
        """
        report, copies = self.report, dict[str, list[PaidTask]]()
        for task in (task for books in all_books for task in books.tasks()):
            copies.setdefault(task.id, []).append(task)
        report.tasks = len(copies)
        findings, found = list[Finding](), False
        for task, items in self.by_task(copies):
            findings += judge(task, items, datetime.now(UTC) + timedelta(seconds=self._client.clock_ahead or 0.0))
            found |= bool(items)
            for item in items:
                self._add(task, item)
        if copies and not found:
            raise ServiceError(
                f"the bill has no record of any of {counted(len(copies), 'task')}; nothing can be concluded",
                "Check that the key is of the account that submitted them (flux-lora doctor).",
            )
        report.findings = [*findings, *self._without_task(all_books, {*claimed_tasks(service), *copies}, since)]
        return report

    def _add(self, task: PaidTask, item: BillItem) -> None:
        """Count one entry of the bill."""
        at = item.created or task.at
        month = f"{at.astimezone(UTC):%Y-%m}" if at is not None else "unknown"
        key = task.books.name, item.model or task.record.model or "unknown", month
        for sums in (self.report, self.report.totals.setdefault(key, Sums())):
            sums.charged += sum_of([item], task.quoted, "deduct")
            sums.refunded += sum_of([item], task.quoted, "refund")

    def by_task(self, copies: Mapping[str, list[PaidTask]]) -> Iterator[tuple[PaidTask, list[BillItem]]]:
        """Each task with the entries of the bill for it; of copies that which knows the price. Notes refunds."""
        ids = list(copies)
        for start in range(0, len(ids), MAX_BILL_IDS):
            entries: dict[str, list[BillItem]] = {task_id: [] for task_id in ids[start : start + MAX_BILL_IDS]}
            for item in self._search(task_ids=list(entries)):
                if item.task_id in entries:
                    entries[item.task_id].append(item)
            for task_id, items in entries.items():
                task = max(copies[task_id], key=lambda copy: copy.quoted is not None)
                if refund := refund_of(task.quoted, items):
                    self.report.refunds[task_id] = refund
                yield task, items
            self._progress(start + len(entries))

    def _without_task(
        self, all_books: Sequence[Books], known: Collection[str], since: datetime | None
    ) -> Iterator[Finding]:
        """Submissions of unknown outcome, and charges that nobody knows."""
        records = [(books, record) for books in all_books for record in books.records]
        unknown = [(b, r, False) for b, r in records if r.state in (State.UNKNOWN, State.SUBMITTING)]
        unknown += [
            (b, replace(r, intent_at=p.intent_at), True) for b, r in records for p in r.history if not p.task_id
        ]
        spans = [span for _, record, _ in unknown if (span := _span(record)) is not None]
        if since is not None:
            spans.append((since, datetime.now(UTC) + UNSURE_SLACK))
        strangers: dict[str, BillItem] = {}
        searched = datetime.min.replace(tzinfo=UTC)
        for start, end in sorted(spans):
            if end > searched:
                for item in self._search(start=max(start, searched), end=end):
                    if item.kind == "deduct" and item.task_id not in known:
                        strangers.setdefault(item.id, item)
                searched = end
        named: set[str] = set()
        for books, record, sent_again in unknown:
            candidates = bill_candidates(record, strangers.values())
            named.update(candidates)
            charges = tuple(item.id for item in strangers.values() if item.task_id in candidates)
            either = " or ".join(candidates)
            if candidates and sent_again:
                message = f"submitted again after an unknown outcome; the first may have been charged as {either}"
                yield Finding("unknown_charge", message, candidates[0], record, books, charges)
            elif candidates:
                message = f"its outcome is unknown, and it may be {either}"
                yield Finding("candidate", message, candidates[0], record, books, charges)
            elif not sent_again:
                message = "its outcome is unknown, and no charge of that time is unaccounted for"
                yield Finding("unknown_submission", message, None, record, books)
        for item in strangers.values():
            if item.task_id not in named and since is not None and (item.created is None or item.created >= since):
                model, at = item.model or "an unknown model", item.created_at or "an unknown time"
                usd = amount(item, None)
                price = item.shown if usd is None else dollars(usd)
                yield Finding("unknown_charge", f"{price} for {model} at {at}", item.task_id, charges=(item.id,))

    def _search(
        self, task_ids: Sequence[str] = (), start: datetime | None = None, end: datetime | None = None
    ) -> Iterator[BillItem]:
        """The entries of a search, each once, though new ones move the pages."""
        seen: set[str] = set()
        number, more = 0, True
        while more:
            if number == _MAX_PAGES:
                message = f"the bill has more than {number * _PAGE:,} entries for that time; nothing can be concluded"
                raise ServiceError(message, "Name a later day with --since.")
            page = ask(self._client.bill, number + 1, _PAGE, task_ids, start, end, retry=_RETRY)
            new = {item.id: item for item in page.items if item.id not in seen}
            number, more = number + 1, page.has_more and bool(new)
            self.report.unread += page.unread
            seen.update(new)
            yield from new.values()


def _span(record: JobRecord) -> tuple[datetime, datetime] | None:
    """When a submission of unknown outcome may have been charged; None where that is not known."""
    at = parse_time(record.intent_at)
    if at is None:
        return None
    at += timedelta(seconds=record.service_clock or 0.0)
    slack = UNSURE_SLACK if record.service_clock is None else CLOCK_SLACK
    return at - slack, at + timedelta(seconds=SUBMIT_TIMEOUT) + slack


# ---- folders -----------------------------------------------------------------------------------


def read_books(folder: Path, service: str) -> Books:
    """The records of a folder; nothing in it is changed.

    Raises:
        NotFoundError: it is not a folder of results.
        FolderError and its leaves: it cannot be read, or belongs to another service.
    """
    if not any(os.path.lexists(folder / name) for name in (LEDGER_NAME, MANIFEST_NAME)):
        what = "no ledger or manifest" if os.path.lexists(folder) else "no such folder"
        raise NotFoundError(f"{printable(str(folder))}: {what}", "Name the folders that batch or wait wrote.")
    return Books(folder, list(read_records(folder, service).values()))


def own_books(service: str) -> Books | None:
    """The records of the user's own ledger (of ``submit``); None where there are none. Raises FolderError."""
    with suppress(NotFoundError), state.open_user_ledger(service, create=False) as ledger:
        return Books(None, list(ledger.records()))
    return None


def first_submission(all_books: Iterable[Books]) -> datetime:
    """When the first submission was made; now where there is none."""
    bought = (task for books in all_books for record in books.records for task in purchases(record))
    times = [parse_time(task.intent_at) for task in bought]
    return min((at for at in times if at is not None), default=datetime.now(UTC))


def claimed_tasks(service: str, *, besides: Path | None = None) -> set[str]:
    """Every task of the user's ledger and of the folders that are remembered; what cannot be read claims nothing.

    Args:
        besides: a folder whose ledger is open, and not to be opened again.
    """
    ids = set[str]()
    with suppress(FluxLoraError), state.open_user_ledger(service, create=False) as ledger:
        ids |= ledger.task_ids()
    for path in (folder / LEDGER_NAME for folder in state.remembered_folders() if folder != besides):
        with suppress(FluxLoraError, OSError), Ledger.open(path, None, create=False, read_only=True) as ledger:
            ids |= ledger.task_ids()
    return ids


def record_refunds(books: Books, refunds: dict[str, Decimal], service: str) -> int:
    """Write refunds (task → USD) into a folder, or the user's own ledger; how many records changed.

    Raises FolderError and its leaves: it cannot be written.
    """
    changed = sum(note_refunds(record, refunds) for record in books.records)
    if changed and books.path is not None:
        with OutputFolder.open(books.path, service, exclusive=False) as folder:
            folder.save([folder.row(r) for r in folder.records.values() if note_refunds(r, refunds)])
            folder.write_manifest()
    elif changed:
        with state.open_user_ledger(service) as ledger:
            ledger.save([ledger.row(r) for r in list(ledger.records()) if note_refunds(r, refunds)])
    return changed


def look_up_refunds(client: Client, records: Sequence[JobRecord]) -> list[JobRecord]:
    """Note on records what the bill shows as refunded; those that changed. Once, when a run with a limit starts.

    Raises:
        ServiceError, KeyRefused: the bill cannot be read; then failed tasks count in full.
    """
    auditor = Auditor(client)
    for _ in auditor.by_task({task.id: [task] for task in Books(None, list(records)).tasks()}):
        pass
    return [record for record in records if note_refunds(record, auditor.report.refunds)]
