"""From jobs and what a folder knows to what a run has to do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.engine.assemble import Settings
from flux_lora_cli.engine.budget import (
    check_budget,
    dollars,
    lacks_refund,
    plain,
    price_documented,
    price_kind,
    spent,
)
from flux_lora_cli.engine.plan import BatchPlan, Work, lacks_images, make_plan, plan_event, plan_work
from flux_lora_cli.errors import NotFoundError, UsageError
from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask, State
from flux_lora_cli.presets.job import Job, LocalImage
from flux_lora_cli.service.models import DEFAULT_MODEL, Models
from flux_lora_cli.service.values import Parameter

MODELS = Models.builtin()
D = Decimal


def job(name: str, *, seed: int | None = None, **params: Any) -> Job:
    return Job(name, "p", DEFAULT_MODEL, {"prompt": name, **params}, seed)


def plan_of(jobs: Iterable[Job], known: Iterable[JobRecord] = (), first_seed: int = 1000, **options: Any) -> BatchPlan:
    seeds = itertools.count(first_seed)
    return make_plan(
        jobs, {record.key: record for record in known}, MODELS, None, draw_seed=lambda: next(seeds), **options
    )


def known(wanted: Job, state: State, **fields: Any) -> JobRecord:
    """What a folder knows of a job."""
    (work,) = plan_of([wanted]).works
    defaults = {"attempts": 1, "price": D("0.015")} if state is not State.PLANNED else {}
    return replace(work.record, state=state, **{**defaults, **fields})


def test_new_jobs_get_records_with_a_seed_in_order() -> None:
    plan = plan_of([job("a"), job("b", seed=7), job("c")])
    records = [work.record for work in plan.works]
    assert [record.order for record in records] == [0, 1, 2]
    assert [(record.input or {})["seed"] for record in records] == [1000, 7, 1001]
    assert [record.seed_drawn for record in records] == [True, False, True]
    assert all(record.state is State.PLANNED and record.key == record.fingerprint for record in records)
    assert plan.changed == records
    assert records[0].api_version == "v2"
    assert (records[0].input or {})["num_inference_steps"] == 28


def test_a_seed_is_drawn_within_what_the_model_takes() -> None:
    seed = Parameter("seed", "integer", -1, -1, 99)
    short = Models([replace(MODELS.find(DEFAULT_MODEL), parameters={"seed": seed})])
    works = [plan_work(JobRecord("k"), job("a", seed=fixed), short, None, lambda: 1234) for fixed in (None, 70)]
    seeds = [(work.record.input or {})["seed"] for work in works]
    assert seeds == [34, 70]


def test_a_second_plan_keeps_the_drawn_seed_and_changes_nothing_that_is_done() -> None:
    planned = known(job("a"), State.PLANNED)
    done = known(job("b"), State.COMPLETED, task_id="t", outputs=[OutputRecord(0, file="b.png")])
    plan = plan_of([job("a"), job("b")], [planned, done], 5)
    assert (planned.input or {})["seed"] == 1000
    assert plan.changed == [planned]
    assert [work.record for work in plan.to_submit] == [planned]
    assert plan_of([job("b")], [done]).changed == []
    renamed = plan_of([replace(job("b"), id="renamed")], [done])  # is the same purchase
    assert (renamed.to_submit, renamed.changed, done.id) == ([], [done], "renamed")


def test_duplicates_are_made_once_and_become_aliases() -> None:
    twin = replace(job("a"), id="twin")
    plan = plan_of([job("a"), job("b"), twin])
    assert plan.duplicates == [("twin", "a")]
    assert [work.record.aliases for work in plan.works] == [("twin",), ()]
    assert len(plan.works) == 2
    again = plan_of([job("a"), twin], [plan.works[0].record])
    assert again.works[0].record.aliases == ("twin",)


@pytest.mark.parametrize("state", [s for s in State if s not in (State.PLANNED, State.SKIPPED, State.FAILED)])
@pytest.mark.parametrize("retry", [False, True])
def test_what_may_be_paid_for_is_never_planned_again(state: State, retry: bool) -> None:
    record = known(job("a"), state, task_id=None if state in (State.UNKNOWN, State.SUBMITTING) else "t")
    before = replace(record)
    plan = plan_of([job("a")], [record], retry_failed=retry)
    assert not plan.to_submit
    assert (record.state, record.task_id, record.input) == (before.state, before.task_id, before.input)


def test_a_failed_job_is_submitted_again_only_when_asked_and_its_task_stays_in_the_history() -> None:
    output = OutputRecord(0, error="bad_image: x")
    failed = known(
        job("a"), State.FAILED, task_id="t1", error="task_failed: nsfw", refunded=D("0.01"), outputs=[output],
        task_status="failed", task_error="nsfw", execution_ms=5, matched_by="user", intent_at="2026-03-01T12:00:00Z",
    )  # fmt: skip
    assert not plan_of([job("a")], [failed]).to_submit
    plan = plan_of([job("a")], [failed], 5, retry_failed=True)
    assert [work.record for work in plan.to_submit] == plan.changed == [failed]
    past = PastTask("t1", "task_failed: nsfw", D("0.015"), D("0.01"), "2026-03-01T12:00:00Z")
    assert failed.history == (past,)
    assert (failed.input or {})["seed"] == 1000
    assert (failed.task_id, failed.error, failed.task_error, failed.outputs) == (None, None, "", [])
    assert failed.cost == spent([failed]) == D("0.005")
    failed.state, failed.price, failed.attempts = State.FAILED, D("0.02"), 2
    plan_of([job("a")], [failed], retry_failed=True)
    assert len(failed.history) == 2
    assert failed.cost == D("0.025")
    refused = known(job("b"), State.FAILED, attempts=0, price=None, error="rejected: 400")
    plan_of([job("b")], [refused], retry_failed=True)
    assert (refused.history, refused.cost) == ((), 0)  # it had no task


@pytest.mark.parametrize(
    ("errors", "lacks"),
    [
        ([None], True),
        (["bad_image: cut"], True),
        (["output_expired: 404"], False),
        (["not_delivered: 1 of 2"], False),
        (["not_delivered: 1 of 2", "damaged: x"], True),
        ([], False),
    ],
)
def test_paid_tasks_of_jobs_no_longer_asked_for_are_collected(errors: list[str | None], lacks: bool) -> None:
    outputs = [OutputRecord(number, error=error) for number, error in enumerate(errors)]
    old = known(job("old"), State.COMPLETED, task_id="t1", outputs=outputs)
    running = known(job("older"), State.SUBMITTED, task_id="t2")
    held = known(job("held"), State.UNKNOWN)
    plan = plan_of([job("a")], [old, running, held])
    assert [work.record for work in plan.collected] == ([old] if lacks else []) + [running]
    assert not any(work.counts for work in plan.collected)
    assert lacks_images(old) is lacks
    assert not lacks_images(replace(old, outputs=[OutputRecord(0, left_out=True)]))
    assert plan_of([job("a")], [old, running], only_some=True).collected == []
    assert not plan_of([job("old")], [old]).to_submit  # what is missing for good is not bought again, either


def test_skipped_jobs_are_recorded_and_come_back() -> None:
    plan = plan_of([job("a")], skipped=[job("b"), job("a")])
    (record,) = plan.skipped
    assert (record.id, record.state, record.order) == ("b", State.SKIPPED, 1)
    done = known(job("c"), State.COMPLETED)
    assert plan_of([], [done], skipped=[job("c")]).skipped == []
    again = plan_of([job("b")], [record])
    assert [work.record for work in again.to_submit] == [record]


@given(st.integers(1, 7), st.lists(st.text(max_size=5), max_size=30, unique=True))
def test_shards_are_the_whole_and_no_job_is_in_two(parts: int, names: list[str]) -> None:
    jobs = [job(f"j{name}") for name in names]
    shares = [plan_of(jobs, shard=(part, parts)) for part in range(1, parts + 1)]
    keys = [work.record.key for plan in shares for work in plan.works]
    assert sorted(keys) == sorted(each.fingerprint for each in jobs)


def test_the_request_names_local_images_by_their_hash() -> None:
    digest = "ab" * 32
    image = LocalImage("/x/a.png", digest, 10, "image/png", "png")
    wanted = replace(job("a", image=digest), images={digest: image})
    record = plan_work(JobRecord("k"), wanted, MODELS, None).record
    assert (record.model, record.api_version) == (DEFAULT_MODEL, "v2")
    body = record.input or {}
    assert body["image"] == f"inputs/{digest}.png"
    assert body["strength"] == 0.6
    several = replace(job("a", images=[digest, "https://e.org/b.png"]), model="x/any-edit", images={digest: image})
    record = plan_work(JobRecord("k"), several, MODELS, None).record
    assert (record.input or {})["images"] == [f"inputs/{digest}.png", "https://e.org/b.png"]
    assert record.api_version == "v3"


# ---- --adopt ----


def adopting(texts: list[str]) -> list[Work]:
    """The works of a plan, once it was told which tasks they are to take."""
    lost = known(job("a"), State.UNKNOWN)
    done = known(job("b"), State.COMPLETED, task_id="t-b", aliases=())
    cut = known(job("c=d"), State.SUBMITTING)
    other = JobRecord("other", state=State.COMPLETED, task_id="t-9")
    jobs = [job("a"), replace(job("a"), id="alias"), job("b"), job("c=d")]
    return plan_of(jobs, [lost, done, cut, other], adopt=texts).works


@pytest.mark.parametrize(
    ("texts", "taken"),
    [
        (["alias=t-1"], [("a", "t-1")]),
        (["c=d=t_2", "a=t-1"], [("a", "t-1"), ("c=d", "t_2")]),
        (["b=t-b"], []),  # the command that adopted it, run again
        (["a=t-1", "alias=t-1"], [("a", "t-1")]),
    ],
)
def test_adoptions(texts: list[str], taken: list[tuple[str, str]]) -> None:
    records = [work.record for work in adopting(texts)]
    assert [(each.id, each.task_id) for each in records if each.matched_by == "user"] == taken
    assert all(each.state is State.SUBMITTED for each in records if each.matched_by)


@pytest.mark.parametrize(
    "texts", [["a"], ["=t-1"], ["a="], ["a=../../x"], ["x=t-1"], ["b=t-1"], ["a=t-9"], ["a=t-1", "c=d=t-1"]]
)
def test_an_adoption_that_cannot_be_meant(texts: list[str]) -> None:
    with pytest.raises(NotFoundError if texts == ["x=t-1"] else UsageError):
        adopting(texts)


# ---- the plan as an event ----


@pytest.mark.parametrize(("price", "cost", "source"), [(None, "0.045", "documented"), (D("0.02"), "0.06", "--price")])
def test_the_plan_told_without_asking_anybody(price: Decimal | None, cost: str, source: str) -> None:
    jobs = [job("a", num_images=2), job("b"), job("c"), job("d"), job("e"), job("f")]
    states = [State.COMPLETED, State.FAILED, State.SUBMITTED, State.UNKNOWN]
    plan = plan_of(jobs, [known(each, state) for each, state in zip(jobs[2:], states, strict=True)])
    total = price_documented(plan, price)
    event = plan_event(plan, Settings(concurrency=2), D("0.03"), total, folder="o", dry_run=True)
    assert (event.jobs, event.done, event.failed, event.in_flight, event.unknown) == (6, 1, 1, 1, 1)
    assert (event.to_submit, event.images, event.cost_usd, event.price_source) == (2, 3, cost, source)
    assert (event.charged_usd, event.expected_seconds, event.dry_run) == ("0.03", 8.0, True)


def test_a_price_that_nobody_documents_is_not_known_and_the_rate_counts() -> None:
    plan = plan_of([replace(job("a"), model="x/unknown")])
    total = price_documented(plan, None)
    event = plan_event(plan, Settings(rate=0.01), D(0), total, folder="o", dry_run=False)
    assert (total, event.cost_usd, event.price_source) == (None, None, None)
    assert event.expected_seconds == 100.0
    empty = plan_event(BatchPlan(), Settings(rate=1.0), D(0), D(0), folder="o", dry_run=False)
    assert (empty.expected_seconds, empty.cost_usd) == (0.0, "0")


# ---- money: limits, amounts in words, what counts, and which requests cost the same ----


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
    assert spent([JobRecord("k", **fields), JobRecord("k")]) == (cost and D(cost))
    assert lacks_refund(JobRecord("k", **fields)) is lacks


def test_what_was_submitted_at_an_unknown_price_counts_at_the_one_that_is_named() -> None:
    unknown = JobRecord("k", attempts=2, state=State.UNKNOWN, history=(PastTask("t", "x"),), input={"num_images": 2})
    assert spent([unknown, JobRecord("k", attempts=1, price=D("0.02"), state=State.UNKNOWN)], D("0.01")) == D("0.06")
    assert spent([JobRecord("k", task_id="t", state=State.COMPLETED)]) == 0  # somebody else submitted it
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
    one, other = JobRecord("k", model="m", input=BASE), JobRecord("k", model="m", input={**BASE, **change})
    assert (price_kind(one) == price_kind(other)) is same
    assert price_kind(one) != price_kind(JobRecord("k", model="n", input=BASE))
