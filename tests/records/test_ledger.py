"""The ledger keeps what it is told, through kills and beside other writers, and leaves no files behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_samples import SERVICE, completed, names, planned, python, read, submitted

from flux_lora_cli import errors
from flux_lora_cli.adapters.ledger import Ledger, claimed_task_ids
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State


def test_records_come_back_as_they_were_saved(tmp_path: Path) -> None:
    records = [planned(0), submitted(1), completed(2), planned(3, state=State.SKIPPED, aliases=("a", "b"))]
    with Ledger.open(tmp_path, SERVICE) as ledger:
        assert ledger.created
        ledger.save(records)
        assert list(ledger.jobs()) == records
        assert ledger.get(records[1].key) == records[1]
        assert ledger.get("nobody") is None
    assert read(tmp_path) == records


_TEXT = st.text(max_size=20)
_OUTPUTS = st.builds(
    OutputRecord, index=st.integers(0, 9), url=st.none() | _TEXT, nsfw=st.none() | st.booleans(),
    file=st.none() | _TEXT, bytes=st.none() | st.integers(0, 2**62), mtime_ns=st.none() | st.integers(0, 2**62),
    error=st.none() | _TEXT, left_out=st.booleans(),
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_RECORDS = st.builds(
    JobRecord, key=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), id=st.none() | _TEXT,
    aliases=st.lists(_TEXT, max_size=3).map(tuple), state=st.sampled_from(State), task_error=_TEXT,
    input=st.none() | st.dictionaries(_TEXT, _JSON, max_size=4), attempts=st.integers(0, 5),
    price=st.none() | st.decimals(0, 10**6, places=6), outputs=st.lists(_OUTPUTS, max_size=3),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(_RECORDS, max_size=6, unique_by=lambda record: record.key))
def test_any_record_survives(tmp_path_factory: pytest.TempPathFactory, records: list[JobRecord]) -> None:
    folder = tmp_path_factory.mktemp("any")
    with Ledger.open(folder, SERVICE) as ledger:
        ledger.save(records)
        assert list(ledger.jobs()) == records


def test_saving_again_replaces_the_row_and_keeps_its_place(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([planned(0), planned(1)])
        ledger.save([submitted(0)])
        assert [record.state for record in ledger.jobs()] == [State.SUBMITTED, State.PLANNED]
        assert ledger.next_order() == 2
        assert [record.order for record in ledger.recent(1)] == [1]


def test_a_write_that_failed_leaves_the_count_of_rows_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([planned(1)])
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "_put", lambda name, value: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                ledger.save([planned(2)])
        ledger.save([submitted(1)])
    assert [record.state for record in read(tmp_path)] == [State.SUBMITTED]


@pytest.mark.parametrize("count", [15, 16, 17, 40])
def test_many_records_are_saved_at_once(tmp_path: Path, count: int) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([planned(0)])
        ledger.save([planned(number) for number in range(count)])
    assert len(read(tmp_path)) == count


def test_order_is_the_records_own(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save(planned(number, order=1000 - number) for number in range(600))
        orders = [record.order for record in ledger.jobs()]
    assert orders == sorted(orders)


def test_tasks_are_found_and_claimed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([planned(0), submitted(1, "abc")])
        assert ledger.find_task("abc") == submitted(1, "abc")
        assert ledger.find_task("later") is None
        ledger.save([submitted(0, "later")])
        assert ledger.find_task("later") == submitted(0, "later")
    assert claimed_task_ids(tmp_path) == {"abc", "later"}


def test_an_orderly_end_leaves_one_private_file(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([planned(0)])
        assert "ledger.sqlite3-wal" in names(tmp_path)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}
    assert names(tmp_path) == {"ledger.sqlite3"}


def test_a_ledger_that_is_not_to_be_made_is_not(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError):
        Ledger.open(tmp_path, SERVICE, create=False)
    assert names(tmp_path) == set()


def test_another_service_is_refused_by_name(tmp_path: Path) -> None:
    Ledger.open(tmp_path, SERVICE).close()
    with pytest.raises(errors.OtherService) as caught:
        Ledger.open(tmp_path, "sandbox")
    assert SERVICE in caught.value.message and "-o" in caught.value.hint
    assert names(tmp_path) == {"ledger.sqlite3"}


def test_words_are_remembered_with_the_records_they_belong_to(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.set_meta("name", "one")
        with pytest.raises(TypeError):
            ledger.save([planned(0, input={"x": object()})], {"name": "two"})
        assert ledger.meta("name") == "one"
        assert list(ledger.jobs()) == []
        ledger.save([planned(0)], {"name": "two"})
        assert ledger.meta("name") == "two"
        assert ledger.meta("other") is None


def test_a_side_file_of_a_deleted_ledger_is_not_played_into_the_new_one(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from records_samples import *;"
        "ledger = Ledger.open(Path(sys.argv[1]), SERVICE); ledger.save([planned(0)]); os._exit(0)"
    )
    assert python(script, tmp_path).wait() == 0
    assert "ledger.sqlite3-wal" in names(tmp_path)
    (tmp_path / "ledger.sqlite3").unlink()
    with Ledger.open(tmp_path, SERVICE) as ledger:
        assert ledger.created
        assert list(ledger.jobs()) == []


_KEEP_SAVING = """
import sys; from pathlib import Path; from records_samples import *
ledger = Ledger.open(Path(sys.argv[1]), SERVICE)
for number in range(100000):
    ledger.save([planned(number)])
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.1])
def test_what_was_saved_before_a_kill_is_there(tmp_path: Path, delay: float) -> None:
    writer = python(_KEEP_SAVING, tmp_path)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    told = 1 + len(writer.stdout.read().split())
    writer.wait()
    assert len(read(tmp_path)) - told in {0, 1}
    assert names(tmp_path) == {"ledger.sqlite3"}


_COUNT_UP = """
import sys; from pathlib import Path; from records_samples import *
for number in range(40):
    ledger = Ledger.open(Path(sys.argv[1]), SERVICE)
    ledger.save([planned(number, key=f"{sys.argv[2]}/{number}")])
    ledger.close()
"""


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    writers = [python(_COUNT_UP, tmp_path, name) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(read(tmp_path)) == 120
    assert names(tmp_path) == {"ledger.sqlite3"}


def test_changes_by_others_are_seen_once_and_ones_own_never(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as mine, Ledger.open(tmp_path, SERVICE) as other:
        mine.save([planned(0)])
        assert mine.foreign_changes() == []
        other.save([submitted(5, "t5")])
        mine.save([planned(1)])
        assert mine.find_task("nobody") is None
        assert mine.foreign_changes() == [submitted(5, "t5")]
        assert mine.find_task("t5") == submitted(5, "t5")
        assert mine.foreign_changes() == []
        assert [record.order for record in other.foreign_changes()] == [0, 1]


def test_a_snapshot_creates_nothing_while_another_process_writes(tmp_path: Path) -> None:
    writer = python(_KEEP_SAVING, tmp_path)
    assert writer.stdout is not None
    try:
        told = 0
        for _ in range(15):
            told = max(told, int(writer.stdout.readline()))
            with Ledger.snapshot(tmp_path) as ledger:
                assert ledger is not None
                assert len(list(ledger.jobs())) > told
            assert names(tmp_path) <= {"ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"}
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_a_snapshot_of_a_killed_run_has_everything_and_changes_nothing(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from records_samples import *;"
        "ledger = Ledger.open(Path(sys.argv[1]), SERVICE); ledger.save([planned(0)]); os._exit(0)"
    )
    assert python(script, tmp_path).wait() == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with Ledger.snapshot(tmp_path) as ledger:
        assert ledger is not None and list(ledger.jobs()) == [planned(0)]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_snapshot_of_an_open_ledger_does_not_drop_its_locks(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([planned(0)])
        with Ledger.snapshot(tmp_path) as copy:
            assert copy is not None and copy.get(planned(0).key) == planned(0)
        # Another process that opens and closes must not take the log for nobody's and remove it.
        script = (
            "import sys; from pathlib import Path; from records_samples import *;"
            "Ledger.open(Path(sys.argv[1]), SERVICE).close()"
        )
        assert python(script, tmp_path).wait() == 0
        ledger.save([planned(1)])
        assert "ledger.sqlite3-wal" in names(tmp_path)
    assert len(read(tmp_path)) == 2


def test_no_ledger_gives_no_snapshot(tmp_path: Path) -> None:
    with Ledger.snapshot(tmp_path) as ledger:
        assert ledger is None
    assert claimed_task_ids(tmp_path) == set()


def test_every_commit_is_flushed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ((level,),) = ledger._database.execute("PRAGMA synchronous").fetchall()
        ((mode,),) = ledger._database.execute("PRAGMA journal_mode").fetchall()
    assert (level, mode) == (2, "wal")


def test_prices_stay_decimal(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([submitted(0, price=Decimal("0.1"))])
        found = ledger.get(planned(0).key)
    assert found is not None and repr(found.price) == "Decimal('0.1')"


def test_a_ledger_is_readable_with_plain_sqlite(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SERVICE) as ledger:
        ledger.save([submitted(0)])
    database = sqlite3.connect(tmp_path / "ledger.sqlite3")
    assert database.execute("SELECT state, task_id FROM jobs").fetchall() == [("submitted", "task-0")]
    database.close()


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(small_disk: Path) -> None:
    saved = 0
    with Ledger.open(small_disk, SERVICE) as ledger:
        with pytest.raises(errors.DiskFull) as caught:
            for number in range(10_000):
                ledger.save([planned(number)])
                saved += 1
        assert "no space" in caught.value.message and caught.value.hint
        assert len(list(ledger.jobs())) == saved
    script = (
        "import sys; from pathlib import Path; from records_samples import *;"
        "print(len(list(Ledger.open(Path(sys.argv[1]), SERVICE).jobs())))"
    )
    (small_disk / "room").unlink(missing_ok=True)
    reader = python(script, small_disk)
    assert reader.communicate()[0].split() in ([str(saved)], [])
    with Ledger.snapshot(small_disk) as copy:
        assert copy is not None and len(list(copy.jobs())) == saved


def test_a_disk_full_from_the_start_is_named(small_disk: Path) -> None:
    with pytest.raises(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(errors.DiskFull):
        Ledger.open(small_disk, SERVICE)
    assert "ledger.sqlite3" not in names(small_disk)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    if subprocess.run(["mount", "--bind", "-o", "ro", tmp_path, tmp_path], capture_output=True).returncode:
        pytest.skip("a folder cannot be made read-only here")
    try:
        with pytest.raises(errors.FolderError) as caught:
            Ledger.open(tmp_path, SERVICE)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert str(tmp_path) in caught.value.message
