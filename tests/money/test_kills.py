"""kill -9, at random moments and by the server at chosen ones; then the same command again."""

from __future__ import annotations

import os
import random
import signal
import subprocess

import pytest

from tests.conftest import MakeStage
from tests.money.conftest import BATCH
from tests.support import truth
from tests.support.fake import Exchange, Fault
from tests.support.stage import Stage

#: Random kills of the large batch, in the slow tests.
KILLS = int(os.environ.get("FLUX_LORA_KILLS") or 230)
STAGES = [("submit", "received"), ("submit", "accepted"), ("submit", "half"), ("submit", "answered"),
          ("look", "half"), ("image", "received"), ("image", "half")]  # fmt: skip


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


def killed_by_server(stage: Stage, endpoint: str, when: str, nth: int, jobs: int) -> None:
    stage.fake.on(endpoint, kill_client(stage, when), nth=nth)
    assert stage.run(BATCH).code == -signal.SIGKILL
    assert stage.fake.charged <= jobs
    stage.fake.mend()
    if (stage.out / "manifest.json").exists():
        truth.manifest(stage.out)


@pytest.mark.parametrize(("endpoint", "when"), STAGES)
def test_the_server_kills_a_middle_job(stages: MakeStage, endpoint: str, when: str) -> None:
    stage = stages(3)
    killed_by_server(stage, endpoint, when, 2, 3)
    stage.finish(3)


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 20, 40], ids=["first", "middle", "last"])
@pytest.mark.parametrize(("endpoint", "when"), STAGES)
def test_the_server_kills_each_job(stages: MakeStage, endpoint: str, when: str, nth: int) -> None:
    stage = stages(40)
    killed_by_server(stage, endpoint, when, nth, 40)
    stage.finish(40)


@pytest.mark.parametrize("when", ["accepted", pytest.param("received", marks=pytest.mark.slow)])
def test_a_kill_where_the_list_does_not_answer(stages: MakeStage, when: str) -> None:
    stage = stages(4, scale=200.0)
    killed_by_server(stage, "submit", when, 2, 4)
    stage.wrong("list:503")
    done = stage.run(BATCH)
    unknown = stage.unknown()
    assert (done.code, bool(unknown)) == (13, True), done.err
    assert all(name in done.err for name in unknown)
    assert stage.fake.charged <= 4
    assert len(truth.saved(stage.out)) == 4 - len(unknown)


def random_kills(stages: MakeStage, jobs: int, kills: int, seed: int, longest: float, faults: str = "") -> None:
    """Kill runs at random moments, each time going on in the folder, until it is finished; again until all hit."""
    draw = random.Random(seed)
    while kills > 0:
        stage = stages(jobs)
        for _ in range(6):
            stage.fake.mend()
            stage.wrong(faults)
            # With resubmit, what a kill left in doubt does not hold the next run up, and nothing is paid twice.
            process = stage.start(f"{BATCH} --on-unknown {draw.choice(['hold', 'reconcile', 'resubmit'])}")
            try:
                process.communicate(timeout=draw.uniform(0.05, longest))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            kills -= 1
            assert max(stage.fake.charged_prompts().values(), default=1) == 1
            if (stage.out / "manifest.json").exists():
                truth.manifest(stage.out)
        stage.finish(jobs)
        stage.close()


def test_random_kills(stages: MakeStage) -> None:
    random_kills(stages, 12, 5, seed=1, longest=0.5)


#: About one request in ten goes wrong, in ways that charge and in ways that do not.
FAULTS = ("submit:reset-after:every=17 submit:503:every=23 submit:429=1:every=11 look:500:every=9 image:cut:every=7 "
          "image:reset:every=13 list:503:every=4")  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_kills_of_a_large_batch_with_faults(stages: MakeStage) -> None:
    random_kills(stages, 200, KILLS, seed=2, longest=5.0, faults=FAULTS)
