"""Limits, prices, refunds; submissions of unknown outcome over several runs; failed jobs."""

from __future__ import annotations

import re
import signal
import sqlite3
from decimal import Decimal

import pytest

from tests.conftest import MakeStage
from tests.faults.rows import STRANGE_PRICES
from tests.money.conftest import BATCH
from tests.support import truth
from tests.support.fake import Exchange

HOLD = f"{BATCH} --on-unknown hold"


def test_a_limit_stops_in_time_and_counts_what_was_spent(stages: MakeStage) -> None:
    stage = stages(6)
    done = stage.run(f"{BATCH} --max-cost 0.05 --json", code=8, charges=3)
    assert Decimal(done.events[-1]["charged_usd"]) == Decimal("0.045")
    before = stage.fake.count()
    stage.run(f"{BATCH} --max-cost 0.05 --dry-run", code=8)
    stage.run(f"{BATCH} --max-cost 0.06 --dry-run --price 0.001", code=0)
    assert stage.fake.count() == before
    stage.run(f"{BATCH} --max-cost 0.09", code=0)
    stage.all_done(6)


def test_a_limit_holds_over_kills(stages: MakeStage) -> None:
    stage = stages(20, service_time=0.3)
    for times in range(1, 4):
        process = stage.start(f"{BATCH} --max-cost 0.15 --concurrency 3", scale=5, charged=3 * times)
        stage.end(process, signal.SIGKILL)
    stage.run(f"{BATCH} --max-cost 0.15 --on-unknown hold")
    assert stage.fake.charged <= 10


def test_a_limit_holds_over_two_processes(stages: MakeStage) -> None:
    stage = stages(20)
    for process in [stage.start(f"{BATCH} --max-cost 0.15") for _ in range(2)]:
        stage.end(process)
    assert stage.fake.charged <= 10


@pytest.mark.parametrize("price", STRANGE_PRICES)
def test_a_price_that_contradicts_itself_does_not_lift_the_limit(stages: MakeStage, price: str) -> None:
    stage = stages(3)
    stage.wrong(f"price:body={price.replace(':', 'COLON')}")
    done = stage.run(f"{BATCH} --max-cost 0.02")
    assert stage.fake.charged <= 1
    assert stage.fake.charged or "; charged" not in done.err


@pytest.mark.parametrize("earlier", ["another job's", "a failed one of the job"])
def test_an_answer_that_names_an_earlier_task_tells_nothing(stages: MakeStage, earlier: str) -> None:
    stage = stages(1)
    failed = earlier.startswith("a failed")
    stage.wrong("submit:failed=1200" if failed else "")
    assert stage.run(BATCH).code == (6 if failed else 0)
    stage.fake.mend()

    def repeated(exchange: Exchange) -> None:
        exchange.carried()
        exchange.answer(stage.fake.data(stage.fake.view(stage.fake.tasks[stage.fake.charges[0]])))

    stage.fake.on("submit", repeated)
    stage.jobs(1 if failed else 2)
    done = stage.run(f"{HOLD} --retry-failed")
    assert (done.code, stage.unknown()) == (13, ["cat1" if failed else "cat2"]), done.err
    stage.run(BATCH, code=0)
    assert (stage.fake.charged, len(stage.pictures())) == (2, 1 if failed else 2)


def test_candidates_are_named_and_one_is_adopted_by_hand(stages: MakeStage) -> None:
    stage = stages(2, scale=200.0)
    stage.wrong("submit:reset-after:nth=1 list:no-inputs")
    done = stage.run(f"{BATCH} --json", code=13)
    (held,) = [event for event in done.events if event["event"] == "held"]
    (candidate,) = held["candidates"]
    assert candidate in done.err
    done = stage.run(f"{BATCH} --json --adopt {held['job']}={candidate}", code=0)
    adopted = {"event": "adopted", "job": held["job"], "task": candidate, "matched_by": "user"}
    assert [event for event in done.events if event["event"] == "adopted"] == [adopted]
    stage.fake.mend()
    stage.all_done(2)


def test_hold_asks_nobody_and_a_later_run_finds_it(stages: MakeStage) -> None:
    stage = stages(3)
    stage.wrong("submit:reset-after:nth=1")
    stage.run(HOLD, code=13)
    assert stage.fake.count("list") == 0
    stage.fake.mend()
    stage.run(BATCH, code=0)
    assert sorted(str(job["task"]["matched_by"]) for job in truth.manifest(stage.out)["jobs"]) == [
        "None",
        "None",
        "predictions",
    ]
    stage.all_done(3)


def test_a_task_that_another_folder_has_is_not_adopted(stages: MakeStage) -> None:
    """The same request with the same fixed seed, bought into one folder; for the other the answer is lost."""
    stage = stages(1, scale=200.0)
    stage.jobs(1, seed=7)
    stage.run("batch jobs.jsonl -o first", code=0)
    stage.wrong("submit:503:first=1")
    stage.run(BATCH, code=13, charges=1)
    assert stage.unknown() == ["cat1"]


def test_the_list_is_read_to_its_end(stages: MakeStage) -> None:
    """Tasks of others came meanwhile, more than a page of the list holds."""
    stage = stages(1)

    def crowded(exchange: Exchange) -> None:
        exchange.carried()
        for number in range(250):
            stage.task(prompt=f"somebody else's {number}")
        exchange.reset()

    stage.fake.on("submit", crowded, first=1)
    stage.run(BATCH, code=0, charges=1)


@pytest.mark.parametrize(("order", "code"), [("oldest first", 0), ("page ignored", 13)])
def test_nothing_is_absent_from_a_list_that_is_not_read_to_its_end(stages: MakeStage, order: str, code: int) -> None:
    stage = stages(1, scale=200.0)

    def crowded(exchange: Exchange) -> None:
        exchange.carried()
        for number in range(150):
            other = stage.fake.tasks[stage.task(prompt=f"somebody else's {number}")]
            other.at += -86_400.0 if order == "oldest first" else 1.0
        exchange.reset()

    def listed(exchange: Exchange) -> None:
        fake, page = stage.fake, int(exchange.request.json["page"])
        tasks = sorted(fake.tasks.values(), key=lambda task: task.at if order == "oldest first" else -task.at)
        start = 100 * (page - 1) if order == "oldest first" else 0
        items = [fake.view(task, echo=True) for task in tasks[start : start + 100]]
        exchange.answer(fake.data({"page": page, "items": items}))

    stage.fake.on("submit", crowded, first=1)
    stage.fake.on("list", listed)
    stage.run(f"{BATCH} --on-unknown resubmit", code=code, charges=1)


def test_smaller_pages_are_not_tried_where_a_list_is_nonsense(stages: MakeStage) -> None:
    stage = stages(1, scale=400.0)
    stage.wrong("submit:503-after:1 list:html")
    stage.run(BATCH, code=13, charges=1)
    assert {request.json["page_size"] for request in stage.fake.log if request.endpoint == "list"} == {100}


def test_ids_keep_the_order_of_the_prompts_while_one_is_searched_for(stages: MakeStage) -> None:
    stage = stages(1, scale=20.0)
    stage.wrong("submit:503-after:nth=1 list:500:2")
    done = stage.run("submit -p one -p two -p three", code=0)
    assert [stage.fake.tasks[task].inputs["prompt"] for task in done.out.split()] == ["one", "two", "three"]


def test_a_paid_submission_whose_ledger_is_locked_is_not_to_be_repeated(stages: MakeStage) -> None:
    stage = stages(1)
    locks = []

    def lock(exchange: Exchange) -> None:
        answer = exchange.carried()
        (ledger,) = stage.state.rglob("ledger.sqlite3")
        locks.append(sqlite3.connect(ledger, isolation_level=None, check_same_thread=False))
        locks[0].execute("BEGIN IMMEDIATE")
        exchange.answer(answer)

    stage.fake.on("submit", lock)
    done = stage.run("submit 'a cat'")
    locks[0].close()
    assert done.code == 7, done.err
    assert re.search(rf"flux-lora wait .*{stage.fake.charges[0]}", done.err)
    assert not re.search(r"run again|same command", done.err)


@pytest.mark.parametrize("refusal", ["redirect=portal", "400", pytest.param("422", marks=pytest.mark.slow)])
def test_where_polls_are_refused_for_good_no_more_is_bought(stages: MakeStage, refusal: str) -> None:
    stage = stages(40)
    stage.wrong(f"look:{refusal}")
    done = stage.run(f"{BATCH} --concurrency 4")
    assert done.code in (5, 6), done.err
    assert 1 <= stage.fake.charged <= 4
    assert all(task in done.err for task in stage.fake.charges)


@pytest.mark.parametrize(
    ("command", "code"), [("wait - -o jobs.jsonl", 7), ("wait {ids} -o jobs.jsonl", 7), ("wait -", 4)]
)
def test_wait_names_the_tasks_also_where_it_cannot_begin(stages: MakeStage, command: str, code: int) -> None:
    stage = stages(1, service_time=600.0)
    ids = stage.run("submit -p 'a cat' -p 'a dog'").lines
    env = {"WAVESPEED_API_KEY": None} if code == 4 else None
    done = stage.run(command.format(ids=" ".join(ids)), stdin="".join(f"{task}\n" for task in ids), env=env, code=code)
    assert f"not collected yet: {', '.join(ids)}" in done.err
    assert f"flux-lora wait {' '.join(ids)}" in done.err


@pytest.mark.parametrize("command", [BATCH, "submit --wait -o out 'a cat'"])
def test_no_advice_leads_to_paying_again(stages: MakeStage, command: str) -> None:
    """Whatever the deadline cuts off is named, and the command that collects it is not the one that buys."""
    stage = stages(2, service_time=600.0, scale=1.0)
    done = stage.run(f"{command} --timeout 1s", code=9)
    assert all(task in done.err for task in stage.fake.charges)
    if command.startswith("submit"):
        assert re.search(rf"flux-lora wait .*{stage.fake.charges[0]}", done.err)
        assert not re.search(r"same command|run again|--retry", done.err, re.IGNORECASE)


def test_submit_into_wait_with_a_deadline_names_the_tasks(stages: MakeStage) -> None:
    stage = stages(1, service_time=600.0, scale=1.0)
    ids = stage.run("submit -p 'a cat' -p 'a dog'").lines
    done = stage.run("wait - -o out --timeout 1s", stdin="".join(f"{task}\n" for task in ids), code=9)
    assert all(task in done.err for task in ids)
    assert "submit" not in done.err.lower().replace("submitted", "").replace("submission", "")


def test_a_submission_that_a_deadline_cut_off_is_held(stages: MakeStage) -> None:
    stage = stages(1, scale=1.0)
    stage.wrong("submit:stall-after=60")
    done = stage.run(f"{BATCH} --timeout 4s")  # of real time: a busy machine takes a while to submit
    assert done.code == 13, done.err
    assert "cat1" in done.err
    stage.scale = 100.0
    stage.finish(1)


def test_the_state_of_submit_survives_a_kill(stages: MakeStage) -> None:
    """What a lost terminal forgot, ``status`` finds: the intents of ``submit`` are durable before its POST."""
    stage = stages(1)
    stage.wrong("submit:stall-after=60")
    stage.end(stage.start("submit 'a lost cat'", scale=1, charged=1), signal.SIGKILL)
    stage.fake.mend()
    assert any(task in stage.run("status").out for task in stage.fake.charges)


def test_a_catalogue_that_does_not_come_in_time_is_asked_for_once(stages: MakeStage) -> None:
    stage = stages(1)
    stage.wrong("models:stall=60")
    done = stage.run("models --update models.json")
    assert (done.code, stage.fake.count("models")) == (5, 1), done.err


@pytest.mark.parametrize(("fault", "code", "charged"), [("look:407:nth=2", 0, 4), ("submit:407:nth=2", 5, 1)])
def test_a_proxy_that_fails_for_a_moment_stops_submissions_alone(
    stages: MakeStage, fault: str, code: int, charged: int
) -> None:
    stage = stages(4)
    stage.wrong(fault)
    behind = "--base-url http://api.example --allow-custom-host --no-download --concurrency 1"
    stage.run(f"{BATCH} {behind}", env={"HTTP_PROXY": stage.fake.base_url, "NO_PROXY": ""}, code=code, charges=charged)
    assert truth.manifest(stage.out)["summary"]["completed"] == charged
