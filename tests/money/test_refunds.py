"""Failed tasks count until the bill shows their refund; the bill is asked once, by runs with a limit that have any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.sandbox import Answer, Request, Sandbox
from tests.conftest import KEY, Cli, Finished

BATCH = ("batch", "jobs.jsonl", "-o", "out", "--concurrency", "1", "--poll-interval", "0.05", "--json")


class Bill:
    """A fault: no bill can be read while it is ``shut``; ``asked`` counts."""

    shut = False
    asked = 0

    def __call__(self, endpoint: str, request: Request) -> Answer | None:
        self.asked += endpoint == "bill"
        return Answer.refusal(404, "not found") if self.shut and endpoint == "bill" else None


@pytest.fixture
def bill() -> Bill:
    return Bill()


@pytest.fixture
def service(cli: Cli, bill: Bill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox whose second submission fails; a batch of two was run there."""
    with Sandbox(service_time=(0.01, 0.02), faults=[bill, "submit:failed:every=2"], small_pictures=True) as running:
        monkeypatch.setenv("WAVESPEED_BASE_URL", running.base_url)
        monkeypatch.setenv("WAVESPEED_API_KEY", KEY)
        (tmp_path / "jobs.jsonl").write_text('{"id": "good", "prompt": "a"}\n{"id": "bad", "prompt": "b"}\n')
        assert cli(*BATCH, "--max-cost", "1").code == 6
        yield running


def bad_job(folder: Path) -> dict[str, Any]:
    jobs = json.loads((folder / "out" / "manifest.json").read_text())["jobs"]
    return dict(next(job for job in jobs if job["id"] == "bad"))


def warned(done: Finished) -> int:
    return sum(event["event"] == "warning" and event["code"] == "refunds" for event in done.events)


@pytest.mark.parametrize("option", ["--max-cost", "--max-month"])
def test_a_refund_makes_room_for_another_try(
    cli: Cli, service: Sandbox, bill: Bill, tmp_path: Path, option: str
) -> None:
    bill.shut = True
    done = cli(*BATCH, "--retry-failed", option, "0.03")
    assert (done.code, warned(done), len(service.charges)) == (8, 1, 2), done.err
    bill.shut = False
    refused = cli(*BATCH, "--retry-failed", option, "0.02")
    assert (refused.code, warned(refused), len(service.charges)) == (8, 0, 2)
    done = cli(*BATCH, "--retry-failed", option, "0.03")
    assert (done.code, len(service.charges)) == (0, 3), done.err
    (past,) = bad_job(tmp_path)["history"]
    assert (past["cost_usd"], past["refunded_usd"]) == ("0.015", "0.015")
    assert bad_job(tmp_path)["cost_usd"] == "0.015"


@pytest.mark.usefixtures("service")
def test_the_bill_is_asked_once_and_only_where_it_matters(cli: Cli, bill: Bill, tmp_path: Path) -> None:
    assert cli(*BATCH).code == 6
    assert bill.asked == 0  # nothing had failed when the first run began, and this one has no limit
    for _ in range(2):
        assert cli(*BATCH, "--max-cost", "1").code == 6
        assert bill.asked == 1  # and what it showed is recorded
    assert (bad_job(tmp_path)["state"], bad_job(tmp_path)["refunded_usd"]) == ("failed", "0.015")


def test_a_failed_submission_without_a_folder(cli: Cli, service: Sandbox) -> None:
    submit = ("submit", "--wait", "-o", "b", "--poll-interval", "0.05")
    assert cli(*submit, "-p", "a", "-p", "b").code == 6
    done = cli(*submit, "c", "--max-month", "0.0449")
    assert (done.code, len(service.charges)) == (8, 4), done.err  # 0.015 each of batch and submit, the refund taken off
