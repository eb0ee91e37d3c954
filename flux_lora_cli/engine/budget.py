"""Money: limits, amounts in words, what was bought, and which requests cost the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_lora_cli.errors import BudgetError
from flux_lora_cli.folder.records import JobRecord, PastTask, present_task, purchases

if TYPE_CHECKING:
    from flux_lora_cli.engine.plan import BatchPlan

ZERO = Decimal(0)


def check_budget(
    limit: Decimal | None, planned: Decimal | None, charged: Decimal | None = ZERO, option: str = "--max-cost"
) -> BudgetError | None:
    """Why a limit (USD) does not allow to submit something; None where it does.

    Args:
        planned: USD that it costs; None where that is not known, which no limit allows.
        charged: USD that count against the limit already, failed and unknown tasks in full; None: not known.
    """
    if limit is None or planned == 0:
        return None
    if planned is None or charged is None:
        return price_not_known(option)
    if charged + planned <= limit:
        return None
    message = f"{dollars(planned)} to submit, and {dollars(charged)} charged or reserved before: over {option}"
    return BudgetError(f"{message} {dollars(limit)}", f"Raise {option}, or ask for fewer images.")


def price_not_known(option: str = "--max-cost") -> BudgetError:
    return BudgetError(f"the price is not known, so {option} cannot be kept", "Name it with --price USD (per image).")


# ---- what was bought ----


def spent(records: Iterable[JobRecord], per_image: Decimal | None = None) -> Decimal | None:
    """USD that records were charged, or may have been, less refunds; None where a price is not known.

    Args:
        per_image: USD, for submissions whose price is not known.
    """
    return sum_prices(
        task.cost - task.refunded if task.cost is not None else per_image and per_image * record.images_asked
        for record in records
        for task in purchases(record)
        if task.cost is not None or record.attempts  # else somebody else submitted it
    )


def lacks_refund(record: JobRecord) -> bool:
    """Whether a task of this job failed, and counts, for the bill was not seen to show its refund."""
    return any(task.task_id and task.error and task.cost and task.refunded < task.cost for task in purchases(record))


def note_refunds(record: JobRecord, refunds: dict[str, Decimal]) -> bool:
    """Put refunds (task → USD) into a record, never more than a task's price; whether it changed."""

    def noted(task: PastTask) -> PastTask:
        refund = refunds.get(task.task_id or "", ZERO)
        return task if task.cost is None else replace(task, refunded=max(task.refunded, min(refund, task.cost)))

    before = record.refunded, record.history
    record.refunded, record.history = noted(present_task(record)).refunded, tuple(map(noted, record.history))
    return (record.refunded, record.history) != before


# ---- prices ----


def price_documented(plan: BatchPlan, per_image: Decimal | None) -> Decimal | None:
    """USD of the plan's submissions without asking anybody: at ``--price``, else as documented; None: not known."""
    for work in plan.to_submit:
        if per_image is not None:
            work.unit_price, work.price_source = per_image * work.record.images_asked, "--price"
        else:
            work.unit_price, work.price_source = work.documented_price, "documented"
    return sum_prices(work.unit_price for work in plan.to_submit)


def sum_prices(prices: Iterable[Decimal | None]) -> Decimal | None:
    """USD in all; None where a price is not known."""
    known = list(prices)
    return None if None in known else sum(filter(None, known), ZERO)


def price_kind(record: JobRecord) -> str:
    """Requests of one kind cost the same, so that one question serves them all."""
    request = {key: value for key, value in (record.input or {}).items() if key not in ("prompt", "seed")}
    for key in ("image", "mask_image"):
        request[key] = bool(request.get(key))
    for key in ("images", "loras"):
        request[key] = len(request.get(key) or ())
    return json.dumps([record.model, record.api_version, request], sort_keys=True, default=str)


# ---- amounts in words ----


def plain(amount: Decimal) -> str:
    """Money without an exponent and without idle zeros, for programs: ``0.015``."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def dollars(amount: Decimal) -> str:
    """Money for people: ``$14.40``, ``$0.015``, ``$6``."""
    text = plain(amount)
    return f"${text}0" if len(text.partition(".")[2]) == 1 else f"${text}"
