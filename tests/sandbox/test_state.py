"""State in a file: shared by sandboxes at once, outliving them, bounded, and refused where it is broken."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.sandbox import Sandbox, StateError
from tests.sandbox.conftest import Caller


def _damaged(path: Path) -> None:
    with Sandbox(state=path, service_time=0) as sandbox:
        for _ in range(50):
            Caller(sandbox).submit(prompt="a cat " * 100)
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = b"\x55" * (len(data) // 2 - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("not a database " * 50), _damaged])
def test_a_state_that_is_broken_or_not_its_own_is_refused_and_stays_as_it_is(tmp_path: Path, spoil: Any) -> None:
    state = tmp_path / "sandbox.sqlite3"
    spoil(state)
    before = state.read_bytes()
    with pytest.raises(StateError, match=str(state)):
        Sandbox(state=state)
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(state, before)]


def test_a_state_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    state = tmp_path / "sandbox.sqlite3"
    with Sandbox(state=state, service_time=0) as sandbox:
        Caller(sandbox).submit(prompt="a cat")
    with contextlib.closing(sqlite3.connect(state)) as old:
        old.executescript("ALTER TABLE tasks RENAME TO works; CREATE TABLE rate (x); PRAGMA user_version = 1")
    for tasks in (0, 1):
        with Sandbox(state=state, service_time=0) as sandbox:
            assert len(sandbox.tasks) == tasks
            Caller(sandbox).submit(prompt="a cat")


def test_a_place_that_is_not_a_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path, tmp_path / "fifo", Path("/dev/null"), Path("/proc/nowhere/state")):
        with pytest.raises(StateError, match=str(place)):
            Sandbox(state=place)
