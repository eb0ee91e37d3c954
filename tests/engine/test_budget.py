"""Money: limits, amounts in words, what counts, and which requests cost the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from flux_lora_cli.engine.budget import (
    check_budget,
    dollars,
    lacks_refund,
    plain,
    price_kind,
    spent,
)
from flux_lora_cli.folder.records import JobRecord, PastTask, State

D = Decimal


@pytest.mark.parametrize(
    ("limit", "planned", "charged", "refused"),
    [
        (None, None, D(9), False),
        (D(1), None, D(0), True),
        (D(1), D(1), D(0), False),
        (D(1), D(1), D("0.01"), True),
        (D(1), D(0), D(2), False),  # a rerun that buys nothing
        (D(1), D(0), None, False),
    ],
)
def test_a_plan_over_the_limit_is_refused_whole(
    limit: Decimal | None, planned: Decimal | None, charged: Decimal | None, refused: bool
) -> None:
    error = check_budget(limit, planned, charged)
    assert (error is not None) is refused
    assert error is None or ("--price" if planned is None else "Raise --max-cost") in error.hint


@pytest.mark.parametrize(
    ("amount", "words", "digits"),
    [("14.4", "$14.40", "14.4"), ("0.015", "$0.015", "0.015"), ("6.00", "$6", "6"), ("1E+1", "$10", "10")],
)
def test_amounts_in_words(amount: str, words: str, digits: str) -> None:
    assert (dollars(D(amount)), plain(D(amount))) == (words, digits)


def record(**fields: Any) -> JobRecord:
    return JobRecord("k", **fields)


FAILED = PastTask("t", "failed: x", D("0.01"), D("0.004"))


@pytest.mark.parametrize(
    ("fields", "cost", "lacks"),
    [
        ({}, "0", False),
        ({"attempts": 1, "price": D("0.015"), "task_id": "t", "error": "x", "state": State.FAILED}, "0.015", True),
        ({"attempts": 1, "price": D("0.015"), "refunded": D("0.015"), "state": State.FAILED}, "0", False),
        ({"attempts": 1, "state": State.UNKNOWN}, None, False),
        ({"attempts": 1, "history": (FAILED,)}, "0.006", True),
        ({"attempts": 2, "price": D("0.02"), "state": State.UNKNOWN, "history": (PastTask("t", "x"),)}, None, False),
    ],
)
def test_what_was_spent_and_may_be_refunded(fields: dict[str, Any], cost: str | None, lacks: bool) -> None:
    assert spent([record(**fields), record()]) == (cost and D(cost))
    assert lacks_refund(record(**fields)) is lacks


def test_what_was_submitted_at_an_unknown_price_counts_at_the_one_that_is_named() -> None:
    unknown = record(attempts=2, state=State.UNKNOWN, history=(PastTask("t", "x"),), input={"num_images": 2})
    assert spent([unknown, record(attempts=1, price=D("0.02"), state=State.UNKNOWN)], D("0.01")) == D("0.06")
    assert spent([record(task_id="t", state=State.COMPLETED)]) == 0  # somebody else submitted it
    refused = check_budget(D(1), D(1), spent([unknown]))
    assert refused is not None and "--price" in refused.hint


LORAS = [{"path": "a/b", "scale": 1}]
BASE = {"prompt": "a", "seed": 1, "image": "", "size": "512*512", "num_images": 1, "loras": LORAS}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"prompt": "b", "seed": 2}, True),
        ({"loras": [{"path": "c/d", "scale": 2}]}, True),
        ({"loras": []}, False),
        ({"image": "inputs/x.png"}, False),
        ({"size": "1024*1024"}, False),
        ({"num_images": 2}, False),
    ],
)
def test_requests_of_one_kind_cost_the_same(change: dict[str, Any], same: bool) -> None:
    one, other = record(model="m", input=BASE), record(model="m", input={**BASE, **change})
    assert (price_kind(one) == price_kind(other)) is same
    assert price_kind(one) != price_kind(record(model="n", input=BASE))
