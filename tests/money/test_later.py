"""What a command leaves for later: the command that it prints, outputs that had expired, a folder that went away."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from tests.conftest import Finished, MakeStage
from tests.money.conftest import BATCH
from tests.money.test_reruns import VANISHED
from tests.support import truth
from tests.support.fake import Exchange
from tests.support.stage import Stage

HERE = "--base-url {url} --api-version v2"


def printed(err: str, name: str) -> str:
    """The command of ours that a message ends with, without the program's name."""
    found = re.search(rf"flux-lora ({name} .*)$", err, re.MULTILINE)
    assert found is not None, err
    return found[1]


@pytest.mark.parametrize("command", ["submit --wait -o 'my out' 'a cat'", "wait -o 'my out' {task}"])
def test_the_command_that_a_deadline_prints_collects_the_task(stages: MakeStage, command: str) -> None:
    stage = stages(0, service_time=2.0, scale=1.0)
    task = "" if command.startswith("submit") else stage.run("submit 'a cat'").out.strip()
    here = HERE.format(url=stage.fake.base_url)
    env = {"WAVESPEED_BASE_URL": None}
    late = stage.run(f"{command.format(task=task)} {here} --timeout 0.5s", env=env, code=9)
    again = printed(late.err, "wait")
    assert here.split() == [word for word in shlex.split(again) if word in here.split()]
    done = stage.run(shlex.split(again), env=env, code=0, charges=1)
    assert len(done.lines) == 1


def test_where_the_outcome_is_unknown_the_printed_command_shows_it(stages: MakeStage) -> None:
    stage = stages(0, scale=200.0)
    stage.wrong("submit:reset-after list:no-inputs")
    here, env = HERE.format(url=stage.fake.base_url), {"WAVESPEED_BASE_URL": None}
    held = stage.run(f"submit --wait 'a cat' -o out {here}", env=env, code=13)
    stage.fake.mend()
    shown = stage.run(shlex.split(printed(held.err, "status")), env=env)
    assert (shown.code, stage.fake.charges[0] in shown.out) == (0, True), shown.err


def test_a_later_wait_asks_once_more_for_what_had_expired(stages: MakeStage) -> None:
    stage = stages(0, scale=200.0)
    task = stage.run("submit 'a cat'").out.strip()
    stage.wrong("image:404")
    for _ in range(2):
        stage.run(f"wait {task} -o out", code=6)
    stage.fake.mend()
    done = stage.run(f"wait {task} -o out", code=0, charges=1)
    assert len(done.lines) == 1


@pytest.mark.parametrize(
    ("wrong", "options", "code"),
    [
        ("price:401", "", 4),
        ("without a key", "", 4),
        ("price:redirect=portal", "", 5),
        ("", "--max-month 0.001", 8),
        ("", "--max-cost 0.001 --price 1 --dry-run", 8),
        ("price:slow=3", "--timeout 0.5", 9),
    ],
)
def test_an_end_before_the_run_names_what_earlier_runs_paid_for(
    stages: MakeStage, wrong: str, options: str, code: int
) -> None:
    stage = stages(2, service_time=60.0, scale=1.0)
    stage.wrong("submit:reset-after:nth=2")
    stage.end(stage.start(f"{BATCH} --on-unknown hold", charged=2), signal.SIGTERM, code=143)
    stage.jobs(3)
    stage.fake.mend()
    env = {"WAVESPEED_API_KEY": None} if wrong == "without a key" else stage.wrong(wrong)
    ended = stage.run(f"{BATCH} --on-unknown hold {options}", env=env)
    running, held = (stage.fake.tasks[task].inputs["prompt"].replace("a cat ", "cat") for task in stage.fake.charges)
    assert ended.code == code, ended.err
    assert f"{running} (task {stage.fake.charges[0]})" in ended.err
    assert f"Of unknown outcome: {held}." in ended.err
    assert stage.fake.charged == 2


@pytest.mark.parametrize("limit", ["", "--max-cost 1", "--max-month 1"])
def test_what_is_in_flight_is_collected_where_the_price_is_to_be_asked_for_later(stages: MakeStage, limit: str) -> None:
    stage = stages(1, service_time=600.0)
    stage.end(stage.start(BATCH, charged=1), signal.SIGTERM, code=143)
    stage.fake.service_time = 0.0
    stage.jobs(2)
    stage.wrong("price:429=4000")
    ended = stage.run(f"{BATCH} {limit}", code=9, charges=1)
    assert len(ended.lines) == 1
    assert "come back in 67 minutes" in ended.err
    stage.finish(2)


def test_an_output_that_could_not_be_asked_for_is_not_called_undelivered(stages: MakeStage) -> None:
    """An image in base64 has no address that a record keeps: only the task tells whether it is there."""
    stage = stages(1, scale=200.0)
    stage.wrong("look:bare-base64")
    stage.run(f"{BATCH} --no-download", code=0)
    stage.fake.mend()
    stage.wrong("look:503")
    missing = stage.run(BATCH, code=6)
    assert "Run the same command again" in missing.err
    stage.fake.mend()
    stage.wrong("look:bare-base64")
    done = stage.run(BATCH, code=0, charges=1)
    assert len(done.lines) == 1


def test_an_image_whose_address_is_known_is_fetched_though_the_key_is_refused(stages: MakeStage) -> None:
    """The image is late, and while its task is polled for another address, the other job's poll is refused."""
    stage = stages(2, service_time=0.0)
    seen, refused = threading.Event(), threading.Event()

    def look(exchange: Exchange) -> None:
        if stage.fake.charges[0] not in exchange.request.path:
            seen.wait(10)
            exchange.answer(exchange.fake.refusal(401))
            refused.set()
        elif not stage.fake.count("image"):
            exchange.answer(exchange.carried())
        else:
            seen.set()
            refused.wait(10)
            time.sleep(0.3)
            exchange.answer(exchange.fake.refusal(500))

    stage.fake.on("look", look)
    stage.wrong("image:404:1")
    done = stage.run(BATCH, code=4, charges=2)
    assert len(done.lines) == 1


def without_folder(stage: Stage, how: str, command: str = BATCH) -> Finished:
    """A batch whose folder goes away while its tasks run."""
    process = stage.start(command, scale=1, charged=2)
    time.sleep(0.3)
    VANISHED[how](stage)
    return stage.end(process, code=7)


@pytest.mark.parametrize("how", VANISHED)
def test_a_rerun_after_the_folder_went_away_collects_what_was_paid(stages: MakeStage, how: str) -> None:
    stage = stages(2, service_time=1.0)
    without_folder(stage, how)
    plan = stage.run(f"{BATCH} --dry-run")
    assert "2 in flight, 0 to submit" in plan.out
    other = stage.run("batch jobs.jsonl -o other --dry-run")
    assert "2 to submit" in other.out
    vouched = (stage.out / "manifest.json").exists()  # which the run was just writing as the folder was emptied
    done = stage.run(BATCH, code=0)
    assert vouched or "2 paid tasks" in done.err
    stage.all_done(2)
    shutil.rmtree(stage.out)  # a new folder is a new purchase
    stage.run(BATCH, code=0)
    assert stage.fake.charged == 4


def test_older_copies_that_are_put_back_during_a_run_buy_nothing_again(stages: MakeStage) -> None:
    stage = stages(4, service_time=1.0)
    older = stage.folder / "older"

    def copied(exchange: Exchange) -> None:
        with closing(sqlite3.connect(stage.out / "ledger.sqlite3")) as now, closing(sqlite3.connect(older)) as copy:
            now.backup(copy)
        shutil.copy(stage.out / "manifest.json", stage.folder)
        exchange.answer(exchange.carried())

    stage.fake.on("submit", copied, first=1)
    process = stage.start(BATCH, scale=1, charged=4)
    time.sleep(0.3)
    older.replace(stage.out / "ledger.sqlite3")
    (stage.folder / "manifest.json").replace(stage.out / "manifest.json")
    ended = stage.end(process, code=7)
    assert all(task in ended.err for task in stage.fake.charges)
    assert "4 in flight, 0 to submit" in stage.run(f"{BATCH} --dry-run").out
    stage.run(BATCH, code=0)
    stage.all_done(4)


def test_a_lost_answer_is_looked_for_after_the_folder_went_away(stages: MakeStage) -> None:
    stage = stages(2, service_time=1.0)
    stage.wrong("submit:reset-after:nth=2")
    without_folder(stage, "deleted", f"{BATCH} --on-unknown hold")
    stage.fake.mend()
    stage.run(BATCH, code=0)
    stage.all_done(2)
    assert len(truth.saved(stage.out)) == 2


def test_where_the_state_cannot_be_written_the_message_alone_names_the_tasks(stages: MakeStage) -> None:
    stage = stages(2, service_time=1.0)
    stage.state.write_text("in the way")
    ended = without_folder(stage, "deleted")
    assert all(task in ended.err for task in stage.fake.charges)
    assert "run the same command again as it is" not in ended.err
