"""A folder in use: ledger, manifest and images vouch for each other, and one batch at a time has it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from flux_lora_cli import errors
from flux_lora_cli.folder.ledger import LEDGER_NAME, Ledger
from flux_lora_cli.folder.manifest import MANIFEST_NAME, read_manifest
from flux_lora_cli.folder.output import OutputFolder, read_records
from flux_lora_cli.folder.records import JobRecord, PastTask, State
from tests.folder.samples import (
    SERVICE,
    completed,
    fingerprint,
    make_folder,
    planned,
    png,
    python,
    receive,
    reopened,
    submitted,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_orderly_end_leaves_no_side_file(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "o", [completed(1, "x.png"), submitted(2)])
    assert names(tmp_path / "a" / "o") == [LEDGER_NAME, MANIFEST_NAME, "x.png"]
    found = reopened(tmp_path / "a" / "o")
    assert [record.state for record in found.values()] == [State.COMPLETED, State.SUBMITTED]
    assert names(tmp_path / "a" / "o") == [LEDGER_NAME, MANIFEST_NAME, "x.png"]


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


def test_a_folder_belongs_to_one_service(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, [completed(1)])
    for gone in ("nothing", LEDGER_NAME, MANIFEST_NAME):
        (folder / gone).unlink(missing_ok=True)
        before = names(folder)
        with pytest.raises(errors.OtherService) as caught:
            OutputFolder.open(folder, "sandbox", exclusive=True)
        assert "-o" in caught.value.hint
        assert names(folder) == before
        make_folder(folder, [completed(1)])


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


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (LEDGER_NAME, MANIFEST_NAME)}


def aged(folder: Path, before: list[JobRecord], after: list[JobRecord], old: str) -> Path:
    """A folder whose ledger or manifest is the copy of an earlier time."""
    make_folder(folder, before)
    copies = _files(folder)
    make_folder(folder, after)
    (folder / old).write_bytes(copies[old])
    return folder


@pytest.mark.parametrize("gone", [LEDGER_NAME, MANIFEST_NAME])
def test_either_alone_is_enough(tmp_path: Path, gone: str) -> None:
    records = [completed(1, "x.png"), submitted(2, state=State.FAILED, error="failed: x"), submitted(3), planned(4)]
    folder = make_folder(tmp_path, records)
    (folder / gone).unlink()
    found = reopened(folder)
    assert [(r.state, r.task_id, r.price, r.attempts) for r in found.values()] == [
        (r.state, r.task_id, r.price, r.attempts) for r in records
    ]
    assert found["job-1"].outputs[0].file == "x.png"
    assert found["job-1"].outputs[0].mtime_ns is not None
    assert set(names(folder)) >= {LEDGER_NAME}


@pytest.mark.parametrize(
    ("then", "now", "task", "spent"),
    [
        (None, completed(1, "x.png"), "t1", "0.015"),
        (planned(1), completed(1, "x.png"), "t1", "0.015"),
        (planned(1), submitted(1), "t1", "0.015"),
        (planned(1), submitted(1, state=State.SUBMITTING, task_id=None), None, "0.015"),
        (submitted(1), completed(1, "x.png"), "t1", "0.015"),
        (submitted(1, state=State.SUBMITTING, task_id=None), completed(1, "x.png"), "t1", "0.015"),
        (submitted(1, state=State.UNKNOWN, task_id=None), submitted(1, state=State.FAILED), "t1", "0.015"),
        (
            submitted(1, state=State.FAILED),
            completed(1, "x.png", task_id="t1b", attempts=2, history=(PastTask("t1", "failed: x", Decimal("0.015")),)),
            "t1b",
            "0.03",
        ),
        (submitted(1, state=State.FAILED), submitted(1, task_id="t1b", attempts=1), "t1b", "0.03"),
    ],
)
def test_what_a_newer_manifest_shows_as_bought_is_bought(
    tmp_path: Path, then: JobRecord | None, now: JobRecord, task: str | None, spent: str
) -> None:
    folder = aged(tmp_path, [then] if then else [], [now], LEDGER_NAME)
    record = reopened(folder)["job-1"]
    assert (record.state, record.task_id, record.cost) == (now.state, task, Decimal(spent))
    assert record.attempts >= now.attempts
    assert [o.file for o in record.outputs] == [o.file for o in now.outputs]
    assert reopened(folder)["job-1"] == record


def test_an_older_manifest_takes_nothing_back(tmp_path: Path) -> None:
    retried = submitted(1, task_id="t1b", attempts=2, history=(PastTask("t1", "failed: x", Decimal("0.015")),))
    folder = aged(tmp_path, [submitted(1, state=State.FAILED), planned(2)], [retried, completed(2)], MANIFEST_NAME)
    with OutputFolder.open(folder, SERVICE, exclusive=True) as opened:
        assert opened.records[retried.key] == retried


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


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    changed = {
        "empty": b"",
        "cut": data[: len(data) * 2 // 3],
        "head": b"x" + data[1:],
        "garbage": os.urandom(len(data)),
    }
    path.write_bytes(changed[how])


@pytest.mark.parametrize("how", ["empty", "cut", "head", "garbage"])
def test_a_damaged_manifest_beside_a_ledger_is_written_anew(tmp_path: Path, how: str) -> None:
    folder = make_folder(tmp_path, [completed(n) for n in range(9)])
    damage(folder / MANIFEST_NAME, how)
    assert len(reopened(folder)) == 9
    with OutputFolder.open(folder, SERVICE, exclusive=True) as opened:
        opened.write_manifest()
    assert len(read_manifest(folder).records) == 9


@pytest.mark.parametrize("how", ["empty", "cut"])
def test_a_damaged_manifest_alone_is_refused_and_stays(tmp_path: Path, how: str) -> None:
    folder = make_folder(tmp_path, [completed(n) for n in range(9)])
    (folder / LEDGER_NAME).unlink()
    damage(folder / MANIFEST_NAME, how)
    for _ in range(2):
        with pytest.raises(errors.ManifestDamaged):
            OutputFolder.open(folder, SERVICE, exclusive=True)
        assert names(folder) == [MANIFEST_NAME]


@pytest.mark.parametrize("how", ["empty", "cut"])
def test_a_damaged_ledger_is_refused_with_the_way_out(tmp_path: Path, how: str) -> None:
    folder = make_folder(tmp_path, [completed(n) for n in range(9)])
    damage(folder / LEDGER_NAME, how)
    with pytest.raises(errors.LedgerDamaged) as caught:
        OutputFolder.open(folder, SERVICE, exclusive=True)
    assert "manifest.json" in caught.value.hint
    (folder / LEDGER_NAME).unlink()
    assert len(reopened(folder)) == 9


def test_of_a_damaged_manifest_what_can_be_read_still_counts(tmp_path: Path) -> None:
    folder = aged(tmp_path, [], [completed(n) for n in range(9)], LEDGER_NAME)
    damage(folder / MANIFEST_NAME, "cut")
    assert 3 <= len(reopened(folder)) < 9


@pytest.mark.parametrize(
    ("name", "fingerprints", "asked"),
    [
        (f"a-cat-{fingerprint(1)[:12]}-0.png", (), True),
        (f"nsfw/a-cat-{fingerprint(1)[:12]}-0-2.webp", (), True),
        (f"a-cat-{fingerprint(1)[:12]}-0.png", (fingerprint(1),), True),
        (f"x/{fingerprint(1)[:12]}_0.jpg", (fingerprint(1),), True),
        (f"a-cat-{fingerprint(1)[:12]}-0.png", (fingerprint(2),), False),
        (f"a-cat-{fingerprint(1)[:12]}-0.txt", (), False),
        ("holiday-20251128.png", (), False),
    ],
)
def test_images_without_ledger_and_manifest_are_asked_about(
    tmp_path: Path, name: str, fingerprints: tuple[str, ...], asked: bool
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(png(1))
    shown: list[list[str]] = []

    def confirm(names: list[str]) -> bool:
        shown.append(names)
        return True

    if asked:
        with pytest.raises(errors.OtherFolder):
            OutputFolder.open(tmp_path, SERVICE, exclusive=True, fingerprints=fingerprints)
        assert not (tmp_path / LEDGER_NAME).exists()
    OutputFolder.open(tmp_path, SERVICE, exclusive=True, fingerprints=fingerprints, confirm_orphans=confirm).close()
    assert shown == ([[name]] if asked else [])


# ---- one batch at a time ----

_HOLD = """
from flux_lora_cli.folder.output import OutputFolder
folder = OutputFolder.open(Path(sys.argv[1]), SERVICE, exclusive=True)
folder.save([folder.row(submitted(1))])
print("open", flush=True)
sys.stdin.readline()
try:
    folder.save([folder.row(submitted(2))])
    print("saved", flush=True)
except Exception as error:
    print(type(error).__name__, flush=True)
sys.stdin.readline()
folder.close()
"""


def held(folder: Path) -> subprocess.Popen[str]:
    process = python(_HOLD, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n", process.communicate()[1]
    return process


def go_on(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_second_batch_is_told_who_holds_the_folder_whatever_is_removed(tmp_path: Path) -> None:
    process = held(tmp_path)
    assert names(tmp_path) == [LEDGER_NAME, f"{LEDGER_NAME}-journal"]  # no lock file that somebody could remove
    began = time.monotonic()
    with pytest.raises(errors.FolderBusy, match=f"process {process.pid} on {socket.gethostname()}"):
        OutputFolder.open(tmp_path, SERVICE, exclusive=True)
    assert time.monotonic() - began < 2
    assert go_on(process) == "saved"
    process.communicate("\n")
    assert len(reopened(tmp_path)) == 2
    assert names(tmp_path) == [LEDGER_NAME]


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


def test_a_killed_batch_leaves_no_lock(tmp_path: Path) -> None:
    process = held(tmp_path)
    process.send_signal(signal.SIGKILL)  # and it stays a zombie for a while
    time.sleep(0.1)
    assert list(reopened(tmp_path)) == ["job-1"]
    process.communicate()


def test_a_batch_whose_folder_was_taken_over_stops(tmp_path: Path) -> None:
    process = held(tmp_path)
    with Ledger.open(tmp_path / LEDGER_NAME, SERVICE) as ledger:
        ledger.take_hold()
        assert go_on(process) == "FolderBusy"
        ledger.save([ledger.row(completed(1))])
        process.communicate("\n")
        ledger.save([ledger.row(completed(3))])
    assert [record.state for record in reopened(tmp_path).values()] == [State.COMPLETED, State.COMPLETED]


def test_wait_adds_to_a_folder_while_a_batch_runs(tmp_path: Path) -> None:
    process = held(tmp_path)
    with OutputFolder.open(tmp_path, SERVICE, exclusive=False) as wait:
        wait.save([wait.row(completed(8, key="task:t8", fingerprint=None, id=None))])
        wait.write_manifest()
    assert go_on(process) == "saved"
    process.communicate("\n")
    with OutputFolder.open(tmp_path, SERVICE, exclusive=True) as folder:
        folder.write_manifest()
    assert {record.name for record in read_manifest(tmp_path).records} == {"job-1", "job-2", "t8"}


# ---- places ----


def test_a_folder_that_goes_away_ends_the_run(tmp_path: Path) -> None:
    folder = OutputFolder.open(tmp_path / "o", SERVICE, exclusive=True)
    folder.save([folder.row(submitted(1))])
    (tmp_path / "o").rename(tmp_path / "moved")
    for act in (
        lambda: folder.save([folder.row(submitted(2))]),
        folder.write_manifest,
        lambda: receive(folder.images, png(1)),
    ):
        with pytest.raises(errors.FolderMoved):
            act()
    folder.close()
    assert names(tmp_path) == ["moved"]
    assert list(reopened(tmp_path / "moved", exclusive=False)) == ["job-1"]


# ---- durability, by the system calls ----
