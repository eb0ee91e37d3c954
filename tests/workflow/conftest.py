"""Folders for runs in simulated time."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flux_lora_cli.workflow import context
from tests.support.simulation import Sim


@pytest.fixture(autouse=True)
def everything_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run of very many jobs: what is laid to rest must be read, changed and kept like what is awake."""
    monkeypatch.setattr(context, "AWAKE", -1)


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: a flush to disk costs nothing there."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="flux-lora-test-") as folder:
        yield Path(folder)


@pytest.fixture
def new_sim(ram: Path) -> Callable[[], Sim]:
    """A maker of folders, each with a service and a user's state of its own."""
    numbers = itertools.count(1)
    return lambda: Sim(ram / f"out-{next(numbers)}")


@pytest.fixture
def sim(new_sim: Callable[[], Sim]) -> Sim:
    return new_sim()
