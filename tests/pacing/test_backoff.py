"""Back-off, the retry budget, and what an outage costs."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from flux_lora_cli.domain.backoff import (
    DOWNLOAD,
    LIST,
    LOOK,
    NEVER_SENT,
    THROTTLED,
    Outage,
    RetryBudget,
    full_jitter,
)


def test_full_jitter_lies_between_nothing_and_the_doubled_base_under_the_cap() -> None:
    assert full_jitter(0, 1.0, 20.0, lambda: 0.0) == 0.0
    assert full_jitter(3, 1.0, 20.0, lambda: 0.5) == 4.0
    assert full_jitter(10_000, 1.0, 20.0, lambda: 0.999) < 20.0


@pytest.mark.parametrize(
    ("policy", "tries", "cap"), [(NEVER_SENT, 3, 20), (LOOK, 10, 20), (LIST, 10, 20), (DOWNLOAD, 5, 20)]
)
def test_policies_end(policy: object, tries: int, cap: float) -> None:
    assert [policy.more(n) for n in (1, tries - 1, tries)] == [True, True, False]  # type: ignore[attr-defined]
    assert policy.delay(100, lambda: 0.9999) < cap  # type: ignore[attr-defined]


def test_being_throttled_never_ends_by_counting() -> None:
    assert THROTTLED.more(10**6)


def test_retry_after_is_never_undercut() -> None:
    assert LOOK.delay(0, lambda: 0.0, retry_after=7.0) == 7.0
    assert LOOK.delay(0, lambda: 0.99, retry_after=7.0) > 7.0
    assert LOOK.delay(0, lambda: 0.0, retry_after=-3.0) == 0.0


def test_the_budget_is_spent_and_earned() -> None:
    budget = RetryBudget(tokens=20)
    budget.timeout()
    budget.retry()
    assert not budget.empty
    budget.retry()
    assert budget.empty
    for _ in range(5):
        budget.success()
    assert not budget.empty
    for _ in range(100):
        budget.success()
    assert budget.tokens == 20


def test_twenty_failures_in_a_row_start_probing_and_one_success_ends_it() -> None:
    outage = Outage()
    for _ in range(19):
        outage.failure(5.0)
        assert outage.ready_at(5.0) == 5.0
    outage.failure(6.0)
    assert outage.probing
    assert outage.ready_at(7.0) == 26.0
    outage.probed(26.0)
    assert outage.ready_at(26.1) == 46.0
    outage.success()
    assert not outage.probing
    assert outage.ready_at(26.2) == 26.2


def test_a_run_is_given_up_after_ten_minutes_without_success_counted_from_the_first_failure() -> None:
    outage = Outage()
    outage.success()
    for n in range(20):
        outage.failure(1000.0 + n)
    assert not outage.given_up(1599.0)
    assert outage.given_up(1600.0)
    outage.success()
    assert not outage.given_up(9999.0)


def test_ten_minutes_of_503_cost_at_most_three_times_the_requests_of_a_healthy_run() -> None:
    """64 tasks in flight, each looked at until it shows an answer; a healthy run takes three looks a task."""
    tasks, outage, rng, now, requests = 64, Outage(), random.Random(7), 0.0, 0
    due = [(0.0, n, 0) for n in range(tasks)]
    heapq.heapify(due)
    parked: list[tuple[int, int]] = []
    while now < 600.0:
        if outage.probing and not due:
            now = outage.ready_at(now)
            number, failures = parked.pop(0)
        else:
            now, number, failures = heapq.heappop(due)
        if outage.ready_at(now) > now:
            parked.append((number, failures))
            continue
        outage.probed(now)
        requests += 1
        assert requests < 1000
        outage.failure(now)
        if outage.probing:
            parked.append((number, failures))
        else:
            heapq.heappush(due, (now + LOOK.delay(failures, rng.random), number, failures + 1))
    assert outage.given_up(now)
    assert requests <= 3 * 3 * tasks
    assert requests < 60  # the budget's 20, then one in 20 s


def worst_slot(times: list[float]) -> float:
    """The share of all times in the fullest slot of 100 ms."""
    return max(Counter(int(time * 10) for time in times).values()) / len(times)


@pytest.mark.parametrize("seed", range(20))
def test_200_clients_that_meet_an_outage_of_a_minute_do_not_come_back_as_a_herd(seed: int) -> None:
    rng = random.Random(seed)
    retries = []
    for _ in range(200):
        now = rng.random() * 0.05
        for attempt in range(LOOK.tries - 1):
            now += LOOK.delay(attempt, rng.random)
            retries.append(now)
            if now > 60.0:
                break
    assert worst_slot(retries) <= 0.05


@pytest.mark.parametrize("seed", range(20))
def test_200_clients_that_were_told_the_same_time_do_not_come_back_as_a_herd(seed: int) -> None:
    rng = random.Random(seed)
    retries = [LOOK.delay(0, rng.random, retry_after=3.0) for _ in range(200)]
    assert min(retries) >= 3.0
    assert worst_slot(retries) <= 0.05
