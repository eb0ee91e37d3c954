"""A stage for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """One job, ``cat1``, and a service that answers at once; waits are 60 times shorter."""
    made = Stage(tmp_path, scale=60)
    made.jobs(1)
    yield made
    made.close()
