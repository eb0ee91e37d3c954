"""Failed tasks count until the bill shows their refund; the bill is read once, by runs with a limit that have any."""

from __future__ import annotations

import shutil
import signal
from typing import Any

import pytest

from tests.conftest import Finished, MakeStage
from tests.money.conftest import BATCH
from tests.support import truth
from tests.support.stage import Stage


@pytest.fixture
def stage(stages: MakeStage) -> Stage:
    """A batch of two was run, whose second task failed."""
    made = stages(2)
    made.wrong("submit:failed:nth=2")
    made.run(f"{BATCH} --concurrency 1 --max-cost 1", code=6)
    made.fake.mend()
    return made


def failed_job(stage: Stage) -> dict[str, Any]:
    (job,) = (job for job in truth.manifest(stage.out)["jobs"] if job["id"] == "cat2")
    return dict(job)


def warned(done: Finished) -> int:
    return sum(event["event"] == "warning" and event["code"] == "refunds" for event in done.events)


@pytest.mark.parametrize("option", ["--max-cost", "--max-month"])
def test_a_refund_makes_room_for_another_try_and_the_history_is_kept(stage: Stage, option: str) -> None:
    failed, retry = failed_job(stage), f"{BATCH} --json --retry-failed {option}"
    assert stage.run(BATCH).code == 6  # a mere rerun does not submit it again
    stage.wrong("bill:404")
    done = stage.run(f"{retry} 0.03")
    assert (done.code, warned(done), stage.fake.charged) == (8, 1, 2), done.err
    stage.fake.mend()
    refused = stage.run(f"{retry} 0.02")
    assert (refused.code, warned(refused), stage.fake.charged) == (8, 0, 2)
    stage.run(f"{retry} 0.03", code=0, charges=3)
    again = failed_job(stage)
    (past,) = again["history"]
    assert (past["task_id"], past["cost_usd"], past["refunded_usd"]) == (failed["task"]["id"], "0.015", "0.015")
    assert "task failed" in past["error"]
    assert (again["state"], again["cost_usd"]) == ("completed", "0.015")


def test_the_bill_is_read_once_and_only_where_it_matters(stage: Stage) -> None:
    stage.run(BATCH, code=6)
    assert stage.fake.count("bill") == 0  # nothing had failed when the first run began, and this one has no limit
    for _ in range(2):
        stage.run(f"{BATCH} --max-cost 1", code=6)
        assert stage.fake.count("bill") == 1  # and what it showed is recorded
    assert (failed_job(stage)["state"], failed_job(stage)["refunded_usd"]) == ("failed", "0.015")


def test_what_a_killed_run_was_charged_counts_though_the_folder_is_deleted(stages: MakeStage) -> None:
    stage = stages(1, service_time=0.5)
    stage.end(stage.start(BATCH, scale=1, charged=1), signal.SIGKILL)
    stage.run(BATCH, code=0)
    shutil.rmtree(stage.out)
    stage.run(f"{BATCH} --max-month 0.029", code=8, charges=1)


def test_a_failed_submission_without_a_folder(stage: Stage) -> None:
    stage.wrong("submit:failed:nth=2")
    stage.run("submit --wait -o b -p a -p b", code=6)
    done = stage.run("submit --wait -o b c --max-month 0.0449")
    # 0.015 each of batch and submit, the refunds taken off
    assert (done.code, stage.fake.charged) == (8, 4), done.err
