"""One task against the bill: what was charged and refunded, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args

from flux_lora_cli.engine.budget import ZERO, dollars
from flux_lora_cli.errors import ExitCode
from flux_lora_cli.folder.records import JobRecord, State, purchases
from flux_lora_cli.service.wire import BillItem, parse_time

Kind = Literal[
    "charged_twice", "not_refunded", "other_price", "unclear_price", "candidate", "refund_may_come", "not_charged",
    "unknown_charge", "unknown_submission", "other_entry",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
#: What is wrong and worth a letter to support; of the rest a candidate is for the user to decide.
_WRONG = ("charged_twice", "not_refunded", "other_price", "unclear_price")
#: Failed tasks are refunded within this time. [service documentation]
REFUND_AFTER = timedelta(hours=3)
#: A price so many times more or less than quoted is in another unit; USD per task where no quote is known.
_UNIT_RATIO, _MAX_UNQUOTED = 50, Decimal(100)
_DOLLARS = ("", "USD", "$", "US$")
#: USD by which two prices may differ and be the same.
_SAME_WITHIN = Decimal("0.000001")


@dataclass(eq=False)
class Books:
    """The records of a folder, or of the user's own ledger (``path`` is None)."""

    path: Path | None
    records: list[JobRecord]

    @property
    def name(self) -> str:
        """What messages call it."""
        return "submit" if self.path is None else str(self.path)

    def tasks(self) -> Iterator[PaidTask]:
        """Every task that these records claim, those of their history too."""
        for record in self.records:
            for task in purchases(record):
                if task.task_id is None:
                    continue
                earlier, failed = task.task_id != record.task_id, task.error is not None
                completed = not failed if earlier else record.state is State.COMPLETED
                at = parse_time(task.intent_at if earlier else record.task_created_at or record.intent_at)
                yield PaidTask(self, record, task.task_id, task.cost, failed, completed, at)


@dataclass(frozen=True, slots=True)
class PaidTask:
    """A task of a record. ``quoted``: USD that were expected for it, None where not known; ``at``: its submission."""

    books: Books
    record: JobRecord
    id: str
    quoted: Decimal | None
    failed: bool
    completed: bool
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of a task, of a submission without one, or of a charge. ``charges``: IDs of bill entries."""

    kind: Kind
    message: str
    task: str | None = None
    record: JobRecord | None = None
    books: Books | None = None
    charges: tuple[str, ...] = ()

    @property
    def job(self) -> str | None:
        """What messages call the job."""
        return self.record.name if self.record is not None else None

    @property
    def exit_code(self) -> ExitCode:
        """What it makes of an audit."""
        if self.kind in _WRONG:
            return ExitCode.INCOMPLETE
        return ExitCode.UNKNOWN if self.kind == "candidate" else ExitCode.OK


def judge(task: PaidTask, items: Sequence[BillItem], now: datetime) -> Iterator[Finding]:
    """What the bill's entries for one task say of it; nothing where all is as it should be."""

    def found(kind: Kind, message: str) -> Finding:
        return Finding(kind, message, task.id, task.record, task.books, tuple(item.id for item in items))

    for item in items:
        if item.kind not in ("deduct", "refund"):
            yield found("other_entry", f"the bill has an entry of kind '{item.kind}': {item.shown}")
    quote = f", quoted {dollars(task.quoted)}" if task.quoted is not None else ""
    if unclear := [item.shown for item in items if amount(item, task.quoted) is None]:
        yield found("unclear_price", f"the bill says {', '.join(unclear)}{quote}")
        return
    charges = [item for item in items if item.kind == "deduct"]
    failed = task.failed or (not task.completed and any(item.failed for item in items))
    charged, back = (sum_of(items, task.quoted, kind) for kind in ("deduct", "refund"))
    refund = f", {dollars(back)} refunded" if back else ""
    most = task.quoted if task.quoted is not None else max((amount(item, None) or 0 for item in charges), default=0)
    if len(charges) > 1 and charged - back > most:
        yield found("charged_twice", f"{len(charges)} charges, {dollars(charged)}{refund}{quote}")
    elif task.completed and not charges:
        yield found("not_charged", f"completed, and not charged{quote}")
    elif failed and charged > back:
        at, owed = charges[0].created or task.at, dollars(charged - back)
        if at is not None and now - at <= REFUND_AFTER:
            yield found("refund_may_come", f"failed recently; the refund of {owed} may still come")
        else:
            when = f" (charged at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)" if at is not None else ""
            yield found("not_refunded", f"failed, and {owed} was not refunded{when}")
    elif charges and not failed and task.quoted is not None:
        over = charged - back - task.quoted
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
