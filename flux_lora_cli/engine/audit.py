"""What folders did against what the service charged: by task IDs, and by time for charges that no ledger knows.

Nothing is concluded before the whole bill was read, and nothing is changed but for refunds, which are recorded once.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine.budget import ZERO, dollars, lacks_refund, note_refunds
from flux_lora_cli.engine.calls import ask
from flux_lora_cli.engine.plan import UNKNOWN
from flux_lora_cli.engine.reconcile import CLOCK_SLACK, SUBMIT_TIMEOUT, UNSURE_SLACK, bill_candidates, submitted_at
from flux_lora_cli.errors import ExitCode, FluxLoraError, NotFoundError, ServiceError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.ledger import LEDGER_NAME
from flux_lora_cli.folder.manifest import MANIFEST_NAME
from flux_lora_cli.folder.output import OutputFolder, read_records
from flux_lora_cli.folder.records import JobRecord, PastTask, State, purchases
from flux_lora_cli.service.wire import MAX_BILL_IDS, BillItem, parse_time
from flux_lora_cli.text import counted, printable

if TYPE_CHECKING:
    from flux_lora_cli.service.client import Client

#: What is wrong and worth a letter to support; then what the user has to decide, and what there is only to say.
WRONG = ("charged_twice", "not_refunded", "other_price", "unclear_price")
KINDS = (*WRONG, "candidate", "refund_may_come", "not_charged", "unknown_charge", "unknown_submission")
#: Failed tasks are refunded within this time. [service documentation]
REFUND_AFTER = timedelta(hours=3)
#: A price so many times more or less than quoted is in another unit; USD per task where no quote is known.
_UNIT_RATIO, _MAX_UNQUOTED = 50, Decimal(100)
_DOLLARS = ("", "USD", "$", "US$")
#: USD by which two prices may differ and be the same.
_SAME_WITHIN = Decimal("0.000001")
_PAGE, _MAX_PAGES = 100, 1_000


# ---- what folders did ----


@dataclass(eq=False)
class Books:
    """The records of a folder, or of the user's own ledger (``path`` is None)."""

    path: Path | None
    records: list[JobRecord]

    @property
    def name(self) -> str:
        return "submit" if self.path is None else str(self.path)


@dataclass(eq=False)
class Claim:
    """A submission as the books have it, and the bill's entries for its task.

    Attributes:
        earlier: another submission of its job followed.
    """

    books: Books
    record: JobRecord
    task: PastTask
    earlier: bool
    items: list[BillItem] = field(default_factory=list)

    @property
    def at(self) -> datetime | None:
        return parse_time(self.task.intent_at if self.earlier else self.record.task_created_at or self.task.intent_at)

    def sum(self, kind: str) -> Decimal:
        """USD of its entries of one kind (``deduct``, ``refund``), as far as they can be understood."""
        return sum((amount(item, self.task.cost) or ZERO for item in self.items if item.kind == kind), ZERO)

    @property
    def refund(self) -> Decimal:
        """USD of the task's price that were given back: what is left of its charges counts first."""
        charged, back = self.sum("deduct"), self.sum("refund")
        price = charged if self.task.cost is None else self.task.cost
        return min(back, charged, max(price - max(charged - back, ZERO), ZERO))


def claims_of(all_books: Iterable[Books]) -> list[Claim]:
    """Every submission that may have been charged, those of earlier tasks too."""
    return [
        Claim(books, record, task, number < len(record.history))
        for books in all_books
        for record in books.records
        for number, task in enumerate(purchases(record))
    ]


def read_books(
    folders: Sequence[Path], service: str, everything: bool, left_out: Callable[[FluxLoraError], None]
) -> Iterator[Books]:
    """The records of folders, without any change; with ``everything`` those remembered and the user's own ledger, too.

    Args:
        left_out: is told of one that is only remembered, and cannot be read.

    Raises NotFoundError: one that is named has no results in it; FolderError.
    """
    distinct: dict[str, Path] = {}  # by their real paths
    for folder in (*folders, *(state.remembered_folders() if everything else ())):
        distinct.setdefault(os.path.realpath(folder), folder)
    for folder in distinct.values():
        try:
            if not any(os.path.lexists(folder / name) for name in (LEDGER_NAME, MANIFEST_NAME)):
                what = "no ledger or manifest" if os.path.lexists(folder) else "no such folder"
                raise NotFoundError(f"{printable(str(folder))}: {what}", "Name the folders that batch or wait wrote.")
            yield Books(folder, list(read_records(folder, service).values()))
        except FluxLoraError as error:
            if folder in folders:
                raise
            left_out(error)
    if everything:
        with suppress(NotFoundError), state.open_user_ledger(service, create=False) as ledger:
            yield Books(None, list(ledger.records()))


def first_submission(all_books: Iterable[Books]) -> datetime:
    """When the first submission was made; now where there is none."""
    times = (parse_time(claim.task.intent_at) for claim in claims_of(all_books))
    return min(filter(None, times), default=datetime.now(UTC))


# ---- what was charged ----


class Bill:
    """Reads the bill; ``progress`` is told of how many tasks. ``unread``: entries that could not be understood."""

    def __init__(self, client: Client, progress: Callable[[int], None] = lambda done: None) -> None:
        self._client, self._progress = client, progress
        self.unread = 0

    def by_task(self, all_books: Iterable[Books]) -> dict[str, Claim]:
        """The claims that have a task, with their entries; of copies in several folders that which knows the price."""
        tasks: dict[str, Claim] = {}
        for claim in claims_of(all_books):
            task_id = claim.task.task_id
            if task_id is not None and (task_id not in tasks or tasks[task_id].task.cost is None):
                tasks[task_id] = claim
        for start in range(0, len(tasks), MAX_BILL_IDS):
            asked = list(tasks)[start : start + MAX_BILL_IDS]
            for item in self.search(asked):
                if item.task_id in asked:
                    tasks[item.task_id].items.append(item)
            self._progress(start + len(asked))
        return tasks

    def search(
        self, task_ids: Sequence[str] = (), start: datetime | None = None, end: datetime | None = None
    ) -> Iterator[BillItem]:
        """The entries of tasks, or of a time, each once, though new ones move the pages."""
        seen: set[str] = set()
        for number in range(1, _MAX_PAGES + 1):
            page = ask(self._client.bill, number, _PAGE, task_ids, start, end)
            new = {item.id: item for item in page.items if item.id not in seen}
            self.unread += page.unread
            seen.update(new)
            yield from new.values()
            if not (page.has_more and new):
                return
        message = f"the bill has more than {_MAX_PAGES * _PAGE:,} entries for that time; nothing can be concluded"
        raise ServiceError(message, "Name a later day with --since.")


def amount(item: BillItem, quoted: Decimal | None) -> Decimal | None:
    """USD of one entry, without its sign; None where the unit cannot be understood.

    Pages of the documentation show 0.02, -0.25 and 24300: what is far from the quote is in another unit.
    """
    if item.price is None or item.unit.upper() not in _DOLLARS:
        return None
    value = abs(item.price)
    if not quoted:
        return value if value <= _MAX_UNQUOTED else None
    return None if value >= quoted * _UNIT_RATIO or 0 < value * _UNIT_RATIO <= quoted else value


def judge(claim: Claim, now: datetime) -> tuple[str, str] | None:
    """What the bill's entries say of a task (kind, message); None where all is as it should be."""
    record, quoted, items = claim.record, claim.task.cost, claim.items
    quote = f", quoted {dollars(quoted)}" if quoted is not None else ""
    if unclear := [item.shown for item in items if amount(item, quoted) is None]:
        return "unclear_price", f"the bill says {', '.join(unclear)}{quote}"
    charges = [item for item in items if item.kind == "deduct"]
    failed = claim.task.error is not None
    completed = not failed if claim.earlier else record.state is State.COMPLETED
    failed = failed or (not completed and any(item.failed for item in items))
    charged, back = claim.sum("deduct"), claim.sum("refund")
    refund = f", {dollars(back)} refunded" if back else ""
    most = quoted if quoted is not None else max((abs(item.price or ZERO) for item in charges), default=ZERO)
    over = charged - back - most
    if len(charges) > 1 and over > 0:
        return "charged_twice", f"{len(charges)} charges, {dollars(charged)}{refund}{quote}"
    if completed and not charges:
        return "not_charged", f"completed, and not charged{quote}"
    if failed and charged > back:
        at, owed = parse_time(charges[0].created_at) or claim.at, dollars(charged - back)
        if at is not None and now - at <= REFUND_AFTER:
            return "refund_may_come", f"failed recently; the refund of {owed} may still come"
        when = f" (charged at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)" if at is not None else ""
        return "not_refunded", f"failed, and {owed} was not refunded{when}"
    if failed or not charges or quoted is None or (over <= _SAME_WITHIN and (back or over >= -_SAME_WITHIN)):
        return None
    return "other_price", f"charged {dollars(charged)}{refund}{quote}"


# ---- the comparison ----


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of a submission, or of a charge that none is known for; ``charges``: IDs of bill entries."""

    kind: str
    message: str
    task: str | None
    claim: Claim | None
    charges: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """What it makes of an audit."""
        if self.kind in WRONG:
            return ExitCode.INCOMPLETE
        return ExitCode.UNKNOWN if self.kind == "candidate" else ExitCode.OK


@dataclass
class Report:
    """What an audit found.

    Attributes:
        totals: folder, model and month (``2026-11``, UTC) → USD by the kind of entry (``deduct``, ``refund``).
    """

    tasks: dict[str, Claim]
    findings: list[Finding]
    unread: int
    totals: dict[tuple[str, str, str], dict[str, Decimal]]


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
    tasks = bill.by_task(all_books)
    if tasks and not any(claim.items for claim in tasks.values()):
        raise ServiceError(
            f"the bill has no record of any of {counted(len(tasks), 'task')}; nothing can be concluded",
            "Check that the key is of the account that submitted them (flux-lora doctor).",
        )
    findings = []
    totals: dict[tuple[str, str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for task_id, claim in tasks.items():
        if (verdict := judge(claim, now)) is not None:
            findings.append(Finding(*verdict, task_id, claim, tuple(item.id for item in claim.items)))
        for item in claim.items:
            at = parse_time(item.created_at) or claim.at
            month = f"{at.astimezone(UTC):%Y-%m}" if at is not None else "unknown"
            key = claim.books.name, item.model or claim.record.model or "unknown", month
            totals[key][item.kind] += amount(item, claim.task.cost) or ZERO
    findings += _without_task(bill, claims_of(all_books), state.claimed_tasks(service) | tasks.keys(), since)
    return Report(tasks, findings, bill.unread, totals)


def _without_task(
    bill: Bill, claims: Iterable[Claim], known: Collection[str], since: datetime | None
) -> Iterator[Finding]:
    """Submissions of unknown outcome, and charges that nobody knows."""
    lost = [
        (claim, replace(claim.record, intent_at=claim.task.intent_at))
        for claim in claims
        if claim.task.task_id is None and (claim.earlier or claim.record.state in UNKNOWN)
    ]
    spans = [] if since is None else [(since, datetime.now(UTC) + UNSURE_SLACK)]
    for _, submission in lost:
        slack = UNSURE_SLACK if submission.service_clock is None else CLOCK_SLACK
        if (at := submitted_at(submission)) is not None:
            spans.append((at - slack, at + timedelta(seconds=SUBMIT_TIMEOUT) + slack))
    strangers = {
        item.id: item
        for start, end in spans
        for item in bill.search(start=start, end=end)
        if item.kind == "deduct" and item.task_id not in known
    }
    named: set[str | None] = set()
    for claim, submission in lost:
        tasks = bill_candidates(submission, strangers.values())
        named.update(tasks)
        charges = tuple(item.id for item in strangers.values() if item.task_id in tasks)
        if tasks and claim.earlier:
            message = "submitted again after an unknown outcome; the first may have been charged as"
            yield Finding("unknown_charge", f"{message} {' or '.join(tasks)}", tasks[0], claim, charges)
        elif tasks:
            message = f"its outcome is unknown, and it may be {' or '.join(tasks)}"
            yield Finding("candidate", message, tasks[0], claim, charges)
        elif not claim.earlier:
            message = "its outcome is unknown, and no charge of that time is unaccounted for"
            yield Finding("unknown_submission", message, None, claim, ())
    for item in strangers.values():
        at = parse_time(item.created_at)
        if item.task_id not in named and since is not None and (at is None or at >= since):
            usd = amount(item, None)
            price, model = item.shown if usd is None else dollars(usd), item.model or "an unknown model"
            message = f"{price} for {model} at {item.created_at or 'an unknown time'}"
            yield Finding("unknown_charge", message, item.task_id, None, (item.id,))


# ---- refunds ----


def record_refunds(books: Books, tasks: dict[str, Claim], service: str) -> int:
    """Write what tasks were refunded into a folder, or the user's own ledger; how many records changed."""
    refunds = {task_id: claim.refund for task_id, claim in tasks.items()}
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
    tasks = Bill(client).by_task([Books(None, [record for record in records if lacks_refund(record)])])
    refunds = {task_id: claim.refund for task_id, claim in tasks.items()}
    return [record for record in records if note_refunds(record, refunds)]
