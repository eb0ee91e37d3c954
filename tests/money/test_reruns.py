"""The same command again, with everything that may have happened to the folder in between."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_lora_cli.folder.ledger import Ledger
from tests.conftest import MakeStage
from tests.money.conftest import BATCH, Mount, unhurried
from tests.support import truth
from tests.support.forks import Command
from tests.support.stage import Stage


def finished(stage: Stage, jobs: int) -> None:
    stage.run(BATCH, code=0, charges=jobs)


def test_one_edited_job_of_200_is_one_charge(stages: MakeStage) -> None:
    stage = stages(200, service_time=0.0)
    finished(stage, 200)
    stage.jobs([*range(1, 200), 999])
    finished(stage, 201)
    assert stage.fake.charged_prompts()["a cat 999"] == 1


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_image_is_fetched_again_and_not_bought_again(stages: MakeStage, damage: str) -> None:
    stage = stages(3)
    finished(stage, 3)
    victim = stage.pictures()[1]
    before = victim.read_bytes()
    victim.unlink() if damage == "gone" else victim.write_bytes(before[:-9])
    stage.run("verify out", code=6)
    finished(stage, 3)
    assert victim.read_bytes() == before
    stage.run("verify out", code=0)
    stage.check_folder()


def test_a_byte_that_changed_secretly_is_found_by_verify(stages: MakeStage) -> None:
    stage = stages(2)
    finished(stage, 2)
    victim = stage.pictures()[0]
    before, times = victim.read_bytes(), victim.stat()
    victim.write_bytes(before[:60] + bytes([before[60] ^ 1]) + before[61:])
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    requests = stage.fake.count()
    stage.run(BATCH, code=0)
    assert stage.fake.count() == requests
    stage.run(f"{BATCH} --verify", code=0)
    assert victim.read_bytes() == before
    assert stage.fake.charged == 2


def test_what_the_service_has_no_more_is_named_once_and_not_bought_again(stages: MakeStage) -> None:
    stage = stages(3, scale=200.0)
    finished(stage, 3)
    victim = stage.pictures()[0]
    victim.unlink()
    stage.wrong("image:404")
    stage.run(BATCH, code=6, charges=3)
    stage.fake.mend()
    assert stage.run(BATCH).code in (0, 6)
    assert stage.fake.charged == 3


# ---- ledger and manifest vouch for each other --------------------------------------------------------


LEDGER, MANIFEST = "ledger.sqlite3", "manifest.json"


def older(path: Path, then: bytes) -> None:
    path.write_bytes(then)


def halved(path: Path, then: bytes) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        (LEDGER, older, 0),
        (MANIFEST, older, 0),
        (LEDGER, lambda path, then: path.unlink(), 0),
        (MANIFEST, lambda path, then: path.unlink(), 0),
        (MANIFEST, halved, 0),
        (LEDGER, halved, 7),
        (LEDGER, lambda path, then: path.write_bytes(b""), 7),
    ],
)
def test_what_either_shows_as_bought_is_not_bought_again(
    stages: MakeStage, name: str, change: Callable[[Path, bytes], object], code: int
) -> None:
    stage = stages(2)
    finished(stage, 2)
    then = (stage.out / name).read_bytes()
    stage.jobs(4)
    finished(stage, 4)
    change(stage.out / name, then)
    done = stage.run(BATCH, code=code, charges=4)
    if code == 7:
        assert "rebuilt from manifest.json" in done.err
        (stage.out / LEDGER).unlink()
    stage.all_done(4)


def test_a_damaged_manifest_alone_is_refused_and_stays(stages: MakeStage) -> None:
    stage = stages(2)
    finished(stage, 2)
    (stage.out / LEDGER).unlink()
    halved(stage.out / MANIFEST, b"")
    before = (stage.out / MANIFEST).read_bytes()
    for _ in range(2):
        stage.run(BATCH, code=7, charges=2)
        assert ((stage.out / MANIFEST).read_bytes(), (stage.out / LEDGER).exists()) == (before, False)


def test_images_show_what_older_copies_of_ledger_and_manifest_do_not(stages: MakeStage) -> None:
    stage = stages(2)
    finished(stage, 2)
    shutil.copytree(stage.out, stage.folder / "older")
    stage.jobs(4)
    finished(stage, 4)
    for kept in (["ledger.sqlite3"], ["manifest.json"], ["ledger.sqlite3", "manifest.json"]):
        for name in ("ledger.sqlite3", "manifest.json"):
            (stage.out / name).unlink(missing_ok=True)
        for name in kept:
            shutil.copy(stage.folder / "older" / name, stage.out / name)
        refused = stage.run(BATCH, code=7, charges=4)
        assert "2 images" in refused.err
    stage.jobs([1, 2, 5])
    finished(stage, 5)


def test_a_ledger_or_manifest_of_another_folder_is_refused(stages: MakeStage) -> None:
    for name in ("ledger.sqlite3", "manifest.json"):
        stage, other = stages(3), stages(1)
        other.fake.close()
        other.fake = stage.fake
        finished(stage, 3)
        other.jobs([77])
        other.run(BATCH, code=0)
        shutil.copy(other.out / name, stage.out / name)
        charged = stage.fake.charged
        stage.run(BATCH, code=7, charges=charged)


def test_a_folder_of_another_service_is_refused_before_any_request(stages: MakeStage) -> None:
    one, other = stages(2), stages(2)
    finished(one, 2)
    shutil.copytree(one.out, other.out)
    refused = other.run(BATCH)
    assert (refused.code, other.fake.count()) == (7, 0)
    assert "-o" in refused.err


def test_an_empty_folder_with_images_of_ours_is_not_bought_into(stages: MakeStage) -> None:
    stage = stages(2)
    finished(stage, 2)
    for name in ("ledger.sqlite3", "manifest.json"):
        (stage.out / name).unlink()
    stage.run(BATCH, code=7, charges=2)
    assert not (stage.out / "ledger.sqlite3").exists()  # or a manifest that is put back would not fit it


# ---- two at once, and a folder that goes away --------------------------------------------------------


def running(stage: Stage, jobs: int, *, command: str = BATCH) -> Command:
    """A batch whose tasks are all in flight."""
    process: Command = stage.start(command, scale=1, charged=jobs)
    time.sleep(0.3)
    return process


def test_a_second_batch_is_refused_at_once_and_sends_nothing(stages: MakeStage) -> None:
    stage = stages(3, service_time=600.0)
    first = running(stage, 3)
    before = stage.fake.counts
    second = stage.run(f"{BATCH} --json", scale=1, code=11)
    assert second.seconds < unhurried(2.0)
    assert str(first.pid) in second.err
    assert json.loads(second.lines[-1])["exit_code"] == 11
    after = stage.fake.counts
    assert (before["submit"], before["list"], before["price"]) == (after["submit"], after["list"], after["price"])
    stage.end(first, signal.SIGKILL)
    stage.start(BATCH, scale=1)  # a holder that was killed leaves no lock behind
    stage.until(lambda: stage.fake.count("look") > after["look"])
    assert stage.fake.charged == 3


def test_wait_adds_to_a_folder_while_a_batch_runs(stages: MakeStage) -> None:
    stage = stages(2, service_time=1.5)
    other = stage.task()
    process = running(stage, 2)
    stage.run(f"wait {other} -o out --poll-interval 0.1", scale=1, code=0)
    assert process.poll() is None
    stage.end(process, code=0)
    assert stage.states() == ["completed"] * 3
    stage.check_folder()


def test_two_that_start_together_pay_once(stages: MakeStage) -> None:
    stage = stages(8)
    both = [stage.start(BATCH), stage.start(BATCH)]
    assert sorted(stage.end(process).code for process in both) in ([0, 11], [0, 0])
    stage.all_done(8)


@pytest.mark.parametrize("how", ["lock files", "all but the ledger"])
def test_a_lock_that_somebody_removes_lets_nobody_buy_twice(stages: MakeStage, how: str) -> None:
    stage = stages(12, service_time=0.6)
    first = running(stage, 4, command=f"{BATCH} --concurrency 4 --poll-interval 0.2")
    for path in stage.out.iterdir():
        if path.name.startswith("ledger.sqlite3") and not path.name.endswith(".lock"):
            continue
        if how != "lock files" or path.name.startswith(".") or path.name.endswith(".lock"):
            path.unlink()
    stage.run(BATCH, code=11)
    stage.end(first)
    assert stage.fake.charged <= 12
    assert max(stage.fake.charged_prompts().values()) == 1
    stage.finish(12)


VANISHED: dict[str, Callable[[Stage], object]] = {
    "deleted": lambda stage: shutil.rmtree(stage.out),
    "renamed": lambda stage: stage.out.rename(stage.folder / "moved"),
    "emptied": lambda stage: [path.unlink() for path in stage.out.iterdir() if path.is_file()],
}


@pytest.mark.parametrize("how", VANISHED)
def test_a_folder_that_goes_away_ends_the_run_and_names_what_is_paid(stages: MakeStage, how: str) -> None:
    stage = stages(6, service_time=0.8)
    process = running(stage, 3, command=f"{BATCH} --concurrency 3 --poll-interval 0.2")
    VANISHED[how](stage)
    ended = stage.end(process)
    assert (ended.code, stage.fake.charged <= 4) == (7, True), ended.err
    assert all(task in ended.err for task in stage.fake.charges), ended.err
    if how != "emptied":
        assert not stage.out.exists() or not (stage.out / "ledger.sqlite3").exists()
    if how == "renamed":
        (stage.folder / "moved").rename(stage.out)
        stage.finish(6)


def test_a_folder_that_is_unmounted_ends_the_run_and_names_what_is_paid(stages: MakeStage, mount: Mount) -> None:
    stage = stages(6, service_time=0.8)
    stage.out.mkdir()
    mount("-t", "tmpfs", "tmpfs", stage.out)
    process = running(stage, 3, command=f"{BATCH} --concurrency 3 --poll-interval 0.2")
    subprocess.run(["umount", "-l", str(stage.out)], check=True)
    ended = stage.end(process)
    assert (ended.code, list(stage.out.iterdir())) == (7, []), ended.err
    assert all(task in ended.err for task in stage.fake.charges), ended.err


def test_a_folder_that_is_taken_over_ends_the_run_and_names_what_is_paid(stages: MakeStage) -> None:
    stage = stages(12, service_time=0.8)
    process = running(stage, 3, command=f"{BATCH} --concurrency 3 --poll-interval 0.2")
    with Ledger.open(stage.out / "ledger.sqlite3", None) as ledger:
        ledger.take_hold()  # as a second batch does where the first one's lock is not seen
    ended = stage.end(process)
    assert (ended.code, stage.fake.charged <= 6) == (11, True), ended.err
    assert all(task in ended.err for task in stage.fake.charges), ended.err
    assert "unknown outcome" not in ended.err


def test_a_finished_folder_on_a_read_only_disk(stages: MakeStage, mount: Mount) -> None:
    stage = stages(2)
    finished(stage, 2)
    os.utime(stage.pictures()[0], (1, 1))  # as where it was copied there
    mount("--bind", stage.out, stage.out)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(stage.out)], check=True)
    before = stage.fake.count()
    done = stage.run(BATCH)
    assert (done.code, stage.fake.count()) == (0, before), done.err
    stage.run("verify out", code=0)
    stage.jobs(3)
    stage.run(BATCH, code=7, charges=2)


def test_tasks_of_an_earlier_run_and_a_pause(stages: MakeStage) -> None:
    """What was in flight while nobody looked tells nothing about the service's queue."""
    stage = stages(16, service_time=1.0)
    process = running(stage, 8, command=f"{BATCH} --concurrency 8")
    stage.end(process, signal.SIGTERM)
    for task in stage.fake.tasks.values():
        task.at -= 20 * 3600
    manifest = truth.manifest(stage.out)
    assert stage.fake.charged == sum(job["task"]["id"] is not None for job in manifest["jobs"] if job["task"])
    done = stage.run(f"{BATCH} --concurrency 8", scale=1, code=0)
    assert done.seconds < unhurried(15.0)
    stage.all_done(16)


# ---- a real disk that really fills up, and folders that cannot be written -----------------------------


@pytest.fixture
def small_disk(tmp_path: Path, mount: Mount) -> Path:
    """A file system of 96 MB."""
    (tmp_path / "disk").mkdir()
    mount("-t", "tmpfs", "-o", "size=96m", "tmpfs", tmp_path / "disk")
    return tmp_path / "disk"


def on(stage: Stage, disk: Path) -> Stage:
    """Let the stage's output folder lie on a disk."""
    (disk / "out").mkdir()
    stage.out.symlink_to(disk / "out")
    return stage


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * piece)
    return ballast


@pytest.mark.parametrize("percent", [0, 50, *(pytest.param(n, marks=pytest.mark.slow) for n in (25, 90, 99))])
def test_a_disk_that_is_full_after_part_of_the_batch(stages: MakeStage, small_disk: Path, percent: int) -> None:
    jobs = 12 if percent in (0, 50) else 30
    stage = on(stages(jobs, picture_bytes=40_000, service_time=0.15), small_disk)
    if percent == 0:
        ballast = fill(small_disk)
        stage.run(BATCH, code=7)
        assert stage.fake.count("submit") == 0
    else:
        process = stage.start(f"{BATCH} --concurrency 3", scale=5, charged=jobs * percent // 100)
        ballast = fill(small_disk)
        stage.end(process, code=7)
        time.sleep(0.2)
        assert stage.fake.charged < jobs or percent > 80
        truth.manifest(stage.out)
    charged = stage.fake.charged
    stage.run(BATCH, code=7, charges=charged)
    ballast.unlink()
    stage.finish(jobs)


def test_a_folder_that_cannot_be_written_is_found_before_any_request(stages: MakeStage) -> None:
    stage = stages(2)
    (stage.folder / "file").write_text("")
    for folder in ("file", "file/below", "/proc/flux-lora"):
        stage.run(f"batch jobs.jsonl -o {folder}", code=7)
    assert stage.fake.count("submit") == 0
