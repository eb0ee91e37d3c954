"""A run that the rate holds back: it keeps to the rate, in small groups of submits, and looks seldom."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left

from flux_lora_cli.domain.rate import RateGate
from flux_lora_cli.workflow.context import Settings
from flux_lora_cli.workflow.submitter import BEAT
from tests.support.simulation import Sim, jobs


def run(sim: Sim, count: int, rate: float, concurrency: int = 1000) -> list[float]:
    """A batch of tasks of 2 to 6 s; the times of its submits."""
    draw = random.Random(5)
    times: list[float] = []

    def called(endpoint: str) -> None:
        sim.service.seconds = draw.uniform(2.0, 6.0)
        if endpoint == "submit":
            times.append(sim.clock.time)

    sim.service.on_call = called
    sim.run(jobs(count), settings=Settings(rate=rate, concurrency=concurrency))
    assert len(times) == count
    return times


def test_fewer_looks_are_made_where_the_rate_is_what_submits_wait_for(sim: Sim) -> None:
    run(sim, 400, 8.0)
    assert sim.service.calls["look"] / 400 < 2.0  # 1.8; 2.4 without knowing of the rate


def test_full_slots_are_no_matter_of_the_rate(sim: Sim) -> None:
    run(sim, 400, 8.0, concurrency=16)
    assert sim.service.calls["look"] / 400 > 2.2


def test_a_high_rate_is_kept_in_groups(sim: Sim) -> None:
    sim.latency = lambda: 0.004
    times = run(sim, 600, 80.0)
    seconds = times[-1] - times[0]
    assert 599 / seconds > 0.97 * 80.0
    starts = [time for before, time in itertools.pairwise(times) if time - before > BEAT / 2]
    assert 600 / 6 < len(starts) < 600 / 2  # several leave on each beat, and none between
    for number, start in enumerate(times):  # never more than the rate allows, and what a beat was late
        assert bisect_left(times, start + 1.0) - number <= 80 * (1.0 + RateGate.LAG) + 1
