"""Ctrl-C, SIGTERM, a second of either, a reader that went away, a second process."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.money.conftest import FAST, Money, unhurried
from tests.support import truth


def interrupted(one: Money, number: int, process: subprocess.Popen[str]) -> tuple[float, str, str]:
    """Seconds from the signal to the end, and what was said."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert "Traceback" not in err, err
    return time.monotonic() - began, out, err


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 143, marks=pytest.mark.slow),
    ],
)
def test_the_first_signal_ends_in_good_order(money: Callable[..., Money], number: int, code: int) -> None:
    one = money(40, service_time=(0.3, 0.6))
    process = one.start("--concurrency", 4, speed=1)
    one.until(lambda: one.charged >= 6)
    seconds, _, err = interrupted(one, number, process)
    assert process.returncode == code
    assert seconds < unhurried(2.0)
    after = one.submits
    assert f"flux-lora {shlex.join(one.command('--concurrency', 4))}" in err
    manifest = truth.manifest(one.folder)
    states = [entry["state"] for entry in manifest["jobs"]]
    # The ids of those on their way were waited for.
    assert states.count("submitted") + states.count("completed") == one.charged
    assert truth.leftovers(one.folder) == []
    assert one.submits == after
    assert one.run().code == 0
    one.all_done()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_submit_that_hangs_does_not_hold_the_end_up(money: Callable[..., Money], number: int) -> None:
    one = money(3)
    one.sandbox.faults.add("submit:stall-after=60")
    process = one.start(speed=1)
    one.until(lambda: one.charged >= 1)
    seconds, _, _ = interrupted(one, number, process)
    assert process.returncode in (130, 143)
    assert 1.0 < seconds < unhurried(2.0)  # the answer is waited for, for a while
    one.sandbox.faults.clear()
    one.finish()


def test_the_second_signal_leaves_at_once(money: Callable[..., Money]) -> None:
    one = money(3)
    one.sandbox.faults.add("submit:stall-after=60")
    process = one.start(speed=1)
    one.until(lambda: one.charged >= 1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    seconds, _, _ = interrupted(one, signal.SIGINT, process)
    assert process.returncode == 130
    assert seconds < unhurried(0.5)
    one.sandbox.faults.clear()
    one.finish()


def test_a_reader_that_leaves_ends_the_run_quietly(money: Callable[..., Money]) -> None:
    one = money(30, service_time=(0.1, 0.3))
    line = shlex.join([sys.executable, str(FAST), *one.command("--concurrency", "2")])
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "WAVESPEED_API_KEY": "k", "FAST_CLOCK": "4"},
    )
    assert done.returncode == 141
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert one.charged < one.jobs
    assert one.run().code == 0
    one.all_done()


def test_a_second_batch_is_refused_at_once_and_sends_nothing(money: Callable[..., Money]) -> None:
    one = money(3, service_time=(600.0, 600.0))
    first = one.start(speed=1)
    one.until(lambda: one.charged == 3)
    one.until(lambda: one.sandbox.stats()["submits_received"] == 3)
    time.sleep(0.3)
    before = one.sandbox.stats()
    began = time.monotonic()
    second = one.run("--json", speed=1)
    taken = time.monotonic() - began
    after = one.sandbox.stats()
    assert second.code == 11
    assert taken < unhurried(2.0)
    assert f"process {first.pid} " in second.err
    assert json.loads(second.lines[-1])["exit_code"] == 11
    for what in ("submits_received", "lists", "prices", "balances"):
        assert before[what] == after[what]
    # A holder that was killed leaves no lock behind.
    first.kill()
    first.wait()
    third = one.start(speed=1)
    one.until(lambda: one.sandbox.stats()["looks"] > after["looks"])
    third.kill()
    assert one.charged == 3


def test_two_that_start_together_pay_once(money: Callable[..., Money]) -> None:
    one = money(6)
    both = [one.start(), one.start()]
    for process in both:
        process.communicate(timeout=60)
    assert sorted(process.returncode for process in both) in ([0, 11], [0, 0])
    one.all_done()
