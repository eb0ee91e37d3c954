"""Where looks are placed: on a simulated service, over many seeds."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest
from pacing_simulator import Outcome, Setting, simulate, uniform_times

from flux_lora_cli.domain.pacing import LookPlanner

SEEDS = range(500, 516)
FAST = {"low": 0.5, "high": 1.5, "floor": 0.1}
REAL = {"low": 2.0, "high": 6.0, "floor": 2.0}


def runs(low: float, high: float, jobs: int = 256, **setting: Any) -> list[Outcome]:
    return [simulate(Setting(uniform_times(jobs, low, high, seed), **setting)) for seed in SEEDS]


def median_ratio(outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.ratio for outcome in outcomes)


def mean_looks(outcomes: list[Outcome]) -> float:
    return statistics.mean(outcome.looks_per_task for outcome in outcomes)


def test_a_backlog_at_the_service_hides_few_looks() -> None:
    outcomes = runs(**FAST)
    assert median_ratio(outcomes) <= 1.03
    assert mean_looks(outcomes) <= 3.0


def test_downloads_apart_cost_only_the_last_one() -> None:
    assert median_ratio(runs(**FAST, download=0.3)) <= 1.07


def test_real_scale_under_the_default_floor() -> None:
    """With every start of work known exactly the mean is 1.025: the last task ends between two looks 2 s apart."""
    outcomes = runs(**REAL)
    assert median_ratio(outcomes) <= 1.04
    assert max(outcome.looks_per_task for outcome in outcomes) <= 5.0


def test_the_service_hardly_idles_before_the_end_under_the_default_floor() -> None:
    """Without the detection of the last task, which no client can do better than its floor."""
    for outcome in runs(**REAL):
        assert (outcome.makespan - outcome.last_delay) / outcome.ideal <= 1.02


@pytest.mark.parametrize(
    ("setting", "limit", "looks"),
    [
        pytest.param({**FAST, "concurrency": 32}, 1.12, 5, id="no-backlog"),
        pytest.param({**FAST, "reports_execution": False}, 1.04, 6, id="no-execution-time"),
        pytest.param({**FAST, "latency": 0.05, "submit_latency": 0.05}, 1.06, 4, id="50-ms-away"),
        pytest.param({**REAL, "concurrency": 64}, 1.05, 3, id="a-long-queue"),
        pytest.param({"low": 20.0, "high": 40.0, "floor": 2.0}, 1.02, 5, id="slow"),
    ],
)
def test_other_services(setting: dict[str, Any], limit: float, looks: float) -> None:
    outcomes = runs(**setting)
    assert median_ratio(outcomes) <= limit
    assert mean_looks(outcomes) <= looks


@pytest.mark.parametrize("setting", [FAST, REAL, {**REAL, "concurrency": 8}])
def test_no_two_looks_at_a_task_are_closer_than_the_floor(setting: dict[str, Any]) -> None:
    assert min(outcome.least_gap for outcome in runs(**setting)) >= setting["floor"] - 1e-9


def test_the_first_wave_makes_less_than_half_of_the_looks() -> None:
    for outcome in runs(**FAST):
        assert sum(outcome.looks[:48]) < sum(outcome.looks) / 2


def test_an_estimate_that_was_kept_spares_looks() -> None:
    cold = simulate(Setting(uniform_times(48, 0.5, 1.5, 1)))
    kept = LookPlanner.restore(cold.planner.export(), floor=0.1)
    warm = simulate(Setting(uniform_times(48, 0.5, 1.5, 2), planner=kept))
    assert warm.looks_per_task < cold.looks_per_task


def test_looks_at_a_stuck_task_grow_apart() -> None:
    planner = LookPlanner(2.0)
    planner.observe(0.0, 4.0, 2.0, 3500)
    times = [planner.first_look(10.0, 1, 0)]
    while times[-1] < 10.0 + 1800:
        gap = times[-1] - times[-2] if len(times) > 1 else 0.0
        times.append(planner.next_look(10.0, times[-1], len(times), 1, 0, gap))
    gaps = [round(b - a, 6) for a, b in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 2.0
    assert gaps[-1] == LookPlanner.LONGEST_GAP
    assert len(times) < 120


def test_an_estimate_from_another_world_is_passed_over() -> None:
    for data in ({}, {"service_s": "x"}, {"service_s": [None, "1", -1, float("nan"), float("inf"), True]}):
        assert LookPlanner.restore(data, 2.0).export()["service_s"] == []


def test_times_that_make_no_sense_are_survived() -> None:
    planner = LookPlanner(0.1)
    for execution in (None, 0, -5, 10**12):
        planner.observe(10.0, 9.0, 11.0, execution)
        assert planner.first_look(20.0, 1, 5) >= 20.0
        assert planner.next_look(20.0, 21.0, 3, 1, 0) >= 21.1


def test_nobody_waits_for_looks_where_submits_wait_for_the_rate() -> None:
    """Then most tasks are done at their first look; without knowing of the rate there are 1.9 looks a task."""
    jobs, rate = 2000, 40.0
    for seed in (1, 2):
        outcome = simulate(
            Setting(uniform_times(jobs, 2.0, 6.0, seed), slots=jobs, concurrency=1000, floor=2.0, rate=rate)
        )
        assert statistics.mean(outcome.looks[jobs // 4 : -jobs // 4]) <= 1.35
        assert outcome.makespan <= jobs / rate + 6.0 + 2.0  # and what the floor may cost the last one
        assert outcome.least_gap >= 2.0 - 1e-9


@pytest.mark.parametrize(("rate", "jobs"), [(83.3, 500), (83.3, 1500), (20.0, 200)])
def test_many_tasks_that_started_close_together_end_when_the_longest_does(rate: float, jobs: int) -> None:
    """Were the run expected to end when one task most likely has, some of many would be looked at 2 s too late."""
    outcomes = runs(2.0, 6.0, jobs, slots=jobs, concurrency=1000, floor=2.0, rate=rate)
    beyond = [outcome.makespan - jobs / rate - 6.0 for outcome in outcomes]
    assert statistics.mean(beyond) <= 0.4
