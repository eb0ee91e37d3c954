"""What several tests of this folder do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import require_tool

Mount = Callable[..., None]
BATCH = "batch jobs.jsonl -o out"


def unhurried(seconds: float) -> float:
    """A limit in seconds for a machine of its own; more where others keep the processors busy."""
    return seconds * max(1.0, 1.5 * os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture
def mount() -> Iterator[Mount]:
    """``mount`` with these arguments, the place last; taken away again at the end. Skips who may not."""
    require_tool("mount")
    places: list[str] = []

    def mounted(*arguments: object) -> None:
        if subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode:
            pytest.skip("only root can mount a file system")
        places.append(str(arguments[-1]))

    yield mounted
    for place in places:
        subprocess.run(["umount", "-l", place], capture_output=True)
