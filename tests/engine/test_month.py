"""``--max-month``: charges less refunds of this month, over folders, runs and processes."""

from __future__ import annotations

import shutil
import signal
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import FolderError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, PastTask, State, iso
from tests.conftest import MakeStage
from tests.support.stage import Stage

D = Decimal
SERVICE = "https://api.example"
NOW = iso(datetime.now(UTC))


def limited(stage: Stage, command: str, usd: str) -> int:
    """The exit code under this limit."""
    return stage.run(f"{command} --max-month {usd}").code


def test_all_folders_and_submissions_count(stages: MakeStage) -> None:
    stage = stages(2)
    assert limited(stage, "batch jobs.jsonl -o a", "0.03") == 0
    (task,) = stage.run("submit 'a cat' --max-month 0.045").lines
    assert stage.run(f"wait {task} -o b").code == 0  # a second record of one charge
    stage.jobs(1, prompt="another")
    batch = "batch jobs.jsonl -o c"
    for command in (batch, "submit 'a dog' --dry-run --price 0.015", "replay a cat2"):
        done = stage.run(f"{command} --max-month 0.059")
        assert (done.code, "--max-month" in done.err) == (8, True), done.err
    assert stage.fake.charged == 3
    assert limited(stage, "batch jobs.jsonl -o c --sandbox", "0.01") == 7  # the folder is of the service
    assert limited(stage, "batch jobs.jsonl -o d --sandbox", "0.01") == 0
    shutil.rmtree(stage.folder / "a")  # what was charged stays charged
    assert [limited(stage, batch, usd) for usd in ("0.059", "0.06")] == [8, 0]
    assert limited(stage, batch, "0.01") == 0  # buys nothing


def test_a_merged_folder_stands_for_those_that_were_deleted(stages: MakeStage) -> None:
    stage = stages(2)
    stage.run("batch jobs.jsonl -o a", code=0)
    stage.run("merge a -o all", code=0)
    shutil.rmtree(stage.folder / "a")
    assert "2 tasks checked" in stage.run("audit --all").err
    stage.jobs(3)  # one more
    assert [limited(stage, "batch jobs.jsonl -o all", usd) for usd in ("0.044", "0.045")] == [8, 0]
    shutil.rmtree(stage.folder / "all")
    assert limited(stage, "submit 'a dog'", "0.059") == 8


@pytest.mark.parametrize("taken", [".month-https-api-example.lock", "month"])
def test_a_state_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    monkeypatch.setenv("FLUX_LORA_STATE_DIR", str(tmp_path))
    (tmp_path / taken).mkdir() if taken.endswith(".lock") else (tmp_path / taken).touch()
    with pytest.raises(FolderError) as caught:
        state.reserve(SERVICE, {}, lambda: None)
    assert "FLUX_LORA_STATE_DIR" in caught.value.hint


def test_exactly_what_fits_runs_in_parallel(stages: MakeStage) -> None:
    stage = stages(2)
    commands = [*(f"batch jobs.jsonl -o out{n}" for n in range(3)), *["submit -p a -p b --wait -o out4"] * 2]
    runs = [stage.start(f"{command} --max-month 0.065") for command in commands]
    assert sorted(stage.end(run).code for run in runs) == [0, 0, 8, 8, 8]
    assert stage.fake.charged == 4


def test_a_living_run_counts_once_and_a_killed_one_for_what_it_was_charged(stages: MakeStage) -> None:
    stage = stages(3, service_time=600.0)
    run = stage.start("batch jobs.jsonl -o out --concurrency 1 --max-month 0.045", scale=1, charged=1)
    assert [limited(stage, "submit a", usd) for usd in ("0.059", "0.06")] == [8, 0]  # two more are reserved
    stage.end(run, signal.SIGKILL)
    stage.jobs([4, 5])
    other = "batch jobs.jsonl -o o2"
    assert limited(stage, other, "0.059") == 8
    stage.end(stage.start(f"{other} --max-month 0.06", charged=4), signal.SIGTERM, code=143)
    assert stage.fake.charged == 4


def paid(key: str, **fields: Any) -> JobRecord:
    defaults = {"state": State.COMPLETED, "attempts": 1, "price": D(1), "intent_at": NOW, "task_id": f"t-{key}"}
    return JobRecord(key, model="m", input={"num_images": 2}, **{**defaults, **fields})


OLD = PastTask("t0", "failed: x", D(4), D(1), NOW)


@pytest.mark.parametrize(
    ("records", "total"),
    [
        ([paid("a"), paid("b", state=State.FAILED, refunded=D("0.25"))], "1.75"),
        ([paid("a", intent_at="2020-01-31T23:59:59.999Z"), paid("b", intent_at=None)], "1"),
        ([paid("a", history=(OLD,)), paid("b", state=State.PLANNED, price=D(0), task_id=None, history=(OLD,))], "4"),
        ([paid("a", attempts=0), JobRecord("b"), JobRecord("task:c", task_id="c", state=State.COMPLETED)], "0"),
        ([paid("a", state=State.UNKNOWN, task_id=None), paid("b", state=State.SUBMITTING, task_id=None)], "2"),
        ([paid("a", price=None)], None),
    ],
)
def test_what_counts_of_a_record(tmp_path: Path, records: list[JobRecord], total: str | None) -> None:
    for name in ("a", "b"):  # a folder and its copy
        with OutputFolder.open(tmp_path / name, SERVICE, exclusive=True) as folder:
            folder.save([folder.row(record) for record in records if name == "a" or record.task_id])
        state.remember_folder(tmp_path / name)
    assert state.charged(SERVICE, None, None) == (total and D(total))
    assert state.charged(SERVICE, D("0.5"), None) == D(total or "1")
    assert state.charged("https://other.example", None, None) == 0


def test_a_submission_is_named_by_its_place_in_the_history(tmp_path: Path) -> None:
    """What is sent once more after an unknown outcome is another charge; a repeated plan is the same."""
    new, unknown = JobRecord("k"), paid("k", state=State.UNKNOWN)
    assert state.submission(tmp_path, new) == state.submission(tmp_path, JobRecord("k"))
    names = [state.submission(tmp_path, new), state.submission(None, new), state.submission(tmp_path, unknown)]
    assert len(set(names)) == 3
    assert state.submission(tmp_path, unknown) == state.submission(tmp_path, JobRecord("k", history=(OLD,)))
