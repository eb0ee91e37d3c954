"""Where polls are placed: on a simulated service, over many seeds."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.engine.pacing import PollPlanner
from tests.engine.simulator import Outcome, Setting, simulate, uniform_times

SEEDS = range(500, 508)
FAST: dict[str, Any] = {"low": 0.5, "high": 1.5, "floor": 0.1}
REAL: dict[str, Any] = {"low": 2.0, "high": 6.0, "floor": 2.0}


def runs(low: float, high: float, jobs: int = 256, **setting: Any) -> list[Outcome]:
    return [simulate(Setting(uniform_times(jobs, low, high, seed), **setting)) for seed in SEEDS]


def ratio(outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.ratio for outcome in outcomes)


def polls(outcomes: list[Outcome]) -> float:
    return statistics.mean(outcome.polls_per_task for outcome in outcomes)


@pytest.mark.parametrize(
    ("setting", "limit", "most_polls"),
    [
        pytest.param(FAST, 1.05, 5, id="target-fast"),
        pytest.param(REAL, 1.05, 5, id="target-real"),
        pytest.param({**FAST, "concurrency": 32}, 1.12, 5, id="no-backlog"),
        pytest.param({**FAST, "reports_execution": False}, 1.05, 6, id="no-execution-time"),
        pytest.param({**REAL, "reported_share": 0.5}, 1.08, 5, id="half-of-it-reported"),
        pytest.param({**FAST, "latency": 0.05, "submit_latency": 0.05}, 1.06, 4, id="50-ms-away"),
        pytest.param({**REAL, "concurrency": 64}, 1.05, 3, id="a-long-queue"),
        pytest.param({"low": 20.0, "high": 40.0, "floor": 2.0}, 1.05, 6, id="slow"),
        pytest.param({**REAL, "concurrency": 8, "slots": 8}, 1.3, 3, id="as-many-as-slots"),
    ],
)
def test_makespan_and_polls_per_task(setting: dict[str, Any], limit: float, most_polls: float) -> None:
    outcomes = runs(**setting)
    assert ratio(outcomes) <= limit
    assert polls(outcomes) <= most_polls
    assert min(min(outcome.gaps, default=99.0) for outcome in outcomes) >= setting["floor"] - 1e-9


def test_the_service_hardly_idles_before_the_end_under_the_default_floor() -> None:
    """Without the detection of the last task, which no client can do better than its floor."""
    for outcome in runs(**REAL):
        assert (outcome.makespan - outcome.last_delay) / outcome.ideal <= 1.02


@pytest.mark.parametrize("pause", [0.0, 3.0, 120.0, 72_000.0, -3600.0])
@pytest.mark.parametrize("left", [0.0, 2.0])
@pytest.mark.parametrize("warm", [False, True])
def test_a_rerun_after_any_pause(pause: float, left: float, warm: bool) -> None:
    """48 tasks of an earlier run are in flight; ``left``: what the service still needs for them, by whatever clock."""
    for seed in SEEDS[:3]:
        cold = simulate(Setting(uniform_times(256, 2.0, 6.0, seed + 100), floor=2.0)).planner
        planner = PollPlanner.restore(cold.export(), 2.0) if warm else None
        times = uniform_times(256, 2.0, 6.0, seed)
        earlier = Setting(times, floor=2.0, planner=planner, earlier=[pause] * 48, earlier_left=left)
        outcome = simulate(earlier)
        assert outcome.makespan / (outcome.ideal + left) <= 1.1
        assert max(outcome.gaps) <= 30.0
        usual = outcome.planner.usual or 0.0
        firsts = [task.polls[0] - task.submitted for task in outcome.tasks if task.fresh]
        assert max(firsts[64:]) <= 2 * usual


def test_neither_an_age_nor_an_outage_is_learned_as_queue_time() -> None:
    planner = PollPlanner(2.0)
    planner.observe(None, 20.0, 19.0, 3000)
    assert planner.usual == pytest.approx(3.0)
    for _ in range(16):
        planner.observe(0.0, 400.0, 2.0, 3000)
    assert planner.first_poll(500.0, 500.1, 1, 5) <= 506.0


def test_a_steady_service_is_learned_though_it_reports_little() -> None:
    """Tasks take 3 s and report 0.3: as many polls as tasks, nearly, and none late by much."""
    setting = Setting([3.0] * 256, slots=8, concurrency=8, floor=2.0, reported_share=0.1, earlier=[120.0] * 8)
    outcome = simulate(setting)
    assert outcome.ratio <= 1.35
    assert outcome.polls_per_task <= 1.6


def test_an_estimate_that_was_kept_spares_polls() -> None:
    cold = simulate(Setting(uniform_times(48, 0.5, 1.5, 1)))
    kept = PollPlanner.restore(cold.planner.export(), floor=0.1)
    warm = simulate(Setting(uniform_times(48, 0.5, 1.5, 2), planner=kept))
    assert warm.polls_per_task < cold.polls_per_task


@pytest.mark.parametrize("submitted", [10.0, -90_000.0])
def test_polls_of_a_stuck_task_grow_apart_up_to_30_s(submitted: float) -> None:
    planner = PollPlanner(2.0)
    planner.observe(0.0, 4.0, 2.0, 3500)
    times = [planner.first_poll(10.0, 10.0, 1, 0)]
    while times[-1] < 10.0 + 1800:
        gap = times[-1] - times[-2] if len(times) > 1 else 0.0
        times.append(planner.next_poll(submitted, times[-1], len(times), 1, 0, gap))
    gaps = [round(b - a, 6) for a, b in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 2.0
    assert gaps[-1] == PollPlanner.MAX_GAP
    assert len(times) < 120


def test_nobody_waits_for_polls_where_submissions_wait_for_the_rate() -> None:
    """Then most tasks are done at their first poll."""
    jobs, rate = 2000, 40.0
    times = uniform_times(jobs, 2.0, 6.0, 1)
    outcome = simulate(Setting(times, slots=jobs, concurrency=1000, floor=2.0, rate=rate))
    middle = outcome.tasks[jobs // 4 : -jobs // 4]
    assert statistics.mean(len(task.polls) for task in middle) <= 1.4
    assert outcome.makespan <= jobs / rate + 6.0 + 2.5


@pytest.mark.parametrize(
    "data", [{}, [], None, {"service_s": "x"}, {"service_s": [None, "1", -1, float("nan"), float("inf"), True, {}]}]
)
def test_an_estimate_that_makes_no_sense_is_passed_over(data: Any) -> None:
    planner = PollPlanner.restore(data, 2.0)
    assert planner.export()["service_s"] == []
    assert planner.usual is None


TIMES = st.floats(-1e6, 1e6)


@given(
    st.floats(0.05, 60.0),
    st.lists(st.tuples(TIMES, TIMES, st.none() | TIMES, st.none() | st.integers(-5, 10**12)), max_size=20),
    st.tuples(TIMES, TIMES, st.integers(1, 500), st.integers(1, 2000), st.integers(0, 2000), st.floats(0, 1e5)),
    st.booleans(),
)
def test_whatever_it_is_told_no_poll_is_too_soon_or_too_late(
    floor: float,
    observed: list[tuple[float, float, float | None, int | None]],
    asked: tuple[float, float, int, int, int, float],
    paced: bool,
) -> None:
    planner = PollPlanner(floor)
    for submitted, seen, before, execution in observed:
        planner.observe(submitted, seen, before, execution)
    submitted, now, number, in_flight, remaining, gap = asked
    first = planner.first_poll(submitted, now, in_flight, remaining, paced)
    assert first >= now
    if planner.usual is not None:
        assert first <= max(now, submitted + 2 * planner.usual) + 1e-6
    when = planner.next_poll(submitted, now, number, in_flight, remaining, gap, paced)
    longest = max(PollPlanner.MAX_GAP, floor * PollPlanner.GROWTH**40)
    assert floor * 0.999 <= when - now <= longest + 1e-6
