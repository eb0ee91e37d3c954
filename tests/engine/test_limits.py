"""Retries, outages, the rate and polls, in simulated time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.engine.limits import (
    DOWNLOAD,
    LAG,
    LEAST_RATE,
    MAX_GAP,
    MAX_SENDING,
    NEVER_SENT,
    POLL,
    RETRY_COST,
    Outage,
    PollPlanner,
    RateGate,
    next_try,
)
from flux_lora_cli.errors import DeadlineError, RateLimited, Uncertain


def half() -> float:
    return 0.5


# ---- retries ----


@pytest.mark.parametrize("tries", [NEVER_SENT, POLL, DOWNLOAD])
def test_every_policy_ends(tries: int) -> None:
    error = Uncertain("reset")
    assert [next_try(error, failures, tries, half) for failures in (1, 2)] == [0.5, 1.0]
    assert next_try(error, tries - 1, tries, lambda: 0.9999) < 20
    with pytest.raises(Uncertain):
        next_try(error, tries, tries)


def test_a_pause_is_as_long_as_was_asked_and_no_longer_than_a_run_waits() -> None:
    assert next_try(Uncertain("busy", retry_after=300.0), 1, POLL) >= 300.0
    assert next_try(RateLimited("slower"), 0, POLL) >= 5.0
    assert next_try(Uncertain("busy", retry_after=3.0), 1, POLL, half) == 7.0  # no herd comes back at once
    with pytest.raises(DeadlineError, match="5 minutes"):
        next_try(Uncertain("busy", retry_after=301.0), 1, POLL)


# ---- outages ----


@pytest.mark.parametrize(("timed_out", "failures"), [(False, 20), (True, 10)])
def test_so_many_failures_in_a_row_start_probing_and_one_success_ends_it(timed_out: bool, failures: int) -> None:
    outage = Outage()
    for n in range(failures):
        assert not outage.probing
        assert outage.probe(n) == 0
        outage.failure(float(n), timed_out)
    began = failures - 1.0
    assert outage.probing
    assert [outage.probe(began + n) for n in (1, 20, 21)] == [19, 0, 19]
    outage.success()
    assert not outage.probing
    assert outage.probe(began + 21) == 0


def test_a_run_is_given_up_after_ten_minutes_counted_from_the_first_failure() -> None:
    outage = Outage()
    for n in range(100):  # successes between failures keep the budget
        outage.failure(float(n))
        for _ in range(RETRY_COST):
            outage.success()
    for n in range(20):
        assert not outage.probing
        outage.failure(1000.0 + n)
    assert not outage.given_up(1599.0)
    assert outage.given_up(1600.0)
    outage.success()
    assert not outage.given_up(9999.0)


# ---- the rate ----


@pytest.mark.parametrize(("rate", "images"), [(10 / 60, 1), (500 / 60, 1), (5000 / 60, 1), (500 / 60, 4)])
def test_the_limit_is_used_and_not_overshot(rate: float, images: int) -> None:
    gate, now, times = RateGate(rate), 0.0, []
    while (now := gate.ready_at(now)) < 120.0:
        gate.take(now, images)
        gate.accepted(now, images)
        times.append(now)
    assert rate * 120 * 0.99 <= len(times) * images <= rate * (120 + LAG) + images
    gate.take(1000.0, images)  # a pause is not saved up for a burst
    assert gate.ready_at(1000.0) > 1000.0 or rate * LAG > images
    for start in (0.0, 13.0, 60.0):
        window = sum(images for time in times if start <= time < start + 60)
        assert window <= rate * (60 + LAG) + images


def test_a_refusal_halves_the_rate_once_for_all_that_were_in_flight() -> None:
    gate = RateGate(20.0)
    first = gate.refused(10.0, 2.0, half)
    again = gate.refused(10.1, 60.0, half)  # a later and longer pause counts
    assert gate.rate == 10.0
    assert first >= 12.0
    assert gate.ready_at(11.0) == again >= 70.1
    gate.refused(again + 1, None, half)
    assert gate.rate == 5.0


def test_a_refusal_counts_also_while_a_lost_answer_is_waited_out() -> None:
    gate = RateGate(4.0)
    gate.lost(0.0, 60.0, lambda: 0.0)
    assert gate.refused(1.0, None, half) < gate.ready_at(1.0) == 60.0
    assert gate.rate == 2.0


def test_without_retry_after_the_pause_doubles_up_to_a_minute() -> None:
    gate, now, pauses = RateGate(20.0), 0.0, []
    for _ in range(8):
        resume = gate.refused(now, None, half)
        pauses.append(round(resume - now, 6))
        now = resume + 0.01
    assert pauses == sorted(pauses)
    assert pauses[0] <= 10.0
    assert pauses[-1] == pytest.approx(60.0)


def test_the_rate_climbs_by_one_per_full_window_and_not_over_the_ceiling() -> None:
    gate, rates = RateGate(20.5), []
    now = gate.refused(0.0, None, half)
    for _ in range(2000):
        now = gate.ready_at(now)
        gate.take(now)
        gate.accepted(now)
        rates.append(gate.rate or 0.0)
    assert rates == sorted(rates)
    assert rates[10] == pytest.approx(11.25)
    assert rates[-1] == 20.5
    assert now > 8.0


def test_a_row_of_refusals_stops_at_the_floor() -> None:
    for limit, floor in ((20.0, LEAST_RATE), (0.05, 0.05), (None, LEAST_RATE)):
        gate, now = RateGate(limit), 0.0
        for _ in range(40):
            now = gate.refused(now, None, half) + 0.01
        assert gate.rate == floor


@pytest.mark.parametrize("retry_after", [None, 1.0, 30.0])
def test_200_clients_at_one_server_do_not_come_back_as_a_herd(retry_after: float | None) -> None:
    rng = random.Random(1)
    gates = [RateGate(None) for _ in range(200)]
    due = [(rng.random() * 0.02, n) for n in range(200)]
    heapq.heapify(due)
    tokens, updated, retries = 0.0, 0.0, []
    while due:
        now, number = heapq.heappop(due)
        gate = gates[number]
        gate.take(now)
        if now > 0.05:
            retries.append(now)
        tokens, updated = min(10.0, tokens + (now - updated) * 20.0), now
        if tokens >= 1:
            tokens -= 1
            gate.accepted(now)
            continue
        resume = gate.refused(now, retry_after, rng.random)
        assert resume >= now + (retry_after or 0.0)
        heapq.heappush(due, (gate.ready_at(resume), number))
    assert max(Counter(int(time * 10) for time in retries).values()) <= 0.05 * len(retries)  # in slots of 100 ms


@pytest.mark.parametrize(
    ("latency", "rate", "vacancies", "allowed"),
    [
        (None, None, 1000, MAX_SENDING),
        (0.11, 10 / 60, 16, 1),
        (0.11, 30.0, 100, 4),
        (0.11, None, 0, 1),
        (0.11, None, 1, 1),
        (0.11, None, 2000, MAX_SENDING),
        (0.014, None, 48, 2),  # a near service needs few at a time,
        (0.014, 5000 / 60, 1000, 2),  # also at the highest tier
    ],
)
def test_no_more_submissions_are_in_flight_than_the_rate_needs(
    latency: float | None, rate: float | None, vacancies: int, allowed: int
) -> None:
    gate = RateGate(rate)
    for _ in range(30 if latency else 0):
        gate.accepted(0.0, latency=latency)
    assert gate.in_flight(vacancies) == allowed


# ---- polls ----


def polled(took: float, planner: PollPlanner, reports: bool = True) -> list[float]:
    """When a task that takes so long is polled, until it is seen finished."""
    times = [planner.first_poll(0.0, 0.01)]
    while times[-1] < took:
        times.append(planner.next_poll(times[-1], len(times)))
    before = times[-2] if len(times) > 1 else None
    planner.observe(0.0, times[-1], before, round(took * 1000) if reports else None)
    return times


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize(
    ("low", "high", "floor"), [(2.0, 6.0, 2.0), (0.5, 1.5, 0.1), (20.0, 40.0, 2.0), (3.0, 3.0, 2.0)]
)
def test_few_polls_see_the_end_of_a_task_soon(low: float, high: float, floor: float, reports: bool) -> None:
    rng, planner = random.Random(1), PollPlanner(floor)
    took = [rng.uniform(low, high) for _ in range(200)]
    polls = [polled(seconds, planner, reports) for seconds in took][20:]
    late = [times[-1] - seconds for times, seconds in zip(polls, took[20:], strict=True)]
    assert sum(map(len, polls)) / len(polls) <= (1.3 if low == high else 7)
    assert sum(late) / len(late) <= (0.6 if low == high else max(floor, 0.1 * high))


@given(st.floats(0.05, 60.0), st.floats(0.0, 7200.0), st.lists(st.floats(0.0, 1e5), max_size=5))
def test_gaps_grow_from_the_floor_to_half_a_minute(floor: float, took: float, earlier: list[float]) -> None:
    planner = PollPlanner(floor)
    for seconds in earlier:
        planner.observe(0.0, seconds, None, None)
    gaps = [b - a for a, b in itertools.pairwise(polled(took, planner))]
    assert all(gap >= floor - 1e-6 for gap in gaps)
    assert all(b >= a - 1e-6 for a, b in itertools.pairwise(gaps))
    assert max(gaps, default=0.0) <= max(MAX_GAP, floor) + 1e-6


def test_clocks_do_no_harm() -> None:
    planner = PollPlanner(2.0)
    planner.observe(100.0, 0.0, 50.0, -5)
    assert planner.first_poll(0.0, 7.0) == 7.0


def test_a_cold_start_does_not_slow_the_polls_that_follow() -> None:
    planner = PollPlanner(2.0)
    for _ in range(32):
        polled(20.0, planner)
    for _ in range(5 * 16):  # five times what is in flight at once
        polled(2.0, planner)
    assert planner.first_poll(0.0, 0.0) < 4.0
