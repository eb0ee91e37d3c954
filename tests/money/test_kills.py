"""kill -9, at random moments and by the server at chosen ones; then the same command again."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.money.conftest import Money
from tests.support import truth

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the server finds its client in /proc")

STAGES = [
    "submit:kill=received",
    "submit:kill=accepted",
    "submit:kill=half",
    "submit:kill=answered",
    "download:kill=half",
]


def killed_by_server(money: Money, fault: str, nth: int) -> None:
    money.sandbox.faults.add(f"{fault}:nth={nth}")
    died = money.run()
    assert died.code == -signal.SIGKILL, died.err
    assert money.charged <= money.jobs
    money.sandbox.faults.clear()
    if (money.folder / "manifest.json").exists():
        truth.manifest(money.folder)


# The others, and other jobs, in the slow run.
@pytest.mark.parametrize("fault", STAGES[::2])
def test_the_server_kills_a_middle_job(money: Callable[..., Money], fault: str) -> None:
    one = money(5)
    killed_by_server(one, fault, 3)
    one.finish()


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 20, 40], ids=["first", "middle", "last"])
@pytest.mark.parametrize("fault", STAGES)
def test_the_server_kills_each_job(money: Callable[..., Money], fault: str, nth: int) -> None:
    one = money(40)
    killed_by_server(one, fault, nth)
    one.finish()


@pytest.mark.parametrize("fault", ["submit:kill=received", "submit:kill=accepted"])
def test_a_kill_where_the_list_does_not_answer(money: Callable[..., Money], fault: str) -> None:
    one = money(4)
    killed_by_server(one, fault, 2)
    one.sandbox.faults.add("list:503")
    done = one.run()
    unknown = [entry["id"] for entry in truth.manifest(one.folder)["jobs"] if entry["state"] == "unknown"]
    assert (done.code, bool(unknown)) == (13, True), done.err
    assert all(name in done.err for name in unknown)
    assert one.charged <= one.jobs
    assert len(truth.images(one.folder)) == one.jobs - len(unknown)


def random_kills(money: Callable[..., Money], jobs: int, kills: int, seed: int, longest: float) -> int:
    """Kill runs at random moments, each time going on in the folder, until it is finished; how many kills hit."""
    draw = random.Random(seed)
    hit = 0
    while hit < kills:
        one = money(jobs)
        for _ in range(6):
            # With resubmit, what a kill left in doubt does not hold the next run up, and nothing is paid twice.
            process = one.start("--on-unknown", draw.choice(["hold", "reconcile", "resubmit"]))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.2, longest))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            hit += 1
            assert one.charged <= jobs
            if (one.folder / "manifest.json").exists():
                truth.manifest(one.folder)
        one.finish()
    return hit


def test_random_kills(money: Callable[..., Money]) -> None:
    random_kills(money, 30, 3, seed=1, longest=1.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_twenty_random_kills_of_two_hundred_jobs(money: Callable[..., Money], seed: int) -> None:
    random_kills(money, 200, 5, seed=seed, longest=4.0)
