"""What is sent again, when, and how often: whole runs in simulated time."""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.domain.events import Waiting
from flux_lora_cli.domain.task import Task
from flux_lora_cli.errors import ExitCode, OutputGone
from flux_lora_cli.workflow.context import Settings
from tests.support import truth
from tests.support.simulation import Sim, job, jobs, png

CLIENTS = 200
SLOT = 0.1


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    shared = Path("/dev/shm")
    folder = shared / f"flux-lora-policy-{tmp_path.name}-{random.getrandbits(40)}" if shared.is_dir() else tmp_path
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def times(sim: Sim) -> list[tuple[str, float]]:
    """Notes each call, with the time since now."""
    seen: list[tuple[str, float]] = []
    began = sim.clock.time
    sim.service.on_call = lambda endpoint: seen.append((endpoint, sim.clock.time - began))
    return seen


def down(sim: Sim, begin: float, end: float) -> Callable[[str, int], str | None]:
    """A service that answers every request with 503 between two moments, in seconds from now."""
    began = sim.clock.time

    def script(endpoint: str, number: int) -> str | None:
        if not begin <= sim.clock.time - began < end:
            return None
        return "lost" if endpoint == "submit" else "down"

    return script


def healthy_requests(folder: Path, count: int) -> int:
    sim = Sim(folder / "healthy")
    assert sim.run(jobs(count)).outcome.exit_code == 0
    return sum(sim.service.calls.values())


@pytest.mark.parametrize("begin", [0.0, 2.0])
def test_ten_minutes_of_503_end_the_run_and_cost_few_requests(ram: Path, begin: float) -> None:
    healthy = healthy_requests(ram, 60)
    sim = Sim(ram / "down")
    calls = times(sim)
    sim.service.script = down(sim, begin, 1e9)
    result = sim.run(jobs(60))
    assert result.outcome.exit_code in (ExitCode.SERVICE, ExitCode.UNKNOWN)
    told = result.outcome.reasons[ExitCode.SERVICE]
    assert told is not None
    assert "10 minutes" in told.message
    assert "same command" in told.hint
    assert 600 <= calls[-1][1] < 720
    assert sum(sim.service.calls.values()) <= 3 * healthy
    # Once it is taken to be down, one request every 20 s is all, and none of them is a submit.
    late = [(endpoint, at) for endpoint, at in calls if at > 120]
    assert all(b - a >= 19.9 for (_, a), (_, b) in itertools.pairwise(late))
    assert "submit" not in {endpoint for endpoint, _ in late}
    assert any(isinstance(event, Waiting) and event.what == "outage" for event in sim.events)


def test_nine_minutes_of_503_are_sat_out(ram: Path) -> None:
    healthy = healthy_requests(ram, 60)
    sim = Sim(ram / "down")
    sim.service.script = down(sim, 2.0, 542.0)
    result = sim.run(jobs(60))
    assert result.outcome.exit_code in (ExitCode.OK, ExitCode.UNKNOWN)
    assert sum(sim.service.calls.values()) <= 3 * healthy
    assert len(sim.service.made) <= 60
    done = [record for record in result.records if record.state.value == "completed"]
    assert len(done) >= 60 - 6


@pytest.mark.parametrize("what", [pytest.param("throttled", marks=pytest.mark.slow), "down"])
def test_two_hundred_clients_do_not_come_back_together(ram: Path, what: str) -> None:
    slots: Counter[int] = Counter()
    for number in range(CLIENTS):
        sim = Sim(ram / f"client-{number}", latency=lambda: 0.02)
        sim._random = random.Random(number)
        began = sim.clock.time
        calls = times(sim)
        if what == "throttled":
            sim.service.script = lambda endpoint, place: "429" if endpoint == "submit" and place <= 2 else None
            endpoint = "submit"
        else:
            sim.service.script = lambda e, _, sim=sim, began=began: (  # type: ignore[misc]
                "down" if e == "look" and sim.clock.time - began < 20.0 else None
            )
            endpoint = "look"
        assert sim.run([job(1)]).outcome.exit_code in (ExitCode.OK, ExitCode.SERVICE)
        again = [at for name, at in calls if name == endpoint][1:]
        slots.update(int(at / SLOT) for at in again)
        shutil.rmtree(sim.folder)
    assert sum(slots.values()) >= CLIENTS
    assert max(slots.values()) <= 0.05 * sum(slots.values())


def test_a_refused_key_stops_all_but_what_is_on_its_way(ram: Path) -> None:
    sim = Sim(ram / "out")
    calls = times(sim)
    sim.service.script = lambda endpoint, number: "401" if endpoint == "submit" and number == 7 else None
    result = sim.run(jobs(80), settings=Settings(concurrency=64))
    assert result.outcome.exit_code is ExitCode.AUTH
    refused = [at for endpoint, at in calls if endpoint == "submit"][6] + 0.05
    assert not [at for endpoint, at in calls if at > refused + 0.05 and endpoint != "download"]
    assert {record.state.value for record in result.records} <= {"planned", "submitted", "completed"}


def test_a_lost_task_is_asked_for_during_a_minute_and_never_submitted_again(ram: Path) -> None:
    sim = Sim(ram / "out")
    calls = times(sim)
    sim.service.script = lambda endpoint, number: "404" if endpoint == "look" else None
    result = sim.run([job(1)])
    assert result.outcome.exit_code is ExitCode.INCOMPLETE
    looks = [at for endpoint, at in calls if endpoint == "look"]
    assert 60 <= looks[-1] - looks[0] < 75
    assert len(looks) < 20
    assert sim.run([job(1)]).outcome.submitted == 0
    assert len(sim.service.made) == 1


def test_every_stuck_task_is_named(ram: Path) -> None:
    sim = Sim(ram / "out")
    sim.service.seconds = 1e9
    result = sim.run(jobs(3), settings=Settings(task_timeout=120.0))
    assert result.outcome.exit_code is ExitCode.DEADLINE
    assert {event.task for event in sim.told("Overdue")} == {made.id for made in sim.service.made}
    assert all("2 minutes" in event.message for event in sim.told("Overdue"))
    assert str(result.outcome.reasons[ExitCode.DEADLINE]) == "3 tasks were not finished 2 minutes after their submit"


def test_addresses_that_ran_out_are_asked_for_anew_for_each_image(ram: Path) -> None:
    """However late an image is found gone, another of its task having been asked for already."""
    sim = Sim(ram / "out")
    draw = random.Random(5)
    sim.latency = lambda: draw.uniform(0.05, 8.0)
    _four_images(sim, gone=lambda url, looks: "old" in url)
    result = sim.run(jobs(8))
    assert result.outcome.exit_code == 0
    assert len(truth.images(sim.folder)) == 32
    assert sim.run(jobs(8)).outcome.exit_code == 0


def test_expired_images_are_told_once_a_run_and_paid_once(ram: Path) -> None:
    sim = Sim(ram / "out")
    _four_images(sim, gone=lambda url, looks: True)
    for _ in range(2):
        result = sim.run([job(1)])
        assert result.outcome.exit_code is ExitCode.INCOMPLETE
        missing = [event.index for event in sim.events if event.event == "missing"]  # type: ignore[attr-defined]
        assert sorted(missing) == [0, 1, 2, 3]
    assert len(sim.service.made) == 1


def _four_images(sim: Sim, gone: Callable[[str, int], bool]) -> None:
    """Each task has four images; the addresses of its first look are old ones."""
    looks: Counter[str] = Counter()
    result = sim.service.result

    def four(task_id: str) -> Task:
        task = result(task_id)
        if not task.outputs:
            return task
        looks[task_id] += 1
        age = "old" if looks[task_id] == 1 else "new"
        urls = tuple(f"https://cdn.example/{task_id}-{n}.png?{age}" for n in range(4))
        return Task(task.id, task.status, model=task.model, outputs=urls, nsfw=(False,) * 4)

    def download(url: str, limit_bytes: int) -> Any:
        if gone(url, 0):
            raise OutputGone("gone")
        return iter([png(url)])

    sim.service.result = four  # type: ignore[method-assign]
    sim.service.download = download  # type: ignore[method-assign]
