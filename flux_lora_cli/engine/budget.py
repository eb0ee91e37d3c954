"""Money: limits, amounts in words, and which requests cost the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.errors import Advice, BudgetError
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.text import counted

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import BatchPlan, Work


class Budget:
    """Money that is spent or reserved, against a limit that tasks in flight thus cannot overshoot.

    Args:
        limit: USD; None where there is none.
        spent: USD charged so far; failed and unknown tasks count in full, refunds do not.
    """

    def __init__(self, limit: Decimal | None, spent: Decimal = Decimal(0)) -> None:
        self.limit, self.spent = limit, spent

    def reserve(self, amount: Decimal | None) -> bool:
        """Set ``amount`` aside; False where the limit does not allow it (an unknown amount never is)."""
        if self.limit is not None and (amount is None or self.spent + amount > self.limit):
            return False
        self.spent += amount or Decimal(0)
        return True

    def release(self, amount: Decimal | None) -> None:
        """Give back what a refused submission had set aside."""
        self.spent -= amount or Decimal(0)

    def refusal(self, amount: Decimal | None, left: int) -> BudgetError:
        """Why ``reserve`` said no to ``amount``; ``left`` jobs are not submitted for it."""
        if amount is None:
            return price_not_known()
        return BudgetError(
            f"the budget is used up: {dollars(self.spent)} of {dollars(self.limit or Decimal(0))} are charged or"
            f" reserved, and the next job costs {dollars(amount)}; {counted(left, 'job')} not submitted",
            "To submit the rest, raise --max-cost.",
            advice=Advice.RERUN,
        )


def check_budget(
    limit: Decimal | None, planned: Decimal | None, charged: Decimal = Decimal(0), option: str = "--max-cost"
) -> BudgetError | None:
    """Why a limit does not allow a plan; None where it does.

    Args:
        planned: USD that the plan costs; None where that is not known.
        charged: USD that count against the limit already.
    """
    if limit is None:
        return None
    if planned is None:
        return price_not_known(option)
    if charged + planned <= limit or not planned:
        return None
    already = "charged already" if option == "--max-cost" else "charged or reserved this month"
    before = f", and {dollars(charged)} are {already}: {dollars(charged + planned)}" if charged else ", which"
    return BudgetError(
        f"the plan costs {dollars(planned)}{before} is over {option} {dollars(limit)}",
        f"Raise {option}, or ask for fewer images.",
    )


def price_not_known(option: str = "--max-cost") -> BudgetError:
    return BudgetError(f"the price is not known, so {option} cannot be kept", "Name it with --price USD (per image).")


def spent(records: Iterable[JobRecord]) -> Decimal:
    """USD that records were charged, or may have been, less refunds; without what has no known price."""
    total = Decimal(0)
    for record in records:
        parts = [(task.cost, task.refunded) for task in record.history]
        if record.attempts or record.task_id is not None:
            parts.append((record.price, record.refunded))
        total += sum((cost - refunded for cost, refunded in parts if cost is not None), Decimal(0))
    return total


def lacks_refund(record: JobRecord) -> bool:
    """Whether a task of this job failed, and counts, for the bill was not seen to show its refund."""
    tasks = [(task.task_id, task.error, task.cost, task.refunded) for task in record.history]
    if record.state is State.FAILED:
        tasks.append((record.task_id, record.error, record.price, record.refunded))
    return any(task_id and error and cost and refunded < cost for task_id, error, cost, refunded in tasks)


def price_earlier(works: Iterable[Work]) -> None:
    """Count what was submitted at an unknown price at today's: the ``unit_price`` of each work (not None)."""
    for work in works:
        record, price = work.record, work.unit_price
        record.price = price if record.price is None else record.price
        record.history = tuple(replace(past, cost=price) if past.cost is None else past for past in record.history)


def price_documented(plan: BatchPlan, per_image: Decimal | None) -> Decimal | None:
    """USD of the plan's submissions without asking anybody: at ``--price``, else as documented; None: not known."""
    total: Decimal | None = Decimal(0)
    for work in plan.to_submit:
        if per_image is not None:
            work.unit_price, work.price_source = per_image * work.record.images_asked, "--price"
        else:
            work.unit_price, work.price_source = work.documented_price, "documented"
        total = None if total is None or work.unit_price is None else total + work.unit_price
    return total


def plain(amount: Decimal) -> str:
    """Money without an exponent and without idle zeros, for programs: ``0.015``."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def dollars(amount: Decimal) -> str:
    """Money for people: ``$14.40``, ``$0.015``, ``$6``."""
    text = plain(amount)
    return f"${text}0" if len(text.partition(".")[2]) == 1 else f"${text}"


def price_kind(record: JobRecord) -> str:
    """Requests of one kind cost the same, so that one question serves them all."""
    request = dict(record.input or {})
    for key in ("prompt", "seed"):
        request.pop(key, None)
    for key in ("image", "mask_image"):
        request[key] = bool(request.get(key))
    for key in ("images", "loras"):
        request[key] = len(request.get(key) or ())
    return json.dumps([record.model, record.api_version, request], sort_keys=True, default=str)
