"""One holder at a time, named; a killed holder leaves no lock behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from records_samples import names, python

from flux_lora_cli import errors
from flux_lora_cli.adapters.folder_lock import LOCK_NAME, FolderLock, write_lock

_HOLD = """
import sys, time; from pathlib import Path
from flux_lora_cli.adapters.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(folder: Path) -> subprocess.Popen[str]:
    holder = python(_HOLD, folder, stdin=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_holder_is_told_who_has_it_within_two_seconds(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    began = time.monotonic()
    with pytest.raises(errors.FolderBusy) as caught:
        FolderLock(tmp_path).acquire()
    assert time.monotonic() - began < 2
    assert f"process {holder.pid} on " in caught.value.message and " since 20" in caught.value.message
    holder.communicate("")
    assert names(tmp_path) == set()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert names(tmp_path) == {LOCK_NAME}
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert names(tmp_path) == set()


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        child = subprocess.Popen(["sleep", "60"])
    try:
        FolderLock(tmp_path).acquire()
    finally:
        child.kill()
        child.wait()


def test_a_file_that_its_holder_removed_excludes_nobody(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    first.acquire()
    stale = os.open(tmp_path / LOCK_NAME, os.O_RDWR)
    first.release()
    second = FolderLock(tmp_path)
    second.acquire()
    # Who had the old file open can lock it now, but must not believe it.
    assert not second._is_current(stale)
    os.close(stale)
    with pytest.raises(errors.FolderBusy):
        FolderLock(tmp_path, patience=0).acquire()
    second.release()


_COUNT = """
import sys; from pathlib import Path
from flux_lora_cli.adapters.folder_lock import write_lock
counter = Path(sys.argv[1]) / "counter"
for _ in range(100):
    with write_lock(counter.parent):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_short_writes_take_turns(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    writers = [python(_COUNT, tmp_path) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "300"
    assert names(tmp_path) == {"counter"}


def test_a_short_write_goes_beside_a_batch(tmp_path: Path) -> None:
    with FolderLock(tmp_path), write_lock(tmp_path):
        pass


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with write_lock(tmp_path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.FolderError):
        FolderLock(folder).acquire()
    assert (tmp_path / "elsewhere").read_text() == "precious"


@pytest.mark.parametrize("content", ["", "hello", "[]", '{"pid": "x"}', "\0" * 9000])
def test_an_unreadable_note_is_still_a_lock(tmp_path: Path, content: str) -> None:
    holder = _holder(tmp_path)
    (tmp_path / LOCK_NAME).write_text(content)
    with pytest.raises(errors.FolderBusy, match="another process"):
        FolderLock(tmp_path, patience=0).acquire()
    holder.communicate("")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    if subprocess.run(["mount", "--bind", "-o", "ro", tmp_path, tmp_path], capture_output=True).returncode:
        pytest.skip("a folder cannot be made read-only here")
    try:
        with pytest.raises(errors.FolderError) as caught:
            FolderLock(tmp_path).acquire()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert str(tmp_path) in caught.value.message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.FolderError):
        FolderLock(tmp_path / "nowhere").acquire()
