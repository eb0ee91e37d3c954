"""What folders did against what the service charged: by task IDs, and by time for charges that no ledger knows.

Nothing is concluded before the whole bill was read, and nothing is changed but for refunds, which are recorded once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine.bill import Bill, Books, Claim, Finding, amount, claims_of, judge, refund_of, sum_of
from flux_lora_cli.engine.budget import ZERO, dollars, lacks_refund, note_refunds
from flux_lora_cli.engine.plan import UNKNOWN
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, UNSURE_SLACK, bill_candidates, submitted_at
from flux_lora_cli.errors import NotFoundError, ServiceError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.ledger import LEDGER_NAME
from flux_lora_cli.folder.manifest import MANIFEST_NAME
from flux_lora_cli.folder.output import OutputFolder, read_records
from flux_lora_cli.folder.records import JobRecord
from flux_lora_cli.service.wire import BillItem, parse_time
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.service.client import Client


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

    def count(self, claim: Claim, item: BillItem) -> None:
        """Add one entry of the bill to the sums."""
        at = item.created or claim.at
        month = f"{at.astimezone(UTC):%Y-%m}" if at is not None else "unknown"
        key = claim.books.name, item.model or claim.record.model or "unknown", month
        for sums in (self, self.totals.setdefault(key, Sums())):
            sums.charged += sum_of([item], claim.task.cost, "deduct")
            sums.refunded += sum_of([item], claim.task.cost, "refund")


def compare(
    bill: Bill, all_books: Sequence[Books], service: str, now: datetime, since: datetime | None = None
) -> Report:
    """Compare the books with the bill.

    Args:
        now: by the service's clock.
        since: also look for charges since then that no ledger at hand knows.

    Raises:
        ServiceError, KeyRefused: the bill cannot be read, or has no record of any task; nothing is concluded.
    """
    claims = claims_of(all_books)
    tasks = bill.by_task(claims)
    if tasks and not any(items for _, items in tasks):
        raise ServiceError(
            f"the bill has no record of any of {counted(len(tasks), 'task')}; nothing can be concluded",
            "Check that the key is of the account that submitted them (flux-lora doctor).",
        )
    report = Report(tasks=len(tasks))
    known = state.claimed_tasks(service)
    for claim, items in tasks:
        task_id = claim.task.task_id or ""
        known.add(task_id)
        report.findings += judge(claim, items, now)
        report.refunds[task_id] = refund_of(claim.task.cost, items)
        for item in items:
            report.count(claim, item)
    report.findings += _without_task(bill, claims, known, since)
    report.unread = bill.unread
    return report


# ---- submissions and charges without a task -----------------------------------------------------


def _without_task(
    bill: Bill, claims: Iterable[Claim], known: Collection[str], since: datetime | None
) -> Iterator[Finding]:
    """Submissions of unknown outcome, and charges that nobody knows."""
    unknown = [
        (claim, replace(claim.record, intent_at=claim.task.intent_at))
        for claim in claims
        if claim.task.task_id is None and (claim.earlier or claim.record.state in UNKNOWN)
    ]
    spans = [span for _, submission in unknown if (span := _span(submission)) is not None]
    if since is not None:
        spans.append((since, datetime.now(UTC) + UNSURE_SLACK))
    strangers = {
        item.id: item
        for start, end in spans
        for item in bill.search(start=start, end=end)
        if item.kind == "deduct" and item.task_id not in known
    }
    named: set[str] = set()
    for claim, submission in unknown:
        candidates = bill_candidates(submission, strangers.values())
        named.update(candidates)
        charges = tuple(item.id for item in strangers.values() if item.task_id in candidates)
        task_id, either = candidates[0] if candidates else None, " or ".join(candidates)
        found = partial(Finding, task=task_id, record=claim.record, books=claim.books, charges=charges)
        if candidates and claim.earlier:
            message = f"submitted again after an unknown outcome; the first may have been charged as {either}"
            yield found("unknown_charge", message)
        elif candidates:
            yield found("candidate", f"its outcome is unknown, and it may be {either}")
        elif not claim.earlier:
            yield found("unknown_submission", "its outcome is unknown, and no charge of that time is unaccounted for")
    for item in strangers.values():
        if item.task_id not in named and since is not None and (item.created is None or item.created >= since):
            model, at = item.model or "an unknown model", item.created_at or "an unknown time"
            usd = amount(item, None)
            price = item.shown if usd is None else dollars(usd)
            yield Finding("unknown_charge", f"{price} for {model} at {at}", item.task_id, charges=(item.id,))


def _span(submission: JobRecord) -> tuple[datetime, datetime] | None:
    """When a submission of unknown outcome may have been charged; None where that is not known."""
    at, slack = submitted_at(submission), UNSURE_SLACK if submission.service_clock is None else CLOCK_SLACK
    return None if at is None else (at - slack, at + timedelta(seconds=SUBMIT_TIMEOUT) + slack)


# ---- folders -----------------------------------------------------------------------------------


def read_books(folder: Path, service: str) -> Books:
    """The records of a folder, without any change. Raises NotFoundError: it is not one of results; FolderError."""
    if not any(os.path.lexists(folder / name) for name in (LEDGER_NAME, MANIFEST_NAME)):
        what = "no ledger or manifest" if os.path.lexists(folder) else "no such folder"
        raise NotFoundError(f"{printable(str(folder))}: {what}", "Name the folders that batch or wait wrote.")
    return Books(folder, list(read_records(folder, service).values()))


def own_books(service: str) -> Books:
    """The records of the user's own ledger (of ``submit``). Raises FolderError."""
    own = Books(None, [])
    with suppress(NotFoundError), state.open_user_ledger(service, create=False) as ledger:
        own.records += ledger.records()
    return own


def first_submission(all_books: Iterable[Books]) -> datetime:
    """When the first submission was made; now where there is none."""
    times = [parse_time(claim.task.intent_at) for claim in claims_of(all_books)]
    return min((at for at in times if at is not None), default=datetime.now(UTC))


def record_refunds(books: Books, refunds: dict[str, Decimal], service: str) -> int:
    """Write refunds (task → USD) into a folder, or the user's own ledger; how many records changed."""
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
    """Note on failed tasks that count what the bill shows as refunded; records that changed. Raises as ``compare``."""
    tasks = Bill(client).by_task(claims_of([Books(None, [record for record in records if lacks_refund(record)])]))
    refunds = {claim.task.task_id or "": refund_of(claim.task.cost, items) for claim, items in tasks}
    return [record for record in records if note_refunds(record, refunds)]
