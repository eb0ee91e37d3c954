"""Bounds on what a run sends when it goes wrong: first submits that are all refused, ids that come twice, and looks
for fresh addresses. In simulated time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from flux_lora_cli.domain.records import State
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import ExitCode, OutputGone
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import Sim, job, jobs, png

FLOOR = 2.0


@pytest.mark.parametrize("latency", [0.05, 3.0])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_first_submits_that_are_all_refused_alike_are_ten_at_most(sim: Sim, latency: float, concurrency: int) -> None:
    sim.latency = lambda: latency
    sim.service.script = lambda endpoint, number: "400" if endpoint == "submit" else None
    result = sim.run(jobs(40), settings=Settings(concurrency=concurrency))
    assert result.outcome.exit_code is ExitCode.INCOMPLETE
    assert sim.service.calls["submit"] == 10
    assert "first 10 submits" in str(result.outcome.reasons[ExitCode.INCOMPLETE])
    states = Counter(record.state for record in result.records)
    assert states == {State.FAILED: 10, State.PLANNED: 30}


def test_refusals_after_a_success_stop_nothing(sim: Sim) -> None:
    sim.service.script = lambda endpoint, number: "400" if endpoint == "submit" and number > 1 else None
    sim.run(jobs(40), settings=Settings(concurrency=64))
    assert sim.service.calls["submit"] == 40


@pytest.mark.parametrize("settings", [Settings(concurrency=1), Settings(concurrency=1, on_unknown="hold")])
def test_an_id_that_is_another_jobs_is_no_answer(sim: Sim, settings: Settings) -> None:
    submit = sim.service.submit

    def same(model: str, request_input: Mapping[str, Any]) -> Task:
        return replace(submit(model, request_input), id="task0001")

    sim.service.submit = same  # type: ignore[method-assign]
    result = sim.run(jobs(2), settings=settings)
    assert len(sim.service.made) == 2
    first, second = result.records
    assert first.task_id == "task0001"
    if settings.on_unknown == "hold":
        assert result.outcome.exit_code is ExitCode.UNKNOWN
        assert (second.state, second.task_id) == (State.UNKNOWN, None)
    else:
        assert result.outcome.exit_code is ExitCode.OK
        assert (second.task_id, second.matched_by) == ("task0002", "predictions")
        assert len(truth.images(sim.folder)) == 2


def test_an_id_that_an_earlier_run_has_is_no_answer_either(sim: Sim) -> None:
    assert sim.run(jobs(1)).outcome.exit_code is ExitCode.OK
    submit = sim.service.submit
    sim.service.submit = lambda model, given: replace(submit(model, given), id="task0001")  # type: ignore[method-assign]
    result = sim.run(jobs(2), settings=Settings(on_unknown="hold"))
    assert result.outcome.exit_code is ExitCode.UNKNOWN
    assert [record.task_id for record in result.records] == ["task0001", None]


# ---- fresh addresses ---------------------------------------------------------------------


class Gallery:
    """Tasks of four images whose first addresses are gone; notes the time of each look."""

    def __init__(self, sim: Sim, fresh: str = "new") -> None:
        self._result, self._looks = sim.service.result, Counter[str]()
        self._sim, self._fresh = sim, fresh
        self.looked: list[float] = []
        sim.service.result = self.result  # type: ignore[method-assign]
        sim.service.download = self.download  # type: ignore[method-assign]

    def result(self, task_id: str) -> Task:
        self.looked.append(self._sim.clock.time)
        task = self._result(task_id)
        if not task.outputs:
            return task
        self._looks[task_id] += 1
        age = "old" if self._looks[task_id] == 1 else self._fresh
        urls = tuple(f"https://cdn.example/{task_id}-{number}.png?{age}" for number in range(4))
        return replace(task, outputs=urls, nsfw=(False,) * 4)

    def download(self, url: str, limit_bytes: int) -> Iterator[bytes]:
        if "old" in url:
            raise OutputGone("gone")
        return iter([png(url)])

    @property
    def after_completion(self) -> int:
        """Looks at tasks that were known to be completed."""
        return sum(count - 1 for count in self._looks.values())


def _gaps(times: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(times)]


@pytest.mark.parametrize("latency", [lambda: 0.05, itertools.cycle([0.05, 6.0, 1.0]).__next__])
@pytest.mark.parametrize(("fresh", "code"), [("new", ExitCode.OK), ("old again", ExitCode.INCOMPLETE)])
def test_images_that_are_gone_are_asked_for_with_one_look_together(
    sim: Sim, latency: Callable[[], float], fresh: str, code: ExitCode
) -> None:
    sim.latency = latency
    seen = Gallery(sim, fresh)
    assert sim.run([job(1)]).outcome.exit_code is code
    assert seen.after_completion == 1
    assert min(_gaps(seen.looked)) >= FLOOR


def test_the_floor_holds_between_looks_that_fail(sim: Sim) -> None:
    seen = Gallery(sim)
    sim._random.random = lambda: 0.0  # type: ignore[method-assign]  # the jitter draws no time at all
    sim.service.script = lambda endpoint, number: "down" if endpoint == "look" and number in (1, 2, 4) else None
    assert sim.run([job(1)], settings=Settings(poll_interval=FLOOR)).outcome.exit_code is ExitCode.OK
    assert len(seen.looked) == 5
    assert min(_gaps(seen.looked)) >= FLOOR
    assert len(truth.images(sim.folder)) == 4
