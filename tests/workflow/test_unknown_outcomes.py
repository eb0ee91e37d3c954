"""Submits of which nobody knows whether they were accepted: looked up, adopted, held, or sent again as asked."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.state_dir import user_ledger_dir
from flux_lora_cli.assembly.batches import BatchOptions
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.errors import ExitCode, NotFoundError, UsageError
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import MODEL, PRICE, SERVICE, SUBMIT_FAULTS, UNKNOWN_FAULTS, Sim, job, jobs

RESUBMIT = Settings(on_unknown="resubmit")
HOLD = Settings(on_unknown="hold")


def faulty(fault: str, *numbers: int) -> Callable[[str, int], str | None]:
    """The n-th submits meet a fault."""
    return lambda endpoint, number: fault if endpoint == "submit" and number in numbers else None


def fine(endpoint: str, number: int) -> None:
    return None


def states(sim: Sim) -> list[str]:
    return [record.state.value for record in sim.records().values()]


@pytest.mark.parametrize("fault", UNKNOWN_FAULTS)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_accepted_one_is_adopted_and_a_lost_one_held(sim: Sim, fault: str, nth: int) -> None:
    accepted = SUBMIT_FAULTS[fault][0]
    sim.service.script = faulty(fault, nth)
    outcome = sim.run(jobs(3)).outcome
    assert sim.service.calls["submit"] == 3
    assert len(truth.images(sim.folder)) == len(sim.service.made) == (3 if accepted else 2)
    assert outcome.exit_code is (ExitCode.OK if accepted else ExitCode.UNKNOWN)
    assert len(sim.told("Adopted")) == (1 if accepted else 0)
    assert outcome.charged == 3 * PRICE  # what may have been charged counts
    matched = [entry["task"]["matched_by"] for entry in truth.manifest(sim.folder)["jobs"]]
    assert sorted(filter(None, matched)) == (["predictions"] if accepted else [])


def test_the_list_is_read_until_two_minutes_past_the_time_out(sim: Sim) -> None:
    sim.service.script = faulty("lost", 1)
    sim.run(jobs(1))
    assert 180.0 <= sim.clock.time - 5000.0 <= 210.0
    (held,) = sim.told("Held")
    assert "not found" in held.message and held.job == "job-1"


def test_a_task_that_shows_late_in_the_list_is_adopted(sim: Sim) -> None:
    sim.service.script = faulty("lost", 1)

    def appear(endpoint: str) -> None:
        if endpoint == "list" and sim.clock.time > 5150.0 and not sim.service.made:
            (record,) = sim.records().values()
            sim.service.accept(MODEL, record.input or {})

    sim.service.on_call = appear
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK
    assert len(truth.images(sim.folder)) == 1


@pytest.mark.parametrize("fault", UNKNOWN_FAULTS)
def test_hold_does_not_look(sim: Sim, fault: str) -> None:
    sim.service.script = faulty(fault, 2)
    assert sim.run(jobs(3), settings=HOLD).outcome.exit_code is ExitCode.UNKNOWN
    assert "list" not in sim.service.calls
    assert sim.service.calls["submit"] == 3
    sim.service.script = fine
    assert sim.run(jobs(3), settings=HOLD).outcome.exit_code is ExitCode.UNKNOWN
    assert sim.service.calls["submit"] == 3
    accepted = SUBMIT_FAULTS[fault][0]
    assert sim.run(jobs(3)).outcome.exit_code is (ExitCode.OK if accepted else ExitCode.UNKNOWN)
    assert sim.service.calls["submit"] == 3


@pytest.mark.parametrize("fault", UNKNOWN_FAULTS)
def test_resubmit_looks_first_and_sends_only_what_is_not_there(sim: Sim, fault: str) -> None:
    sim.service.script = faulty(fault, 2)
    outcome = sim.run(jobs(3), settings=RESUBMIT).outcome
    accepted = SUBMIT_FAULTS[fault][0]
    assert outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 3
    assert outcome.resubmitted == (0 if accepted else 1)
    assert outcome.charged == (3 if accepted else 4) * PRICE
    assert len(truth.images(sim.folder)) == 3


def test_resubmit_sends_once_more_and_not_again(sim: Sim) -> None:
    sim.service.script = faulty("lost", 1, 2, 3)
    outcome = sim.run(jobs(1), settings=RESUBMIT).outcome
    assert outcome.exit_code is ExitCode.UNKNOWN
    assert sim.service.calls["submit"] == 2


def test_what_a_later_run_sends_again_keeps_its_price_and_its_limit(sim: Sim) -> None:
    sim.service.script = faulty("lost", 2)
    sim.run(jobs(2))
    sim.service.script = fine
    low = Settings(on_unknown="resubmit", max_cost=3 * PRICE - Decimal("0.001"))
    assert sim.run(jobs(2), settings=low).outcome.exit_code is ExitCode.BUDGET
    assert len(sim.service.made) == 1
    assert sorted(states(sim)) == ["completed", "unknown"]  # not planned: nobody asked the next run to pay again
    enough = Settings(on_unknown="resubmit", max_cost=3 * PRICE)
    assert sim.run(jobs(2), settings=enough).outcome.exit_code is ExitCode.OK
    assert truth.manifest(sim.folder)["summary"]["cost_usd"] == "0.045"


@pytest.mark.parametrize("fault", ["400", "401", "credit", "never"])
def test_a_second_submit_that_is_refused_leaves_the_first_unknown(sim: Sim, fault: str) -> None:
    sim.service.script = lambda endpoint, number: None if endpoint != "submit" else "lost" if number == 1 else fault
    sim.run(jobs(1), settings=RESUBMIT)
    assert states(sim) == ["unknown"]
    assert truth.manifest(sim.folder)["summary"]["cost_usd"] == "0.015"
    sim.service.script = fine
    before = sim.service.calls["submit"]
    assert sim.run(jobs(1), options=BatchOptions(retry_failed=True)).outcome.exit_code is ExitCode.UNKNOWN
    assert sim.service.calls["submit"] == before


# ---- lists that tell too little --------------------------------------------------------------


@pytest.mark.parametrize("echo", ["none", "part"])
@pytest.mark.parametrize("on_unknown", ["reconcile", "resubmit"])
def test_without_an_echo_nothing_is_adopted_or_sent_again(sim: Sim, echo: str, on_unknown: str) -> None:
    sim.service.echo = echo
    sim.service.script = faulty("late", 2)
    assert sim.run(jobs(3), settings=Settings(on_unknown=on_unknown)).outcome.exit_code is ExitCode.UNKNOWN
    (held,) = sim.told("Held")
    assert held.candidates == ("task0002",)
    assert "task0002" not in {record.task_id for record in sim.records().values()}
    assert sim.service.calls["submit"] == 3
    result = sim.run(jobs(3), options=BatchOptions(adopt=["job-2=task0002"]))
    assert result.outcome.exit_code is ExitCode.OK
    assert [entry["task"]["matched_by"] for entry in truth.manifest(sim.folder)["jobs"]] == [None, "user", None]
    assert sim.service.calls["submit"] == len(truth.images(sim.folder)) == 3


def test_two_that_agree_in_everything_are_named_and_not_guessed(sim: Sim) -> None:
    twins = [job(1, "a cat", seed=7), job(2, "a cat", seed=7, params={"num_inference_steps": 28})]
    sim.service.script = faulty("late", 1, 2)
    assert sim.run(twins).outcome.exit_code is ExitCode.UNKNOWN
    assert [sorted(event.candidates) for event in sim.told("Held")] == [["task0001", "task0002"]] * 2
    adopt = BatchOptions(adopt=["job-1=task0001", "job-2=task0002"])
    assert sim.run(twins, options=adopt).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 2


# ---- lists that fail, or go on ---------------------------------------------------------------


def test_a_list_that_is_down_holds_and_a_later_one_adopts(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: {"submit": "late", "list": "down"}.get(endpoint)
    assert sim.run(jobs(2)).outcome.exit_code is ExitCode.UNKNOWN
    assert all("cannot be read" in event.message for event in sim.told("Held"))
    assert sim.clock.time - 5000.0 >= 180.0
    sim.service.script = fine
    assert sim.run(jobs(2)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == sim.service.calls["submit"] == 2


def test_one_failure_of_the_list_is_not_the_last_word(sim: Sim) -> None:
    assert sim.kill(jobs(1), "submit accepted")
    sim.later(86400.0)
    sim.service.script = lambda endpoint, number: "down" if endpoint == "list" and number <= 4 else None
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK


@pytest.mark.parametrize("limit", [100, 30], ids=["full pages", "shorter pages than asked for"])
@pytest.mark.parametrize("honours_time", [True, False])
def test_every_page_is_read(sim: Sim, limit: int, honours_time: bool) -> None:
    sim.service.strangers(300)
    sim.later(3600.0)
    assert sim.kill(jobs(1), "submit accepted")
    sim.service.strangers(250)
    sim.service.page_limit = limit
    sim.service.honours_time = honours_time
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK
    assert sim.service.calls["submit"] == 1
    # Pages older than the submit are not read.
    assert sim.service.calls["list"] <= 251 // limit + 3


def test_a_list_with_inline_images_is_read_in_smaller_pages(sim: Sim) -> None:
    assert sim.kill(jobs(1), "submit accepted")
    sim.service.strangers(12)
    sim.service.page_most = 5
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK


def test_a_list_without_end_is_no_proof_that_nothing_is_there(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    from flux_lora_cli.workflow import reconciler

    monkeypatch.setattr(reconciler, "_MOST_PAGES", 2)
    assert sim.kill(jobs(1), "submit accepted")
    sim.service.strangers(500)
    assert sim.run(jobs(1), settings=RESUBMIT).outcome.exit_code is ExitCode.UNKNOWN
    assert sim.service.calls["submit"] == 1


# ---- tasks that belong to somebody else ------------------------------------------------------


def test_a_task_of_another_folder_is_not_adopted(sim: Sim) -> None:
    same = [job(1, "a cat", seed=7)]
    other = sim.folder.with_name("other")
    sim.run(same, folder=other)
    sim.service.script = faulty("lost", 2)
    assert sim.run(same).outcome.exit_code is ExitCode.UNKNOWN
    assert len(sim.service.made) == 1
    (record,) = sim.records().values()
    assert record.task_id is None


def test_a_task_of_the_users_own_ledger_is_not_adopted(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    state = sim.folder.with_name(f"{sim.folder.name}-state")
    monkeypatch.setenv("FLUX_LORA_STATE_DIR", str(state))
    sim.service.script = faulty("late", 1)

    def claim(endpoint: str) -> None:
        if endpoint == "list":
            with Ledger.open(user_ledger_dir(SERVICE), SERVICE) as ledger:
                ledger.save([JobRecord("task:task0001", task_id="task0001", state=State.SUBMITTED)])

    sim.service.on_call = claim
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.UNKNOWN


def test_the_failed_task_of_an_earlier_try_is_not_adopted_for_the_next(sim: Sim) -> None:
    sim.service.script = faulty("failed", 1)
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.INCOMPLETE
    sim.service.script = faulty("late", 2)
    again = BatchOptions(retry_failed=True)
    assert sim.run(jobs(1), options=again).outcome.exit_code is ExitCode.OK
    (record,) = sim.records().values()
    assert record.task_id == "task0002"
    assert len(truth.images(sim.folder)) == 1


# ---- --adopt ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("job-2", UsageError),
        ("=task0001", UsageError),
        ("job-2=", UsageError),
        ("job-2=../../x", UsageError),
        ("job-9=task0002", NotFoundError),
        ("job-1=task0002", UsageError),  # it is done
        ("job-2=task0001", UsageError),  # that one is job-1's
    ],
)
def test_an_adoption_that_cannot_be_meant_is_refused_before_any_request(
    sim: Sim, text: str, error: type[Exception]
) -> None:
    sim.service.echo = "none"
    sim.service.script = faulty("late", 2)
    sim.run(jobs(2))
    before = dict(sim.service.calls)
    with pytest.raises(error):
        sim.run(jobs(2), options=BatchOptions(adopt=[text]))
    assert sim.service.calls == before


def test_one_task_is_not_adopted_for_two_jobs(sim: Sim) -> None:
    sim.service.echo = "none"
    sim.service.script = faulty("late", 1, 2)
    sim.run(jobs(2))
    with pytest.raises(UsageError):
        sim.run(jobs(2), options=BatchOptions(adopt=["job-1=task0001", "job-2=task0001"]))


def test_a_mistyped_adoption_leaves_the_outcome_unknown(sim: Sim) -> None:
    sim.service.echo = "none"
    sim.service.script = faulty("late", 1)
    sim.run(jobs(1))
    sim.service.script = fine
    assert sim.run(jobs(1), options=BatchOptions(adopt=["job-1=nosuchtask"])).outcome.exit_code is ExitCode.UNKNOWN
    assert states(sim) == ["unknown"]
    # So neither a rerun nor --retry-failed pays again, and the right id is still taken.
    assert sim.run(jobs(1), options=BatchOptions(retry_failed=True)).outcome.exit_code is ExitCode.UNKNOWN
    assert sim.run(jobs(1), options=BatchOptions(adopt=["job-1=task0001"])).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 1


# ---- what is known ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["never", "429"])
def test_what_was_surely_refused_is_sent_again_and_paid_once(sim: Sim, fault: str) -> None:
    sim.service.script = faulty(fault, 1, 2)
    outcome = sim.run(jobs(2)).outcome
    assert outcome.exit_code is ExitCode.OK
    assert "list" not in sim.service.calls
    assert len(sim.service.made) == 2
    assert outcome.charged == 2 * PRICE


def test_a_refused_job_fails_without_a_charge_and_is_not_sent_again_by_itself(sim: Sim) -> None:
    sim.service.script = faulty("400", 2)
    assert sim.run(jobs(3)).outcome.exit_code is ExitCode.INCOMPLETE
    assert truth.manifest(sim.folder)["summary"]["cost_usd"] == "0.03"
    assert sim.run(jobs(3)).outcome.exit_code is ExitCode.INCOMPLETE
    assert sim.service.calls["submit"] == 3
    sim.service.script = fine
    assert sim.run(jobs(3), options=BatchOptions(retry_failed=True)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 3


@pytest.mark.parametrize(("fault", "code"), [("401", ExitCode.AUTH), ("302", ExitCode.SERVICE)])
def test_what_concerns_all_stops_all(sim: Sim, fault: str, code: ExitCode) -> None:
    sim.service.script = lambda endpoint, number: fault if endpoint == "submit" and number >= 3 else None
    assert sim.run(jobs(100)).outcome.exit_code is code
    assert sim.service.calls["submit"] < 20
    assert set(states(sim)) <= {"planned", "submitted", "completed"}
    sim.service.script = fine
    assert sim.run(jobs(100)).outcome.exit_code is ExitCode.OK
    assert len(sim.service.made) == 100


def test_the_first_ten_refused_alike_end_the_run(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "400" if endpoint == "submit" else None
    assert sim.run(jobs(100)).outcome.exit_code is ExitCode.INCOMPLETE
    assert 10 <= sim.service.calls["submit"] < 20
    assert len(sim.service.made) == 0


def test_a_folder_with_unknown_jobs_of_an_edited_preset_keeps_them(sim: Sim, ram: Path) -> None:
    sim.service.script = faulty("lost", 1)
    sim.run([job(1, "old")], settings=HOLD)
    assert sim.run([job(1, "new")]).outcome.exit_code is ExitCode.OK
    assert sorted(states(sim)) == ["completed", "unknown"]
