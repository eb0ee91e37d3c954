"""Ctrl-C, SIGTERM, a second of either, a reader that went away."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.conftest import MakeStage
from tests.money.conftest import BATCH, unhurried
from tests.support import truth
from tests.support.fake import Exchange


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGTERM, signal.SIGTERM], 143),  # a wrapper and the terminal's group: one signal
        pytest.param([signal.SIGINT, signal.SIGINT], 130, marks=pytest.mark.slow),
        ([signal.SIGUSR1], 143),  # as a batch system announces that a job's time is over
        *(pytest.param([n], 143, marks=pytest.mark.slow) for n in (signal.SIGHUP, signal.SIGXCPU, signal.SIGALRM)),
    ],
)
def test_the_first_signal_ends_in_good_order(stages: MakeStage, numbers: list[int], code: int) -> None:
    stage = stages(8, service_time=1.5)
    command = f"{BATCH} --concurrency 4"
    ended = stage.end(stage.start(command, scale=1, charged=4), *numbers)
    assert (ended.code, ended.seconds < unhurried(2.0)) == (code, True)
    assert f"flux-lora {command}" in ended.err
    states = stage.states()
    # The IDs of those on their way were waited for.
    assert states.count("submitted") + states.count("completed") == stage.fake.charged
    assert truth.leftovers(stage.out) == []
    stage.finish(8)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_submission_that_hangs_does_not_hold_the_end_up(stages: MakeStage, number: int) -> None:
    stage = stages(3)
    stage.wrong("submit:stall-after=60")
    ended = stage.end(stage.start(BATCH, scale=1, charged=1), number)
    assert ended.code in (130, 143)
    assert 1.0 < ended.seconds < unhurried(2.0)  # the answer is waited for, for a moment
    assert "cat1" in ended.err
    stage.finish(3)


def test_the_second_signal_leaves_at_once(stages: MakeStage) -> None:
    stage = stages(3)
    stage.wrong("submit:stall-after=60")
    process = stage.start(BATCH, scale=1, charged=1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    ended = stage.end(process, signal.SIGINT)
    assert (ended.code, ended.seconds < unhurried(0.5)) == (130, True)
    stage.finish(3)


def test_an_image_that_begins_while_the_run_ends_leaves_no_file(stages: MakeStage) -> None:
    stage = stages(2)
    stage.wrong("submit:stall-after=60:nth=2")  # so that the end takes a moment

    def serve_late(exchange: Exchange) -> None:
        raw = exchange.carried().encoded()
        stage.running[-1].send_signal(signal.SIGTERM)
        time.sleep(0.5)
        exchange.send(raw[:-9])
        exchange.hold()

    stage.fake.on("image", serve_late)
    ended = stage.run(f"{BATCH} --poll-interval 0.1", scale=1)
    assert (ended.code, stage.fake.count("image")) == (143, 1)
    assert truth.leftovers(stage.out) == []


def ledger_is_open(pid: int) -> bool:
    """Whether a process waits for the ledger that somebody else has locked."""
    with suppress(FileNotFoundError):  # one that is closed meanwhile
        return any("ledger.sqlite3" in os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_signal_while_the_folder_is_opened_leaves_no_file(stages: MakeStage) -> None:
    stage = stages(1)
    stage.run(BATCH, code=0)
    with closing(sqlite3.connect(stage.out / "ledger.sqlite3", isolation_level=None)) as ledger:
        ledger.execute("BEGIN EXCLUSIVE")
        process = stage.start(BATCH, scale=1)
        stage.until(lambda: ledger_is_open(process.pid))
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert (stage.end(process).code, truth.leftovers(stage.out)) == (143, [])
    stage.all_done(1)


def test_an_image_that_is_whole_is_kept_though_the_run_ends(stages: MakeStage) -> None:
    stage = stages(1)

    def block_the_ledger(exchange: Exchange) -> None:
        with closing(sqlite3.connect(stage.out / "ledger.sqlite3", isolation_level=None)) as ledger:
            ledger.execute("BEGIN IMMEDIATE")
            exchange.answer(exchange.carried())
            time.sleep(0.2)
            stage.running[-1].send_signal(signal.SIGTERM)
            time.sleep(0.1)

    stage.fake.on("image", block_the_ledger)
    ended = stage.run(f"{BATCH} --poll-interval 0.1", scale=1)
    assert (ended.code, len(ended.lines)) == (143, 1)
    stage.check_folder()
    stage.all_done(1)
