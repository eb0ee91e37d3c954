"""The ledger keeps what was saved, through kills, damage, strangers and other processes; or it is refused."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder import ledgerfile
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.records import JobRecord, PastTask, State
from tests.folder.samples import SERVICE, completed, everything, planned, submitted


def opened(folder: Path, **more: object) -> Ledger:
    return Ledger.open(folder / LEDGER_NAME, SERVICE, **more)  # type: ignore[arg-type]


def put(ledger: Ledger, *records: JobRecord) -> None:
    ledger.save(map(ledger.row, records))


def read(folder: Path) -> list[JobRecord]:
    with opened(folder, create=False) as ledger:
        return list(ledger.records())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_field_comes_back_as_it_was(tmp_path: Path) -> None:
    records = [everything(3), planned(1), submitted(2), JobRecord("submit:x", order=9, input={"prompt": "\ud800 \x00"})]
    with opened(tmp_path) as ledger:
        put(ledger, *records)
    assert read(tmp_path) == sorted(records, key=lambda record: record.order)
    assert names(tmp_path) == [LEDGER_NAME]
    assert (tmp_path / LEDGER_NAME).stat().st_mode & 0o777 == 0o600


def test_what_is_looked_up(tmp_path: Path) -> None:
    retried = submitted(1, history=(PastTask("t0"),))
    with opened(tmp_path) as ledger:
        put(ledger, retried, completed(2), planned(3))
        assert ledger.find("t2") == completed(2)
        assert ledger.find(planned(3).key) == planned(3)
        assert ledger.find("t9") is None
        assert [record.id for record in ledger.recent(2)] == ["job-3", "job-2"]
        assert ledger.task_ids() == {"t0", "t1", "t2"}
        ledger.set_meta("sources", "[]")
        assert ledger.meta("sources") == "[]"
        assert ledger.meta("nothing") is None


def test_old_tasks_that_have_ended_are_forgotten(tmp_path: Path) -> None:
    old = "2025-10-31T23:59:59.999Z"
    with opened(tmp_path) as ledger:
        put(ledger, submitted(0, intent_at=old), *(completed(n, intent_at=old) for n in range(1, 9)), completed(9))
        ledger.forget(10, "2025-11")
        assert len(list(ledger.records())) == 10
        ledger.forget(4, "2025-11")
    assert [record.order for record in read(tmp_path)] == [0, 7, 8, 9]
    with opened(tmp_path) as ledger:
        ledger.forget(0, "2025-11")
    assert [record.order for record in read(tmp_path)] == [0, 9]  # never those that still run, or of this month


# ---- what lies there is not a ledger that can be trusted ----


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER x AFTER INSERT ON jobs BEGIN DELETE FROM jobs; END",
        "CREATE VIEW x AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
        "CREATE INDEX x ON jobs (tally)",
        "CREATE TABLE x (y)",
        "ALTER TABLE jobs ADD COLUMN x",
        "DROP INDEX jobs_by_task",
        "DROP TABLE meta",
        "ALTER TABLE jobs RENAME TO y; CREATE VIEW jobs AS SELECT * FROM y",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 2",
        "UPDATE jobs SET task_id = 't9' WHERE n = 2",
        "UPDATE jobs SET entry = replace(entry, 'completed', 'planned')",
        "UPDATE jobs SET rest = '{}'",
        "UPDATE jobs SET position = 7 WHERE n = 1",
        "UPDATE meta SET value = 'sandbox' WHERE name = 'service'",
        "DELETE FROM meta WHERE name = 'created_at'",
    ],
)
def test_a_ledger_that_somebody_changed_is_refused(tmp_path: Path, statement: str) -> None:
    with opened(tmp_path) as ledger:
        put(ledger, completed(1), completed(2))
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as database:
        database.executescript(statement)
    kind = errors.LedgerNewer if statement.endswith("version = 2") else errors.LedgerDamaged
    with pytest.raises(kind) as caught:
        read(tmp_path)
    assert caught.value.hint


def _link(path: Path, target: str) -> None:
    path.symlink_to(target)


@pytest.mark.parametrize("name", [LEDGER_NAME, f"{LEDGER_NAME}-journal", f"{LEDGER_NAME}-wal"])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: _link(path, "/dev/zero"), lambda path: _link(path, "missing")],
    ids=["fifo", "folder", "dev-zero", "dangling"],
)
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    opened(tmp_path).close()
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    began = time.monotonic()
    with pytest.raises(errors.FolderError):
        read(tmp_path)
    assert time.monotonic() - began < 5


def test_no_flipped_bit_changes_a_record_unseen(tmp_path: Path) -> None:
    records = [completed(number) for number in range(6)]
    with opened(tmp_path) as ledger:
        put(ledger, *records)
    path, draw = tmp_path / LEDGER_NAME, random.Random(4)
    data = path.read_bytes()
    refused = 0
    for place in [*range(0, 100, 2), *range(100, len(data), 173)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert read(tmp_path) == records
        except errors.FolderError as error:
            refused += 1
            assert error.hint
        for side in ("-journal", "-wal", "-shm"):
            assert not path.with_name(path.name + side).exists()
    assert refused > 30


@pytest.mark.parametrize("text", [completed(7).key, "t7"])
def test_a_damaged_index_that_would_hide_a_job_is_noticed(tmp_path: Path, text: str) -> None:
    with opened(tmp_path) as ledger:
        put(ledger, *(completed(number) for number in range(12)))
    path = tmp_path / LEDGER_NAME
    data, places = path.read_bytes(), []
    while (place := data.find(text.encode(), places[-1] + 1 if places else 0)) >= 0:
        places.append(place)
    assert len(places) > 2  # in the row, in its entry, in an index
    for place in places:
        path.write_bytes(data[:place] + b"x" + data[place + 1 :])
        with pytest.raises(errors.LedgerDamaged):
            read(tmp_path)


# ---- kills ----


def cut_short(folder: Path) -> Path:
    """A copy of a folder as a power cut in the middle of a commit leaves it."""
    with opened(folder) as ledger:
        put(ledger, *(submitted(number) for number in range(50)))
    with contextlib.closing(sqlite3.connect(folder / LEDGER_NAME, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 2")  # so that changed pages reach the file before the commit
        database.execute("PRAGMA cache_spill = 1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE jobs SET entry = entry || zeroblob(2000)")
        shutil.copytree(folder, folder / "cut")
        database.execute("ROLLBACK")
    assert (folder / "cut" / f"{LEDGER_NAME}-journal").stat().st_size > 0
    return folder / "cut"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_that_a_power_cut_left_is_rolled_back(tmp_path: Path, read_only: bool) -> None:
    with opened(cut_short(tmp_path), read_only=read_only) as ledger:
        assert list(ledger.records()) == [submitted(number) for number in range(50)]


def test_the_journal_of_a_deleted_ledger_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    folder = cut_short(tmp_path)
    (folder / LEDGER_NAME).unlink()
    with opened(folder) as ledger:
        assert list(ledger.records()) == []
        put(ledger, planned(1))
    assert read(folder) == [planned(1)]
    assert names(folder) == [LEDGER_NAME]


# ---- other processes ----


def test_a_stranger_that_keeps_it_locked_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgerfile, "BUSY_SECONDS", 0.5)
    ledger = opened(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / LEDGER_NAME, isolation_level=None)) as stranger:
        stranger.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(errors.FolderError, match="locked"):
            opened(tmp_path)
        with pytest.raises(errors.FolderError, match="locked"):
            put(ledger, planned(1))
        assert time.monotonic() - began < 5
    put(ledger, planned(1))
    ledger.close()
    assert read(tmp_path) == [planned(1)]


def test_only_the_holder_writes_over_a_row_that_another_changed(tmp_path: Path) -> None:
    with opened(tmp_path) as batch, opened(tmp_path) as wait:
        batch.take_hold()
        put(batch, submitted(1))
        mine = wait.find("t1")
        assert mine is not None
        retried = submitted(1, task_id="t1b", history=(PastTask("t1"),))
        put(batch, retried)
        mine.state = State.COMPLETED
        put(wait, mine, submitted(2, key="task:t2"))
        assert batch.find(mine.key) == retried
        assert batch.find("t2") is not None
        put(wait, *wait.recent(1))
        put(batch, completed(1))
    assert [record.state for record in read(tmp_path)] == [State.COMPLETED, State.SUBMITTED]


def test_one_that_lost_its_hold_writes_nothing(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.take_hold()
    second.take_hold()
    with pytest.raises(errors.FolderBusy, match=f"process {os.getpid()} on "):
        put(first, planned(1))
    first.close()
    put(second, planned(2))  # the close of the first did not take the hold away
    second.close()
    assert read(tmp_path) == [planned(2)]


def test_the_ledger_has_no_more_secrets_than_it_needs(tmp_path: Path) -> None:
    record = completed(1, input={"image": "https://h/x?token=NEEDED"}, error="https://h/?token=SECRET")
    with opened(tmp_path) as ledger:
        put(ledger, record)
    assert b"SECRET" not in (tmp_path / LEDGER_NAME).read_bytes()
    assert read(tmp_path)[0].input == record.input
