"""``-v`` says why it waits, and why it looks again; without it, nothing does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, 20.0, service_time=(5.0, 5.0))
    yield made
    made.close()


def test_the_rate_is_named_with_each_long_wait(stage: Stage) -> None:
    stage.jobs(3)
    ended = stage.run("batch jobs.jsonl -o out -v --rate 6/min")
    assert ended.code == 0, ended.err
    waits = [line for line in ended.err.splitlines() if "the next submit waits" in line]
    assert len(waits) >= 2
    assert all("the rate allows no more (--rate" in line for line in waits)


def test_full_slots_are_named_once(stage: Stage) -> None:
    stage.jobs(3)
    ended = stage.run("batch jobs.jsonl -o out -v --concurrency 1")
    assert ended.code == 0, ended.err
    assert ended.err.count("the next submit waits until one has ended: 1 tasks are in flight (--concurrency)") == 1


@pytest.mark.parametrize("command", ["batch jobs.jsonl -o out -v", "submit --wait -o out -v 'a cat'"])
def test_every_look_has_a_reason(stage: Stage, command: str) -> None:
    stage.jobs(1)
    ended = stage.run(command)
    assert ended.code == 0, ended.err
    assert ended.err.count("; looked at in ") == stage.counts()["looks"]
    assert "created; looked at in " in ended.err
    assert "processing; looked at in " in ended.err


def test_a_fresh_address_has_a_reason(stage: Stage) -> None:
    stage.jobs(1)
    stage.sandbox.faults.add("download:404:1")
    ended = stage.run("batch jobs.jsonl -o out -v")
    assert ended.code == 0, ended.err
    assert "cat1: image 0: " in ended.err
    assert "looked at once more, for a fresh address" in ended.err


def test_nobody_is_told_who_does_not_ask(stage: Stage) -> None:
    stage.jobs(3)
    stage.sandbox.faults.add("download:404:1")
    ended = stage.run("batch jobs.jsonl -o out --rate 6/min --concurrency 1")
    assert ended.code == 0, ended.err
    for words in ("the next submit waits", "looked at in", "fresh address"):
        assert words not in ended.err
