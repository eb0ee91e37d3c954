"""--max-cost holds for the folder in all: across kills, reruns, shards, retries and prices that nobody knew."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from flux_lora_cli.assembly.batches import BatchOptions
from flux_lora_cli.errors import BudgetError, ExitCode
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import PRICE, Sim, job, jobs


def limit(images: int, **fields: object) -> Settings:
    return Settings(max_cost=images * PRICE, **fields)  # type: ignore[arg-type]


def test_the_price_is_reserved_before_the_submit(sim: Sim) -> None:
    sim.latency = lambda: 5.0  # many submits on their way at once
    outcome = sim.run(jobs(30), settings=limit(7)).outcome
    assert outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == len(truth.images(sim.folder)) == 7
    reason = outcome.reasons[ExitCode.BUDGET]
    assert reason is not None
    assert "$0.105 of $0.105" in reason.message
    assert "23 jobs were not submitted" in reason.message


def test_it_counts_what_earlier_runs_were_charged(sim: Sim) -> None:
    assert sim.run(jobs(10), settings=limit(4)).outcome.exit_code is ExitCode.BUDGET
    assert sim.run(jobs(10), settings=limit(4)).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 4
    assert sim.run(jobs(10), settings=limit(6)).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 6
    assert sim.run(jobs(10), settings=limit(10)).outcome.exit_code is ExitCode.OK


def test_a_hair_below_is_below(sim: Sim) -> None:
    settings = Settings(max_cost=Decimal("0.0449999999999999999"))
    assert sim.run(jobs(3), settings=settings).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 2


@pytest.mark.parametrize("fault", ["late", "lost", "failed"])
def test_unknown_and_failed_tasks_count_in_full(sim: Sim, fault: str) -> None:
    sim.service.script = lambda endpoint, number: fault if endpoint == "submit" and number <= 2 else None
    settings = limit(4, on_unknown="hold")
    assert sim.run(jobs(6), settings=settings).outcome.exit_code is ExitCode.BUDGET
    assert sim.service.calls["submit"] == 4
    again = BatchOptions(retry_failed=True)
    assert sim.run(jobs(6), settings=settings, options=again).outcome.exit_code is ExitCode.BUDGET
    assert sim.service.calls["submit"] == 4


@pytest.mark.parametrize("fault", ["400", "429", "never"])
def test_what_was_refused_does_not_count(sim: Sim, fault: str) -> None:
    sim.service.script = lambda endpoint, number: fault if endpoint == "submit" and number == 1 else None
    sim.run(jobs(3), settings=limit(3 - (fault == "400")))
    assert len(sim.service.made) == 3 - (fault == "400")
    assert len(truth.images(sim.folder)) == 3 - (fault == "400")


def test_it_holds_across_kills_at_every_step(new_sim: Callable[[], Sim]) -> None:
    number, alive = 0, False
    while not alive:
        number += 2
        sim = new_sim()
        alive = not sim.kill(jobs(4), number, settings=limit(2))
        for on_unknown in ("reconcile", "resubmit"):
            sim.run(jobs(4), settings=limit(2, on_unknown=on_unknown))
            assert len(sim.service.made) <= 2, number
        sim.run(jobs(4), settings=limit(3, on_unknown="resubmit"))
        assert len(sim.service.made) <= 3, number


# ---- prices ----------------------------------------------------------------------------------


def test_a_price_that_nobody_knows_is_refused_and_not_taken_for_zero(sim: Sim) -> None:
    sim.service.unit_price = None
    outcome = sim.run(jobs(3), settings=limit(100)).outcome
    assert outcome.exit_code is ExitCode.BUDGET
    assert "submit" not in sim.service.calls
    named = BatchOptions(price=PRICE)
    assert sim.run(jobs(3), settings=limit(2), options=named).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 2


def test_the_services_price_wins_over_the_users(sim: Sim) -> None:
    outcome = sim.run(jobs(3), settings=limit(2), options=BatchOptions(price=Decimal("0.001"))).outcome
    assert outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 2


def test_without_a_limit_an_unknown_price_stays_unknown(sim: Sim) -> None:
    sim.service.unit_price = None
    outcome = sim.run(jobs(2)).outcome
    assert outcome.exit_code is ExitCode.OK
    assert [entry["cost_usd"] for entry in truth.manifest(sim.folder)["jobs"]] == [None, None]
    assert outcome.estimated is None


def test_what_was_submitted_at_an_unknown_price_counts_at_todays(sim: Sim) -> None:
    sim.service.unit_price = None
    sim.run(jobs(2))
    with pytest.raises(BudgetError, match="earlier jobs"):
        sim.run(jobs(4), settings=limit(3))
    assert len(sim.service.made) == 2
    sim.service.unit_price = PRICE
    assert sim.run(jobs(4), settings=limit(3)).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 3
    assert truth.manifest(sim.folder)["summary"]["cost_usd"] == "0.045"


def test_several_images_cost_several_prices(sim: Sim) -> None:
    sim.service.unit_price = None
    four = [job(number, params={"num_images": 4}) for number in (1, 2)]
    outcome = sim.run(four, settings=limit(7), options=BatchOptions(price=PRICE)).outcome
    assert outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 1


def test_one_question_for_the_price_of_many_equal_jobs(sim: Sim) -> None:
    sim.run(jobs(30))
    assert sim.service.calls["price"] == 1


# ---- credit ----------------------------------------------------------------------------------


def test_a_credit_below_the_plans_cost_is_said_before_the_first_submit(sim: Sim) -> None:
    sim.service.credit = 2 * PRICE
    outcome = sim.run(jobs(5)).outcome
    kinds = [type(event).__name__ for event in sim.events]
    (warned,) = [event for event in sim.told("Warned") if event.code == "balance"]
    assert kinds.index("Warned") < kinds.index("Submitted")
    assert "$0.03" in warned.message
    assert "$0.075" in warned.message
    assert outcome.exit_code is ExitCode.BUDGET


def test_out_of_credit_stops_submits_and_collects_the_rest(sim: Sim) -> None:
    sim.service.credit = 4 * PRICE
    assert sim.run(jobs(50)).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == len(truth.images(sim.folder)) == 4
    assert sim.service.calls["submit"] < 4 + 16
    sim.service.credit = None
    assert sim.run(jobs(50)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 50
