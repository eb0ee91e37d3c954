"""A real disk that really fills up, and folders that cannot be written."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.conftest import MakeStage
from tests.money.conftest import BATCH, Mount
from tests.support import truth
from tests.support.stage import Stage


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
        assert stage.run(BATCH).code == 7
        assert stage.fake.count("submit") == 0
    else:
        process = stage.start(f"{BATCH} --concurrency 3", scale=5, charged=jobs * percent // 100)
        ballast = fill(small_disk)
        ended = stage.end(process)
        assert ended.code == 7, ended.err
        time.sleep(0.2)
        assert stage.fake.charged < jobs or percent > 80
        truth.manifest(stage.out)
    charged = stage.fake.charged
    again = stage.run(BATCH)
    assert (again.code, stage.fake.charged) == (7, charged), again.err
    ballast.unlink()
    stage.finish(jobs)


def test_a_folder_that_cannot_be_written_is_found_before_any_request(stages: MakeStage) -> None:
    stage = stages(2)
    (stage.folder / "file").write_text("")
    for folder in ("file", "file/below", "/proc/flux-lora"):
        assert stage.run(f"batch jobs.jsonl -o {folder}").code == 7
    assert stage.fake.count("submit") == 0
