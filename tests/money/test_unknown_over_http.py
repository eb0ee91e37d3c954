"""What a real connection does to a submit, and what the command makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.money.conftest import Money
from tests.support import truth

_ACCEPTED = [
    "reset-after", "eof-after", "stall-after=60", "500-after", "502-after", "503-after", "504-after", "408-after",
    "html", "empty", "broken-json", "list", "no-id", "bad-id=../../x", "no-data", "cut", "short", "envelope-after=500",
    "deep", "bomb",
]  # fmt: skip
_NOT_ACCEPTED = ["reset-before", "eof-before", "500-before", "503-before", "408-before", "html-before"]
_REFUSED = ["400", "422", "404"]


def some(kinds: list[str], often: int) -> list[object]:
    """Every ``often``-th in the default run, the others in the slow one."""
    return [
        kind if place % often == 0 else pytest.param(kind, marks=pytest.mark.slow) for place, kind in enumerate(kinds)
    ]


def states(one: Money) -> list[str]:
    return [entry["state"] for entry in truth.manifest(one.folder)["jobs"]]


@pytest.mark.parametrize("fault", some(_ACCEPTED, 9))
def test_a_submit_that_was_accepted_is_found_in_the_list(money: Callable[..., Money], fault: str) -> None:
    one = money(3)
    one.sandbox.faults.add(f"submit:{fault}:nth=2")
    done = one.run(timeouts=40 if "stall" in fault else 0)
    assert done.code == 0, done.err
    assert one.submits == one.charged == 3
    matched = [entry["task"]["matched_by"] for entry in truth.manifest(one.folder)["jobs"]]
    assert sorted(map(str, matched)) == ["None", "None", "predictions"]
    one.all_done()


@pytest.mark.parametrize("fault", some(_NOT_ACCEPTED, 6))
def test_a_submit_that_was_not_accepted_is_held_and_named(money: Callable[..., Money], fault: str) -> None:
    one = money(3)
    one.sandbox.faults.add(f"submit:{fault}:nth=2")
    done = one.run(speed=400)
    assert done.code == 13, done.err
    assert one.submits == 3
    assert one.charged == 2
    (held,) = [entry["id"] for entry in truth.manifest(one.folder)["jobs"] if entry["state"] == "unknown"]
    assert held in done.err
    assert "--adopt" in done.err
    assert "--on-unknown resubmit" in done.err
    again = one.run("--on-unknown", "resubmit", "--json", speed=400)
    assert again.code == 0, again.err
    assert again.events[-1]["resubmitted"] == 1
    one.all_done()


@pytest.mark.parametrize("fault", some(_REFUSED, 3))
def test_a_submit_that_was_refused_fails_its_job_alone(money: Callable[..., Money], fault: str) -> None:
    one = money(3)
    one.sandbox.faults.add(f"submit:{fault}:nth=2")
    assert one.run().code == 6
    assert sorted(states(one)) == ["completed", "completed", "failed"]
    assert one.run().code == 6
    assert one.submits == 3
    assert one.run("--retry-failed").code == 0
    one.all_done()


@pytest.mark.parametrize("fault", some(["429:2", "429:1:retry-after=2", "429:1:retry-after=date+2", "refuse=0.5:1"], 3))
def test_a_submit_that_surely_never_was_is_sent_again(money: Callable[..., Money], fault: str) -> None:
    one = money(3)
    one.sandbox.faults.add(f"submit:{fault}")
    done = one.run("--concurrency", "1", speed=10)  # a port that closes resets what else is on its way
    assert done.code == 0, done.err
    one.all_done()


def test_candidates_are_named_and_one_is_adopted_by_hand(money: Callable[..., Money]) -> None:
    one = money(2)
    one.sandbox.faults.add("submit:reset-after:nth=1")
    one.sandbox.faults.add("list:no-inputs")
    done = one.run("--json", speed=400)
    assert done.code == 13
    (held,) = [event for event in done.events if event["event"] == "held"]
    (candidate,) = held["candidates"]
    adopted = one.run("--adopt", f"{held['job']}={candidate}")
    assert adopted.code == 0, adopted.err
    one.all_done()


def test_an_echo_under_its_other_name_is_understood(money: Callable[..., Money]) -> None:
    one = money(2)
    one.sandbox.faults.add("submit:reset-after:nth=1")
    one.sandbox.faults.add("list:input-name")
    assert one.run().code == 0
    one.all_done()


def test_hold_asks_nobody(money: Callable[..., Money]) -> None:
    one = money(3)
    one.sandbox.faults.add("submit:reset-after:nth=1")
    assert one.run("--on-unknown", "hold").code == 13
    assert one.sandbox.stats()["lists"] == 0
    assert one.run().code == 0
    one.all_done()


def test_the_budget_over_the_command_line(money: Callable[..., Money]) -> None:
    one = money(6)
    done = one.run("--max-cost", "0.05", "--json")
    assert done.code == 8, done.err
    assert one.charged == 3
    assert done.events[-1]["charged_usd"] == "0.045"
    dry = one.run("--max-cost", "0.05", "--dry-run")
    assert dry.code == 8
    before = one.requests
    assert one.run("--max-cost", "0.05", "--dry-run", "--price", "0.001").code == 0
    assert one.requests == before
    assert one.run("--max-cost", "0.09").code == 0
    one.all_done()


def test_an_unknown_price_is_refused_with_a_limit(money: Callable[..., Money]) -> None:
    one = money(2)
    one.sandbox.faults.add("price:404")
    done = one.run("--max-cost", "1")
    assert (done.code, one.submits) == (8, 0)
    assert "--price" in done.err
    assert one.run("--max-cost", "1", "--price", "0.015").code == 0
    one.all_done()


def test_a_credit_below_the_plan_is_said_and_the_rest_collected(money: Callable[..., Money]) -> None:
    from decimal import Decimal

    one = money(5, balance=Decimal("0.04"))
    done = one.run()
    assert done.code == 8
    assert "the account has $0.04, and the plan costs $0.075" in done.err
    assert one.charged == 2
    assert json.loads((one.folder / "manifest.json").read_text())["summary"]["images"] == 2


def test_a_folder_of_another_service_is_refused_before_any_request(money: Callable[..., Money]) -> None:
    one, other = money(2), money(2)
    assert one.run().code == 0
    refused = other.run(folder=one.folder)
    assert (refused.code, other.requests) == (7, 0)
    assert "-o" in refused.err


def test_one_edited_job_is_one_charge(money: Callable[..., Money]) -> None:
    one = money(20)
    assert one.run().code == 0
    one.write([*range(19), 99])
    assert one.run().code == 0
    assert one.charged == 21
