"""A disk that is full at any write: no more submits, nothing corrupt, and later no further charge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from flux_lora_cli.adapters.image_store import ImageStore
from flux_lora_cli.adapters.ledger import Ledger
from flux_lora_cli.adapters.manifest_file import ManifestFile
from flux_lora_cli.errors import DiskFull, ExitCode
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import Sim, jobs

_WRITES: tuple[tuple[Any, str], ...] = (
    (Ledger, "save"),
    (ImageStore, "fetch"),
    (ImageStore, "publish"),
    (ImageStore, "sync_dirs"),
    (ManifestFile, "write"),
)


def run_on_full_disk(sim: Sim, after: int, owner: Any, name: str) -> tuple[ExitCode, int]:
    """A run in which ``name`` finds the disk full from its ``after``-th call on; exit code, submits after that."""
    original, calls, submits = getattr(owner, name), 0, -1

    def full(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls, submits
        calls += 1
        if calls >= after:
            submits = sim.service.calls.get("submit", 0) if submits < 0 else submits
            raise DiskFull("no space")
        return original(*args, **kwargs)

    with patch.object(owner, name, full):
        try:
            code = sim.run(jobs(6), settings=Settings(concurrency=2)).outcome.exit_code
        except DiskFull as error:
            code = error.exit_code
    return code, sim.service.calls.get("submit", 0) - submits


@pytest.mark.parametrize(("owner", "name"), _WRITES, ids=[name for _, name in _WRITES])
def test_a_full_disk_stops_the_run_and_loses_nothing(new_sim: Callable[[], Sim], owner: Any, name: str) -> None:
    for after in (1, 2, 3, 5, 8, 13):
        sim = new_sim()
        code, late = run_on_full_disk(sim, after, owner, name)
        if code is ExitCode.OK:
            continue
        assert code is ExitCode.FOLDER, (name, after)
        assert late <= 2, "submits went on"  # those that were on their way
        if (sim.folder / "manifest.json").exists():
            truth.manifest(sim.folder)
        assert sim.run(jobs(6), settings=Settings(on_unknown="resubmit")).outcome.exit_code is ExitCode.OK
        assert len(sim.service.made) == 6, (name, after)
        assert len(truth.images(sim.folder)) == 6
