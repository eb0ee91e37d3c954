"""The service's bill: read, and what its entries say of one task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from flux_lora_cli.engine.budget import ZERO, dollars
from flux_lora_cli.engine.calls import ask
from flux_lora_cli.errors import ExitCode, ServiceError
from flux_lora_cli.folder.records import JobRecord, PastTask, State, purchases
from flux_lora_cli.service.wire import MAX_BILL_IDS, BillItem, parse_time

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


@dataclass(eq=False)
class Books:
    """The records of a folder, or of the user's own ledger (``path`` is None)."""

    path: Path | None
    records: list[JobRecord]

    @property
    def name(self) -> str:
        return "submit" if self.path is None else str(self.path)


@dataclass(frozen=True, slots=True)
class Claim:
    """A submission as the books have it; ``earlier``: another one of its job followed."""

    books: Books
    record: JobRecord
    task: PastTask
    earlier: bool

    @property
    def at(self) -> datetime | None:
        return parse_time(self.task.intent_at if self.earlier else self.record.task_created_at or self.task.intent_at)


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of a task, of a submission without one, or of a charge. ``charges``: IDs of bill entries."""

    kind: str
    message: str
    task: str | None = None
    record: JobRecord | None = None
    books: Books | None = None
    charges: tuple[str, ...] = ()

    @property
    def job(self) -> str | None:
        return self.record.name if self.record is not None else None

    @property
    def exit_code(self) -> ExitCode:
        """What it makes of an audit."""
        if self.kind in WRONG:
            return ExitCode.INCOMPLETE
        return ExitCode.UNKNOWN if self.kind == "candidate" else ExitCode.OK


def claims_of(all_books: Iterable[Books]) -> list[Claim]:
    """Every submission that may have been charged, those of earlier tasks too."""
    return [
        Claim(books, record, task, number < len(record.history))
        for books in all_books
        for record in books.records
        for number, task in enumerate(purchases(record))
    ]


class Bill:
    """Reads the bill; ``progress`` is told of how many tasks. ``unread``: entries that could not be understood."""

    def __init__(self, client: Client, progress: Callable[[int], None] = lambda tasks: None) -> None:
        self._client, self._progress = client, progress
        self.unread = 0

    def by_task(self, claims: Iterable[Claim]) -> list[tuple[Claim, list[BillItem]]]:
        """Each task that is claimed, with its entries; of copies in several folders that which knows the price."""
        tasks: dict[str, Claim] = {}
        for claim in claims:
            task_id = claim.task.task_id
            if task_id is not None and (task_id not in tasks or tasks[task_id].task.cost is None):
                tasks[task_id] = claim
        entries: dict[str | None, list[BillItem]] = {}
        for start in range(0, len(tasks), MAX_BILL_IDS):
            asked = list(tasks)[start : start + MAX_BILL_IDS]
            entries |= {task_id: [] for task_id in asked}
            for item in self.search(asked):
                if item.task_id in asked:
                    entries[item.task_id].append(item)
            self._progress(len(entries))
        return [(claim, entries[task_id]) for task_id, claim in tasks.items()]

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


def judge(claim: Claim, items: Sequence[BillItem], now: datetime) -> Iterator[Finding]:
    """What the bill's entries for one task say of it; nothing where all is as it should be."""
    record, quoted = claim.record, claim.task.cost

    def found(kind: str, message: str) -> Finding:
        return Finding(kind, message, claim.task.task_id, record, claim.books, tuple(item.id for item in items))

    quote = f", quoted {dollars(quoted)}" if quoted is not None else ""
    if unclear := [item.shown for item in items if amount(item, quoted) is None]:
        yield found("unclear_price", f"the bill says {', '.join(unclear)}{quote}")
        return
    charges = [item for item in items if item.kind == "deduct"]
    failed = claim.task.error is not None
    completed = not failed if claim.earlier else record.state is State.COMPLETED
    failed = failed or (not completed and any(item.failed for item in items))
    charged, back = (sum_of(items, quoted, kind) for kind in ("deduct", "refund"))
    refund = f", {dollars(back)} refunded" if back else ""
    most = quoted if quoted is not None else max((amount(item, None) or ZERO for item in charges), default=ZERO)
    if len(charges) > 1 and charged - back > most:
        yield found("charged_twice", f"{len(charges)} charges, {dollars(charged)}{refund}{quote}")
    elif completed and not charges:
        yield found("not_charged", f"completed, and not charged{quote}")
    elif failed and charged > back:
        at, owed = charges[0].created or claim.at, dollars(charged - back)
        if at is not None and now - at <= REFUND_AFTER:
            yield found("refund_may_come", f"failed recently; the refund of {owed} may still come")
        else:
            when = f" (charged at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)" if at is not None else ""
            yield found("not_refunded", f"failed, and {owed} was not refunded{when}")
    elif charges and not failed and quoted is not None:
        over = charged - back - quoted
        if over > _SAME_WITHIN or (over < -_SAME_WITHIN and not back):
            yield found("other_price", f"charged {dollars(charged)}{refund}{quote}")


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


def sum_of(items: Iterable[BillItem], quoted: Decimal | None, kind: str) -> Decimal:
    return sum((amount(item, quoted) or ZERO for item in items if item.kind == kind), ZERO)


def refund_of(quoted: Decimal | None, items: Sequence[BillItem]) -> Decimal:
    """USD of a task's price that were given back: what is left of its charges counts first, and no more than these."""
    charged, back = (sum_of(items, quoted, kind) for kind in ("deduct", "refund"))
    price = quoted if quoted is not None else charged
    return min(back, charged, max(price - max(charged - back, ZERO), ZERO))
