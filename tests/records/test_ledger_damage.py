"""A ledger that is damaged is recovered or refused; it is never silently wrong."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_samples import SERVICE, completed, names, planned, python, read, submitted

from flux_lora_cli import errors
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.domain.records import JobRecord

_RECORDS = [planned(0), submitted(1), completed(2), *(submitted(number) for number in range(3, 30))]

_LEAVE_A_LOG = """
import os, sys; from pathlib import Path; from records_samples import *
ledger = Ledger.open(Path(sys.argv[1]), SERVICE)
ledger.save([planned(number) for number in range(30)])
ledger.save([submitted(1)]); ledger.save([completed(2)])
for number in range(3, 30): ledger.save([submitted(number)])
os._exit(0)
"""


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rest")
    with Ledger.open(folder, SERVICE) as ledger:
        ledger.save(_RECORDS)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    assert python(_LEAVE_A_LOG, folder).wait() == 0
    assert (folder / "ledger.sqlite3-wal").stat().st_size > 30 * 4096
    return folder


def _copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(folder / name, target)
    return target


def _outcome(folder: Path) -> list[JobRecord] | None:
    """The records; None where the ledger was refused, with a way out."""
    try:
        return read(folder)
    except (errors.LedgerDamaged, errors.LedgerNewer) as error:
        assert error.hint and "ledger" in error.message
        return None


def _flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_noticed_or_harmless(
    at_rest: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = _copy(at_rest, tmp_path_factory.mktemp("flip") / "folder")
    path = folder / "ledger.sqlite3"
    _flip(path, data.draw(st.integers(0, path.stat().st_size * 8 - 1)))
    assert _outcome(folder) in (None, _RECORDS)


@pytest.mark.parametrize("bit", [28823, *range(28816, 29200, 41)])
def test_a_flipped_bit_in_the_schema_is_told_as_damage(at_rest: Path, tmp_path: Path, bit: int) -> None:
    """The first of these made SQLite quote text that is no UTF-8 in its message."""
    folder = _copy(at_rest, tmp_path / "folder")
    _flip(folder / "ledger.sqlite3", bit)
    assert _outcome(folder) in (None, _RECORDS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_the_log_takes_no_commit_away(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = _copy(killed, tmp_path_factory.mktemp("flip") / "folder")
    path = folder / "ledger.sqlite3-wal"
    _flip(path, data.draw(st.integers(0, path.stat().st_size * 8 - 1)))
    assert _outcome(folder) in (None, _RECORDS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_ledger_that_was_cut_is_refused(
    at_rest: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = _copy(at_rest, tmp_path_factory.mktemp("cut") / "folder")
    path = folder / "ledger.sqlite3"
    with path.open("r+b") as file:
        file.truncate(data.draw(st.integers(0, path.stat().st_size - 1)))
    assert _outcome(folder) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_torn_last_commit_is_dropped_alone(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = _copy(killed, tmp_path_factory.mktemp("torn") / "folder")
    path = folder / "ledger.sqlite3-wal"
    # Two frames a commit of one page: what is cut here lies within the last commit, as a kill leaves it.
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - data.draw(st.integers(1, 2 * 4120)))
    assert _outcome(folder) in (_RECORDS, [*_RECORDS[:-1], planned(29)])


def test_the_killed_ledger_itself_is_whole(killed: Path, tmp_path: Path) -> None:
    assert _outcome(_copy(killed, tmp_path / "folder")) == _RECORDS


def test_a_newer_ledger_is_refused_untouched(at_rest: Path, tmp_path: Path) -> None:
    folder = _copy(at_rest, tmp_path / "folder")
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        database.execute("PRAGMA user_version = 2")
    before = (folder / "ledger.sqlite3").read_bytes()
    with pytest.raises(errors.LedgerNewer, match="later flux-lora"):
        Ledger.open(folder, SERVICE)
    assert (folder / "ledger.sqlite3").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM jobs WHERE n = 7",
        "DELETE FROM jobs WHERE n = (SELECT MAX(n) FROM jobs)",
        "UPDATE jobs SET state = 'planned' WHERE n = 7",
        "UPDATE jobs SET task_id = NULL WHERE n = 7",
        "UPDATE jobs SET body = '{}' WHERE n = 7",
        "UPDATE meta SET value = 'sandbox' WHERE name = 'service'",
        "DELETE FROM meta WHERE name = 'service'",
        "DELETE FROM meta WHERE name = 'jobs'",
        "DROP TABLE jobs",
        "ALTER TABLE jobs RENAME COLUMN body TO text",
        "PRAGMA application_id = 1",
    ],
)
def test_a_ledger_that_was_edited_is_refused(at_rest: Path, tmp_path: Path, damage: str) -> None:
    folder = _copy(at_rest, tmp_path / "folder")
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)) as database:
        database.execute(damage)
    with pytest.raises(errors.LedgerDamaged) as caught:
        read(folder)
    assert "move" in caught.value.hint and "manifest.json" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\0" * 84, b"\0" * 8192])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(content)
    with pytest.raises(errors.LedgerDamaged):
        Ledger.open(tmp_path, SERVICE)
    with pytest.raises(errors.LedgerDamaged), Ledger.snapshot(tmp_path):
        pass


def test_a_link_in_place_of_the_ledger_is_refused(at_rest: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").symlink_to(at_rest / "ledger.sqlite3")
    with pytest.raises(errors.FolderError, match="regular file"):
        Ledger.open(tmp_path, SERVICE)


def test_a_kill_while_it_is_made_leaves_nothing_that_counts(tmp_path: Path) -> None:
    script = """
import os, sys; from pathlib import Path; from records_samples import *
from flux_lora_cli.adapters import ledger_files
ledger_files.sync_folder = Path.replace = lambda *_: os._exit(9)
Ledger.open(Path(sys.argv[1]), SERVICE)
"""
    assert python(script, tmp_path).wait() == 9
    assert "ledger.sqlite3" not in names(tmp_path)
    with Ledger.open(tmp_path, SERVICE) as ledger:
        assert ledger.created


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_log_that_was_cut_after_a_kill_is_noticed(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = _copy(killed, tmp_path_factory.mktemp("cut") / "folder")
    shutil.copy(killed / "ledger.sqlite3-shm", folder)
    log = folder / "ledger.sqlite3-wal"
    size = log.stat().st_size
    keep = data.draw(st.integers(-1, size))
    if keep < 0:
        log.unlink()
    else:
        with log.open("r+b") as file:
            file.truncate(keep)
    # Only the copy of the last frame that ends a commit may be missed.
    assert _outcome(folder) in ((None, _RECORDS) if keep > size - 2 * 4120 else (None,))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_the_logs_index_is_harmless(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = _copy(killed, tmp_path_factory.mktemp("index") / "folder")
    index = folder / "ledger.sqlite3-shm"
    shutil.copy(killed / "ledger.sqlite3-shm", folder)
    _flip(index, data.draw(st.integers(0, 136 * 8 - 1)))
    assert _outcome(folder) in (None, _RECORDS)


def test_a_log_cut_under_a_snapshot_is_noticed(killed: Path, tmp_path: Path) -> None:
    folder = _copy(killed, tmp_path / "folder")
    shutil.copy(killed / "ledger.sqlite3-shm", folder)
    (folder / "ledger.sqlite3-wal").unlink()
    with pytest.raises(errors.LedgerDamaged, match="cut or replaced"), Ledger.snapshot(folder):
        pass


def test_an_index_that_forgot_a_job_is_noticed(at_rest: Path, tmp_path: Path) -> None:
    # Found by its key nowhere, the job would be taken for a new one.
    folder = _copy(at_rest, tmp_path / "folder")
    path = folder / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as database:
        ((root,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_jobs%'")
        ((page,),) = database.execute("PRAGMA page_size")
    data = bytearray(path.read_bytes())
    at = data.index(_RECORDS[5].key.encode(), (root - 1) * page, root * page)
    data[at] ^= 1
    path.write_bytes(data)
    assert _outcome(folder) is None


def test_a_snapshot_is_made_again_when_the_log_ends_under_it(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _copy(killed, tmp_path / "folder")
    close = (
        "import sys; from pathlib import Path; from records_samples import *;"
        "Ledger.open(Path(sys.argv[1]), SERVICE).close()"
    )
    copyfile, copied = shutil.copyfile, []

    def copy_slowly(source: Path, target: Path) -> None:
        copyfile(source, target)
        if not copied:  # in between, another process folds the log into the ledger and removes it
            copied.append(source)
            assert python(close, folder).wait() == 0
            assert names(folder) == {"ledger.sqlite3"}

    monkeypatch.setattr(shutil, "copyfile", copy_slowly)
    with Ledger.snapshot(folder) as ledger:
        assert ledger is not None and list(ledger.jobs()) == _RECORDS
