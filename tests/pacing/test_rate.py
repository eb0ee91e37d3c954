"""The rate of submits, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from flux_lora_cli.domain.rate import RateGate, SubmitWindow


def half() -> float:
    return 0.5


def drive(gate: RateGate, until: float, images: int = 1) -> list[float]:
    """Submit as fast as the gate allows."""
    now, times = 0.0, []
    while (now := gate.ready_at(now, images)) < until:
        gate.take(now, images)
        gate.accepted(now, images)
        times.append(now)
    return times


@pytest.mark.parametrize(("rate", "images"), [(10 / 60, 1), (500 / 60, 1), (5000 / 60, 1), (500 / 60, 4)])
def test_the_limit_is_used_and_not_overshot(rate: float, images: int) -> None:
    times = drive(RateGate(rate), 120.0, images)
    sent = len(times) * images
    assert rate * 120 * 0.99 <= sent <= rate * (120 + RateGate.LAG) + images
    for start in (0.0, 13.0, 60.0):
        window = sum(images for time in times if start <= time < start + 60)
        assert window <= rate * (60 + RateGate.LAG) + images


def test_without_a_limit_nothing_waits() -> None:
    gate = RateGate(None)
    for _ in range(1000):
        assert gate.ready_at(5.0, 4) == 5.0
        gate.take(5.0, 4)


def test_a_pause_is_not_saved_up_for_a_burst() -> None:
    gate = RateGate(1.0)
    gate.take(0.0)
    sent = 0
    while gate.ready_at(1000.0) == 1000.0:
        gate.take(1000.0)
        sent += 1
    assert sent == 1


def test_a_refusal_halves_the_rate_once_for_all_that_were_on_their_way() -> None:
    gate = RateGate(20.0)
    first = gate.refused(10.0, 2.0, half)
    again = gate.refused(10.1, 2.0, half)
    assert gate.rate == 10.0
    assert first >= 12.0
    assert again >= first
    gate.refused(again + 1, None, half)
    assert gate.rate == 5.0


def test_retry_after_is_obeyed_also_when_a_later_one_is_longer() -> None:
    gate = RateGate(20.0)
    gate.refused(10.0, 1.0, lambda: 0.0)
    assert gate.refused(10.1, 60.0, lambda: 0.0) == pytest.approx(70.1)
    assert gate.ready_at(11.0) == pytest.approx(70.1)


def test_without_retry_after_the_pause_doubles_up_to_a_minute() -> None:
    gate, now, pauses = RateGate(20.0), 0.0, []
    for _ in range(8):
        resume = gate.refused(now, None, half)
        pauses.append(round(resume - now, 6))
        now = resume + 0.01
    assert pauses == sorted(pauses)
    assert pauses[0] <= 10.0
    assert pauses[-1] == pytest.approx(60.0)


def test_the_rate_climbs_slowly_back_to_the_ceiling_and_not_over_it() -> None:
    gate = RateGate(20.0)
    now = gate.refused(0.0, None, half)
    rates = []
    for _ in range(2000):
        now = gate.ready_at(now)
        gate.take(now)
        gate.accepted(now)
        rates.append(gate.rate or 0.0)
    assert rates[0] == 10.0
    assert rates == sorted(rates)
    assert rates[-1] == 20.0
    assert now > 8.0  # one image a second more in every second, not at once


def test_an_unlimited_gate_finds_the_rate_of_a_service_and_loses_nothing() -> None:
    """A service of 5 a second with a Retry-After of 1 s: everything arrives, few requests are refused."""
    rng, gate, now = random.Random(3), RateGate(None), 0.0
    tokens, updated, accepted, refused = 5.0, 0.0, 0, 0
    while accepted < 300:
        now = gate.ready_at(now + 0.001)
        gate.take(now)
        tokens, updated = min(5.0, tokens + (now - updated) * 5.0), now
        if tokens >= 1:
            tokens -= 1
            accepted += 1
            gate.accepted(now)
        else:
            refused += 1
            gate.refused(now, 1.0, rng.random)
    assert refused <= 20
    assert now <= 3 * 300 / 5.0


@pytest.mark.parametrize("retry_after", [None, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(5))
def test_200_clients_at_one_server_do_not_come_back_as_a_herd(seed: int, retry_after: float | None) -> None:
    rng = random.Random(seed)
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
    slots = Counter(int(time * 10) for time in retries)
    assert max(slots.values()) <= 0.05 * len(retries)


def test_no_more_submits_are_on_their_way_than_the_rate_needs() -> None:
    window = SubmitWindow()
    for _ in range(20):
        window.observe(0.1)
    assert window.allowed(10 / 60, 16) == 1
    assert window.allowed(30.0, 100) == 4
    assert window.allowed(None, 0) == 1
    assert window.allowed(None, 1) == 1
    assert window.allowed(None, 2000) == SubmitWindow.MOST


def test_a_first_fill_takes_about_a_second() -> None:
    window = SubmitWindow()
    window.observe(0.15)
    vacancies, now = 48, 0.0
    while vacancies > 0:
        vacancies -= window.allowed(None, vacancies)
        now += 0.15
    assert now <= 1.5
    assert window.allowed(None, 48) <= 8


def test_a_near_service_needs_one_submit_at_a_time_and_at_the_highest_tier_two() -> None:
    window = SubmitWindow()
    window.observe(0.004)
    assert window.allowed(None, 48) == 1
    assert window.allowed(5000 / 60, 1000) == 2
