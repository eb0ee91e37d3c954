"""A folder in use: ledger, manifest and images vouch for each other, and one batch at a time has it."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder.ledger import LEDGER_NAME
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.output import OutputFolder, check_orphans, read_records
from flux_lora_cli.folder.records import JobRecord, State
from tests.folder.samples import (
    SERVICE,
    completed,
    fingerprint,
    make_folder,
    planned,
    png,
    reopened,
    submitted,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_closing_waits_for_a_manifest_that_another_thread_writes(tmp_path: Path) -> None:
    folder = OutputFolder.open(tmp_path, SERVICE, exclusive=True)
    writer, closer = threading.Thread(target=folder.write_manifest), threading.Thread(target=folder.close)
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        writer.start()
        time.sleep(0.1)
        closer.start()
        closer.join(0.2)
        assert closer.is_alive()
    closer.join()
    assert names(tmp_path) == [LEDGER_NAME, MANIFEST_NAME]
    writer.join()
    folder.write_manifest()  # of a thread that was slower still
    assert names(tmp_path) == [LEDGER_NAME, MANIFEST_NAME]


def test_sources_of_all_runs_are_kept(tmp_path: Path) -> None:
    make_folder(tmp_path, [])
    for source in (("a.yaml", "1" * 64), ("b.yaml", "2" * 64), ("a.yaml", "3" * 64)):
        with OutputFolder.open(tmp_path, SERVICE, exclusive=True, sources=[source]) as folder:
            folder.write_manifest()
    assert read_manifest(tmp_path).sources == {"a.yaml": "3" * 64, "b.yaml": "2" * 64}


# ---- vouching ----


@pytest.mark.parametrize("gone", ["nothing", LEDGER_NAME, MANIFEST_NAME])
def test_a_dry_run_reads_either_and_changes_nothing(tmp_path: Path, gone: str) -> None:
    folder = aged(tmp_path, [planned(2)], [completed(1, "x.png"), submitted(2)], LEDGER_NAME)
    if gone == MANIFEST_NAME:
        make_folder(folder, [completed(1, "x.png"), submitted(2)])
    (folder / gone).unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = read_records(folder, SERVICE)
    assert {record.name: record.state for record in found.values()} == {
        "job-1": State.COMPLETED,
        "job-2": State.SUBMITTED,
    }
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(errors.OtherService):
        read_records(folder, "sandbox")


def aged(folder: Path, before: list[JobRecord], after: list[JobRecord], old: str) -> Path:
    """A folder whose ledger or manifest is the copy of an earlier time."""
    make_folder(folder, before)
    copy = (folder / old).read_bytes()
    make_folder(folder, after)
    (folder / old).write_bytes(copy)
    return folder


def test_a_file_that_a_manifest_calls_saved_counts_where_its_bytes_match(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, [completed(1, "x.png"), completed(2, "y.png"), completed(3, "z.png")])
    (folder / LEDGER_NAME).unlink()
    (folder / "y.png").write_bytes(png(9))
    (folder / "z.png").unlink()
    found = reopened(folder)
    assert [found[f"job-{n}"].outputs[0].file for n in (1, 2, 3)] == ["x.png", None, None]
    assert found["job-2"].outputs[0].writing is None  # and so nothing of the user's is written over


def test_a_secret_lost_with_the_ledger_leaves_the_job_known(tmp_path: Path) -> None:
    request = {"prompt": "x", "loras": [{"path": "https://h/x?token=SECRET", "scale": 1}], "seed": 5}
    folder = aged(tmp_path, [planned(1, input=request)], [completed(1, input=request)], LEDGER_NAME)
    assert reopened(folder)["job-1"].input == request  # the older ledger still had it
    (folder / LEDGER_NAME).unlink()
    record = reopened(folder)["job-1"]
    assert record.state is State.COMPLETED
    assert record.input is not None
    assert record.input["seed"] == 5


def test_of_a_damaged_manifest_what_can_be_read_still_counts(tmp_path: Path) -> None:
    folder = aged(tmp_path, [], [completed(n) for n in range(9)], LEDGER_NAME)
    data = (folder / MANIFEST_NAME).read_bytes()
    (folder / MANIFEST_NAME).write_bytes(data[: len(data) * 2 // 3])
    assert 3 <= len(reopened(folder)) < 9


@pytest.mark.parametrize(
    ("name", "job", "asked"),
    [
        (f"a-cat-{fingerprint(1)[:12]}-0.png", 1, True),
        (f"nsfw/a-cat-{fingerprint(1)[:12]}-0-2.webp", 1, True),
        (f"x/{fingerprint(1)[:12]}_0.jpg", 1, True),
        (f"a-cat-{fingerprint(1)[:12]}-0.png", 2, False),
        (f"a-cat-{fingerprint(1)[:12]}-0.txt", 1, False),
    ],
)
def test_images_without_ledger_and_manifest_are_asked_about(tmp_path: Path, name: str, job: int, asked: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(png(1))
    shown: list[str] = []

    if asked:
        with pytest.raises(errors.OtherFolder):
            check_orphans(tmp_path, (), (fingerprint(job),), lambda names: False)
    check_orphans(tmp_path, (), (fingerprint(job),), lambda names: not shown.extend(names))
    assert shown == ([name] if asked else [])


# ---- one batch at a time ----


def test_where_folders_cannot_be_locked_a_lock_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl_flock = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "bad file descriptor")  # as NFS has it
        fcntl_flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with OutputFolder.open(tmp_path, SERVICE, exclusive=True), pytest.raises(errors.FolderBusy, match=str(os.getpid())):
        OutputFolder.open(tmp_path, SERVICE, exclusive=True)
    assert names(tmp_path) == [LEDGER_NAME]
