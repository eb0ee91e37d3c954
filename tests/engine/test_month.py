"""``--max-month``: charges less refunds of this month, over folders, runs and processes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.errors import FolderError
from flux_lora_cli.folder import state
from flux_lora_cli.folder.output import OutputFolder
from flux_lora_cli.folder.records import JobRecord, PastTask, State, iso
from flux_lora_cli.sandbox import Sandbox
from tests.conftest import KEY, Cli, Spawn

D = Decimal
SERVICE = "https://api.example"
NOW = iso(datetime.now(UTC))
QUICK = ("--poll-interval", "0.05")


def presets(folder: Path, *numbers: int) -> list[str]:
    """Files of so many jobs each; an image costs $0.015."""
    for file, jobs in enumerate(numbers):
        lines = [json.dumps({"id": f"j{n}", "prompt": f"cat {n}"}) for n in range(jobs)]
        (folder / f"p{file}.jsonl").write_text("\n".join(lines))
    return [f"p{file}.jsonl" for file in range(len(numbers))]


def test_all_folders_and_submissions_count(cli: Cli, sandbox: Sandbox, tmp_path: Path) -> None:
    first, second = presets(tmp_path, 2, 1)
    assert cli("batch", first, "-o", "a", *QUICK, "--max-month", "0.03").code == 0
    (task,) = cli("submit", "a cat", "--max-month", "0.045").lines
    assert cli("wait", task, "-o", "b", *QUICK).code == 0  # a second record of one charge
    dry = ["--dry-run", "--price", "0.015"]
    for command in (["batch", second, "-o", "c"], ["submit", "a dog", *dry], ["replay", "a", "j1"]):
        done = cli(*command, "--max-month", "0.059")
        assert done.code == 8, done.err
        assert "--max-month" in done.err
    assert len(sandbox.charges) == 3
    assert cli("batch", first, "-o", "a", "--max-month", "0.01").code == 0  # buys nothing
    assert cli("batch", second, "-o", "c", "--max-month", "0.01", "--sandbox", *QUICK).code == 7  # of the service
    assert cli("batch", second, "-o", "d", "--max-month", "0.01", "--sandbox", *QUICK).code == 0
    shutil.rmtree(tmp_path / "a")  # what was charged stays charged
    assert cli("batch", second, "-o", "c", "--max-month", "0.059", *QUICK).code == 8
    assert cli("batch", second, "-o", "c", "--max-month", "0.06", *QUICK).code == 0


def test_a_merged_folder_stands_for_those_that_were_deleted(cli: Cli, sandbox: Sandbox, tmp_path: Path) -> None:
    first, second = presets(tmp_path, 2, 3)
    assert cli("batch", first, "-o", "a", *QUICK).code == 0
    assert cli("merge", "a", "-o", "all").code == 0
    shutil.rmtree(tmp_path / "a")
    assert "2 tasks checked" in cli("audit", "--all").err
    assert cli("batch", second, "-o", "all", "--max-month", "0.044", *QUICK).code == 8
    assert cli("batch", second, "-o", "all", "--max-month", "0.045", *QUICK).code == 0
    shutil.rmtree(tmp_path / "all")
    assert cli("submit", "a dog", "--max-month", "0.059").code == 8


@pytest.mark.parametrize("taken", [".month-https-api-example.lock", "month"])
def test_a_state_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    monkeypatch.setenv("FLUX_LORA_STATE_DIR", str(tmp_path))
    (tmp_path / taken).mkdir() if taken.endswith(".lock") else (tmp_path / taken).touch()
    with pytest.raises(FolderError) as caught:
        state.reserve(SERVICE, {}, lambda: None)
    assert "FLUX_LORA_STATE_DIR" in caught.value.hint


def test_exactly_what_fits_runs_in_parallel(spawn: Spawn, sandbox: Sandbox, tmp_path: Path) -> None:
    (preset,) = presets(tmp_path, 2)
    limit = ("--max-month", "0.065")
    runs = [spawn("batch", preset, "-o", f"out{n}", *QUICK, *limit) for n in range(3)]
    runs += [spawn("submit", "-p", "a", "-p", "b", "--wait", "-o", f"out{n}", *QUICK, *limit) for n in (3, 4)]
    for run in runs:
        run.communicate(timeout=60)
    assert sorted(run.returncode for run in runs) == [0, 0, 8, 8, 8]
    assert len(sandbox.charges) == 4


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    with Sandbox(service_time=(60, 60)) as service:
        monkeypatch.setenv("WAVESPEED_BASE_URL", service.base_url)
        monkeypatch.setenv("WAVESPEED_API_KEY", KEY)
        yield service


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)


def test_a_living_run_counts_once_and_a_killed_one_for_what_it_was_charged(
    cli: Cli, spawn: Spawn, slow: Sandbox, tmp_path: Path
) -> None:
    preset, other = presets(tmp_path, 3, 2)
    run = spawn("batch", preset, "-o", "out", "--concurrency", "1", "--max-month", "0.045")
    wait_until(lambda: len(slow.charges) == 1, run)
    assert cli("submit", "a", "--max-month", "0.059").code == 8  # two more are reserved
    assert cli("submit", "a", "--max-month", "0.06").code == 0
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert cli("batch", other, "-o", "o2", "--max-month", "0.059", "--timeout", "1").code == 8
    assert cli("batch", other, "-o", "o2", "--max-month", "0.06", "--timeout", "1").code == 9
    assert len(slow.charges) == 4


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


def test_one_adds_up_while_others_wait() -> None:
    order: list[str] = []
    releases: list[Callable[[], None]] = []

    def reserve() -> None:
        releases.append(state.reserve(SERVICE, {"b": D(1)}, lambda: order.append("b")))

    other = threading.Thread(target=reserve)

    def check() -> None:
        other.start()
        other.join(0.3)
        order.append("a")

    release = state.reserve(SERVICE, {"a": D(1)}, check)
    other.join()
    assert order == ["a", "b"]
    assert state.charged(SERVICE, None, None) == 2
    release()
    assert state.charged(SERVICE, None, None) == 1
