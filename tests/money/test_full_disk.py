"""A real disk that really fills up, and folders that cannot be written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.money.conftest import Money
from tests.support import truth


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB."""
    require_tool("mount")
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * piece)
    return ballast


@pytest.mark.parametrize("percent", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (25, 50, 90, 99))])
def test_a_disk_that_is_full_after_part_of_the_batch(
    money: Callable[..., Money], small_disk: Path, percent: int
) -> None:
    one = money(30, picture_bytes=40_000, service_time=(0.1, 0.2))
    one.folder = small_disk / "out"
    if percent == 0:
        ballast = fill(small_disk)
        done = one.run()
        assert one.requests == 0
    else:
        process = one.start("--concurrency", "3", speed=5)
        one.until(lambda: one.charged >= one.jobs * percent // 100)
        ballast = fill(small_disk)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        done = None
        assert process.returncode == 7, err
        assert "Make room" in err
        time.sleep(0.2)
        assert one.charged < one.jobs or percent > 80
        truth.manifest(one.folder)
    if done is not None:
        assert (done.code, "Make room" in done.err or "full" in done.err) == (7, True), done.err
    charged = one.charged
    again = one.run()
    assert (again.code, one.charged) == (7, charged), again.err
    ballast.unlink()
    one.finish()


def test_what_may_be_too_little_room_is_said_and_no_reason_to_refuse(
    money: Callable[..., Money], small_disk: Path
) -> None:
    one = money(60)
    one.folder = small_disk / "out"
    done = one.run()
    assert (done.code, one.submits) == (0, 60)
    assert "MB left, and 60 images may take" in done.err


def test_a_folder_that_cannot_be_written_is_found_before_any_request(money: Callable[..., Money]) -> None:
    one = money(2)
    (one.place / "file").write_text("")
    for folder in ("file", "file/below", "/proc/flux-lora"):
        done = one.run(folder=one.place / folder)
        assert done.code == 7, done.err
    assert one.requests == 0


def test_a_read_only_file_system_is_found_before_any_request(money: Callable[..., Money], small_disk: Path) -> None:
    one = money(2)
    one.folder = small_disk / "out"
    one.folder.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = one.run()
    assert (done.code, one.requests) == (7, 0)
    assert "read-only" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_before_any_request(money: Callable[..., Money]) -> None:
    one = money(2)
    one.folder.mkdir(mode=0o500)
    done = one.run()
    assert (done.code, one.requests) == (7, 0)
