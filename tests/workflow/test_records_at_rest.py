"""In a large run, records that nothing happens to are laid to rest; in a small one that is not worth its while."""

from __future__ import annotations

import pytest

from flux_lora_cli.workflow import context
from flux_lora_cli.workflow.runner import Runner
from tests.support.simulation import Sim, SimInbox, jobs


@pytest.mark.parametrize(("awake", "planned", "done"), [(100, 0, 0), (3, 4, 8), (-1, 7, 8)])
def test_records_rest_where_there_are_many(
    sim: Sim, monkeypatch: pytest.MonkeyPatch, awake: int, planned: int, done: int
) -> None:
    monkeypatch.setattr(context, "AWAKE", awake)
    seen = []

    def before(runner: Runner, _: SimInbox) -> None:
        batch = runner.submitter._queue  # filled when the run begins
        sim.service.on_call = lambda endpoint: seen.append(sum(w.record.resting is not None for w in batch))

    sim.on_runner = before
    result = sim.run(jobs(8), settings=context.Settings(concurrency=1))
    assert seen[0] == planned  # the first is on its way, and awake
    assert sum(record.resting is not None for record in result.records) == done
    assert [record.outputs[0].file is not None for record in result.records] == [True] * 8
