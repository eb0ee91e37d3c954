"""Folders joined and checked; and what belongs to the user."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder import state
from flux_lora_cli.folder.ledger import LEDGER_NAME
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.merge import merge_folders
from flux_lora_cli.folder.records import JobRecord, OutputRecord, PastTask, State, join
from flux_lora_cli.folder.verify import Finding, verify_folder
from tests.folder.samples import SERVICE, completed, make_folder, planned, png, reopened, submitted


def wrong(folder: Path) -> list[Finding]:
    return [finding for finding in verify_folder(folder) if finding.counts]


# ---- merge ----


def test_shards_become_one_folder(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "1", [completed(0, "a.png"), completed(2, "n/c.png")])
    two = make_folder(tmp_path / "2", [completed(1, "b.png"), submitted(3)])
    report = merge_folders([one, two, one], tmp_path / "all")
    assert (report.jobs, report.added, report.images, report.unsound, report.twice) == (4, 4, 3, [], [])
    assert report.summary["cost_usd"] == "0.06"
    assert list(reopened(tmp_path / "all")) == ["job-0", "job-1", "job-2", "job-3"]
    assert wrong(tmp_path / "all") == []
    manifest = read_manifest(tmp_path / "all")
    assert [record.id for record in manifest.records] == ["job-0", "job-1", "job-2", "job-3"]
    again = merge_folders([one, two], tmp_path / "all")
    assert (again.added, again.updated) == (0, 0)


@pytest.mark.parametrize("gone", [LEDGER_NAME, MANIFEST_NAME])
def test_a_source_needs_only_one_of_its_two(tmp_path: Path, gone: str) -> None:
    one = make_folder(tmp_path / "1", [completed(0, "a.png")])
    (one / gone).unlink()
    before = sorted(os.listdir(one))
    merge_folders([one], tmp_path / "all")
    assert sorted(os.listdir(one)) == before
    assert wrong(tmp_path / "all") == []


def test_names_that_are_taken_and_files_that_are_not_sound(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "1", [completed(0, "x.png")])
    two = make_folder(tmp_path / "2", [completed(1, "x.png"), completed(2, "y.png"), completed(3, "z.png")])
    (two / "y.png").write_bytes(png(9))
    (two / "z.png").unlink()
    os.mkfifo(two / "z.png")
    report = merge_folders([one, two], tmp_path / "all")
    assert report.renamed == [(f"{two}/x.png", "x-2.png")]
    assert report.unsound == [f"{two}/y.png", f"{two}/z.png"]
    found = reopened(tmp_path / "all")
    assert [found[f"job-{n}"].outputs[0].file for n in range(4)] == ["x.png", "x-2.png", None, None]


def test_a_job_that_two_folders_bought_counts_twice_and_only_twice(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "1", [submitted(1, task_id="a", state=State.FAILED, error="failed: x")])
    two = make_folder(tmp_path / "2", [completed(1, "x.png", task_id="b", aliases=("twin",))])
    for _ in range(2):
        report = merge_folders([one, two], tmp_path / "all")
        record = reopened(tmp_path / "all")["job-1"]
        assert (record.state, record.task_id, record.cost) == (State.COMPLETED, "b", Decimal("0.03"))
        assert [(past.task_id, past.error) for past in record.history] == [("a", "failed: x")]
        assert record.aliases == ("twin",)
    assert report.twice == []
    assert merge_folders([two, one], tmp_path / "other").twice == ["job-1"]


def test_a_source_that_went_on_is_merged_again(tmp_path: Path) -> None:
    one = make_folder(tmp_path / "1", [submitted(1)])
    merge_folders([one], tmp_path / "all")
    make_folder(one, [completed(1, "x.png")])
    report = merge_folders([one], tmp_path / "all")
    assert (report.updated, report.images, report.twice) == (1, 1, [])
    assert reopened(tmp_path / "all")["job-1"].cost == Decimal("0.015")


def test_input_images_come_along(tmp_path: Path) -> None:
    name = f"inputs/{hashlib.sha256(png(5)).hexdigest()}.png"
    one = make_folder(tmp_path / "1", [completed(1, input={"image": name, "images": [name, "https://h/x.png"]})])
    (one / "inputs").mkdir()
    (one / name).write_bytes(png(5))
    merge_folders([one], tmp_path / "all")
    assert (tmp_path / "all" / name).read_bytes() == png(5)


PRICE = Decimal("0.015")
OLD = PastTask("t1", "failed: x", PRICE)
UNSAID = submitted(1, state=State.UNKNOWN, task_id=None, intent_at="x")


@pytest.mark.parametrize(
    ("one", "other", "state", "cost"),
    [
        (planned(1), completed(1), State.COMPLETED, "0.015"),
        (submitted(1), completed(1), State.COMPLETED, "0.015"),
        (submitted(1, state=State.UNKNOWN, task_id=None), completed(1), State.COMPLETED, "0.015"),
        (UNSAID, completed(1), State.COMPLETED, "0.03"),
        (submitted(1, state=State.FAILED), UNSAID, State.UNKNOWN, "0.03"),
        (completed(1), completed(1, task_id="b"), State.COMPLETED, "0.03"),
        (completed(1, price=None), completed(1), State.COMPLETED, "0.015"),
        (submitted(1, state=State.FAILED), submitted(1, task_id="b", history=(OLD,)), State.SUBMITTED, "0.03"),
        (submitted(1), submitted(1, state=State.FAILED, task_id="b", history=(OLD,)), State.FAILED, "0.03"),
        (completed(1), planned(1, attempts=1, price=Decimal(0), history=(OLD,)), State.PLANNED, "0.015"),
        (submitted(1, state=State.FAILED, refunded=PRICE), completed(1, task_id="b"), State.COMPLETED, "0.015"),
    ],
)  # fmt: skip
def test_two_records_become_one(one: JobRecord, other: JobRecord, state: State, cost: str) -> None:
    for pair in ((one, other), (other, one)):
        joined = join(*pair)
        assert (joined.state, joined.cost) == (state, Decimal(cost))
        assert join(joined, one).cost == join(joined, other).cost == Decimal(cost)


# ---- verify ----


def test_what_is_whole_missing_from_the_start_and_foreign(tmp_path: Path) -> None:
    few = completed(1, "x.png")
    few.outputs += [
        OutputRecord(1, error="not_delivered: the service sent 1 of 3 images"),
        OutputRecord(2, left_out=True),
    ]
    make_folder(tmp_path, [few, submitted(2)])
    (tmp_path / "inputs").mkdir()
    for name in ("mine.txt", ".hidden", "index.html"):
        (tmp_path / name).touch()
    (tmp_path / "inputs" / f"{'0' * 64}.png").write_bytes(b"x")
    findings = list(verify_folder(tmp_path))
    assert sorted(finding.kind for finding in findings) == ["altered", "foreign", "never_saved", "ok"]
    assert Finding("foreign", "mine.txt") in findings
    assert [(each.kind, each.index) for each in wrong(tmp_path)] == [("never_saved", 1), ("altered", None)]


def test_what_is_verified_by_the_ledger_alone(tmp_path: Path) -> None:
    make_folder(tmp_path, [completed(1, "x.png")])
    (tmp_path / MANIFEST_NAME).unlink()
    assert wrong(tmp_path) == []


# ---- the user's state ----


@pytest.fixture
def here(own_home: Path) -> Path:
    return own_home / "state"


def test_the_users_ledgers_are_one_per_service(here: Path) -> None:
    with pytest.raises(errors.NotFoundError):
        state.open_user_ledger(SERVICE, create=False)
    assert not here.exists()
    for service in (SERVICE, "sandbox", "http://127.0.0.1:8080"):
        with state.open_user_ledger(service) as ledger:
            ledger.save([ledger.row(submitted(1, key="submit:1"))])
    with state.open_user_ledger(SERVICE, create=False) as again:
        assert again.find("t1") is not None
    assert len(list((here / "tasks").iterdir())) == 3
    assert here.stat().st_mode & 0o777 == 0o700


def test_errors_of_the_state_name_the_variable(here: Path) -> None:
    ledger = state.open_user_ledger(SERVICE)
    ledger.close()
    ledger.path.write_bytes(b"x" * 5000)
    with pytest.raises(errors.LedgerDamaged) as caught:
        state.open_user_ledger(SERVICE)
    assert state.VARIABLE in caught.value.hint
    ledger.path.unlink()
    os.mkfifo(ledger.path)
    with pytest.raises(errors.FolderError) as refused:
        state.open_user_ledger(SERVICE)
    assert state.VARIABLE in refused.value.hint


def test_folders_are_remembered(here: Path) -> None:
    for name in ("/a", "/b", "/\udcff", "/a"):
        state.remember_folder(Path(name))
    assert state.remembered_folders() == [Path("/b"), Path("/\udcff"), Path("/a")]
    with ThreadPoolExecutor(4) as at_once:
        list(at_once.map(state.remember_folder, [Path(f"/{n}") for n in range(4)]))
    assert {Path(f"/{n}") for n in range(4)} < set(state.remembered_folders())


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b'[1, null, "\\u0000", {}]', b"x" * (5 << 20)])
def test_a_hostile_note_is_ignored(here: Path, content: bytes) -> None:
    here.mkdir()
    (here / "folders.json").write_bytes(content)
    assert state.remembered_folders() == []
    state.remember_folder(Path("/a"))
    assert state.remembered_folders() == [Path("/a")]


def test_a_lock_among_the_users_processes(here: Path) -> None:
    with state.lock("month"), pytest.raises(errors.FolderBusy), state.lock("month", patience=0.1):
        pass
    with state.lock("month"):
        pass
    assert list(here.iterdir()) == []
