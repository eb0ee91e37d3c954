"""A stage for each test, and what several of them do to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake import Exchange, Fault
from tests.support.stage import Stage

BATCH = "batch jobs.jsonl -o out"
MakeStage = Callable[..., Stage]


def unhurried(seconds: float) -> float:
    """A limit in seconds for a machine of its own; more where others keep the processors busy."""
    return seconds * max(1.0, 1.5 * os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[MakeStage]:
    """A maker of stages: ``stages(jobs, scale=…, …options of the fake service)``."""
    made: list[Stage] = []

    def build(jobs: int, scale: float = 60.0, **options: Any) -> Stage:
        place = tmp_path / f"stage-{len(made)}"
        place.mkdir()
        made.append(Stage(place, scale, **{"service_time": 0.05, "picture_bytes": 2000, **options}))
        made[-1].jobs(jobs)
        return made[-1]

    yield build
    for stage in made:
        stage.close()


def kill_client(stage: Stage, when: str) -> Fault:
    """The server kills its client: on receiving a request, after carrying it out, in the answer, after the answer."""

    def kill() -> None:
        stage.running[-1].kill()
        stage.running[-1].wait(timeout=10)

    def fault(exchange: Exchange) -> None:
        if when == "received":
            return kill()
        raw = exchange.carried().encoded()
        if when == "half":
            exchange.send(raw[: len(raw) - len(raw) // 3])
        elif when == "answered":
            exchange.send(raw)
        return kill()

    return fault
