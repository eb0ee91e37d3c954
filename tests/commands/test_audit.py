"""``audit``: what the bill says against what a folder did; each bill is the sandbox's own, changed by one rule."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from flux_lora_cli.sandbox import Answer, Request, Sandbox
from tests.commands.conftest import Run
from tests.conftest import KEY

Entries = list[dict[str, Any]]
#: Entries of the completed task and of the failed one to the entries of the bill.
Change = Callable[[Entries, Entries], Entries]


class Bill:
    """A fault: the bill's entries as ``change`` leaves them; ``more`` beside them; ``answer`` in place of all of it."""

    def __init__(self) -> None:
        self.change: Change = lambda good, bad: bad + good
        self.more: dict[str, Any] = {}
        self.answer: Answer | None = None
        self.asked: list[dict[str, Any]] = []

    def __call__(self, endpoint: str, request: Request) -> Answer | None:
        if endpoint != "bill":
            return None
        self.asked.append(dict(request.json()))
        if self.answer is not None:
            return self.answer
        body = request.carry_out().body
        assert isinstance(body, bytes)
        data = json.loads(body)["data"]
        refunded = {item["prediction"]["uuid"] for item in data["items"] if item["billing_type"] == "refund"}
        good, bad = (
            [item for item in data["items"] if (item["prediction"]["uuid"] in refunded) is which]
            for which in (False, True)
        )
        return Answer.data({**data, "items": self.change(good, bad), **self.more})


@pytest.fixture
def bill() -> Bill:
    return Bill()


@pytest.fixture
def billed(bill: Bill, service: Callable[..., Sandbox]) -> Sandbox:
    """A sandbox whose second submission fails, behind ``bill``."""
    return service(faults=[bill, "submit:failed:every=2"])


@pytest.fixture
def out(run: Run, billed: Sandbox, tmp_path: Path) -> Path:
    """A folder of one completed and one failed job."""
    (tmp_path / "jobs.jsonl").write_text('{"id": "good", "prompt": "a"}\n{"id": "bad", "prompt": "b"}\n')
    assert run("batch", "jobs.jsonl", "-o", "out", "--concurrency", "1", "--poll-interval", "0.05").code == 6
    return tmp_path / "out"


def entry_of(out: Path, job: str) -> dict[str, Any]:
    jobs: Entries = json.loads((out / "manifest.json").read_text())["jobs"]
    return next(entry for entry in jobs if entry["id"] == job)


def but(items: Entries, **changes: Any) -> Entries:
    return [{**item, **changes} for item in items]


def charges(items: Entries) -> Entries:
    return [item for item in items if item["billing_type"] == "deduct"]


def hours_ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def twice(good: Entries, bad: Entries) -> Entries:
    return good + bad + but(charges(good), uuid="again") + but(charges(bad), uuid="more")


@pytest.mark.parametrize(
    ("change", "code", "kind", "job"),
    [
        (lambda good, bad: good + bad, 0, None, None),
        (twice, 6, "charged_twice", "good"),
        (lambda good, bad: good + bad + good, 0, None, None),  # one entry, told twice
        (lambda good, bad: good + but(charges(bad), created_at=hours_ago(4)), 6, "not_refunded", "bad"),
        (lambda good, bad: good + but(charges(bad), created_at=hours_ago(2)), 0, "refund_may_come", "bad"),
        (lambda good, bad: but(good, price=0.02) + bad, 6, "other_price", "good"),
        (  # charged too much, and a part of it refunded
            lambda good, bad: but(good, price=0.03) + but(good, uuid="b", billing_type="refund", price=0.01) + bad,
            6, "other_price", "good",
        ),
        (lambda good, bad: but(good, price=-0.015) + bad, 0, None, None),
        (lambda good, bad: but(good, price=24300) + bad, 6, "unclear_price", "good"),
        (lambda good, bad: but(good, currency="EUR") + bad, 6, "unclear_price", "good"),
        (lambda good, bad: but(good, price="many") + bad, 6, "unclear_price", "good"),
        (lambda good, bad: but(good, billing_type="adjust") + bad, 0, "not_charged", "good"),
        (lambda good, bad: bad, 0, "not_charged", "good"),
    ],
)  # fmt: skip
def test_bill_of_a_folder(
    run: Run, bill: Bill, out: Path, change: Change, code: int, kind: str | None, job: str | None
) -> None:
    bill.change = change
    done = run("audit", "out", "--json")
    assert done.code == code, done.err
    found = {(e["data"]["finding"], e["data"]["job"]) for e in done.events if e.get("kind") == "finding"}
    assert (kind, job) in found if kind else not found
    if code:
        assert entry_of(out, str(job))["task"]["id"] in done.err
    if kind == "unclear_price":  # shown as it came, never summed
        assert done.events[-1]["charged_usd"] == "0.015"


def test_totals_by_folder_model_and_month(run: Run, bill: Bill, out: Path) -> None:
    bill.change = lambda good, bad: but(good, created_at="2025-02-28T23:59:59Z") + bad
    done = run("audit", "out", "--json")
    totals = [event["data"] for event in done.events if event.get("kind") == "total"]
    shared = {"folder": "out", "model": "wavespeed-ai/flux-dev-lora", "charged_usd": "0.015"}
    february, now = totals
    assert february.items() >= {**shared, "month": "2025-02", "refunded_usd": "0"}.items()
    assert now.items() >= {**shared, "refunded_usd": "0.015"}.items()
    assert done.events[-1]["charged_usd"] == "0.03"
    assert "2025-02: $0.015 billed" in done.err


def test_refunds_are_recorded_once_and_never_beyond_the_price(run: Run, bill: Bill, out: Path) -> None:
    def recorded() -> int:
        return int(run("audit", "out", "--json").events[-1]["refunds_recorded"])

    before = (out / "ledger.sqlite3").read_bytes()
    bill.change = lambda good, bad: good + charges(bad)
    assert recorded() == 0
    bill.change = lambda good, bad: [item for item in bad if item["billing_type"] == "refund"]  # of nothing charged
    assert recorded() == 0
    assert (out / "ledger.sqlite3").read_bytes() == before
    bill.change = lambda good, bad: good + charges(bad) + but(charges(bad), uuid="r", billing_type="refund", price=0.5)
    assert recorded() == 1
    assert (entry_of(out, "bad")["refunded_usd"], entry_of(out, "bad")["cost_usd"]) == ("0.015", "0")
    assert recorded() == 0


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_keeps_no_refund_from_others(run: Run, out: Path) -> None:
    shutil.copytree(out, out.with_name("other"))
    with sqlite3.connect(out / "ledger.sqlite3") as writer:
        writer.execute("BEGIN IMMEDIATE")
        done = run("audit", "out", "other", "--json")
    assert (done.code, done.events[-1]["refunds_recorded"]) == (0, 1)
    assert "refunds were not recorded: " in done.err
    assert entry_of(out.with_name("other"), "bad")["refunded_usd"] == "0.015"


def test_a_refund_of_one_charge_of_two_gives_nothing_back(run: Run, bill: Bill, out: Path) -> None:
    """What was refunded was never counted: the folder counts a task once."""
    bill.change = lambda good, bad: twice(good, []) + but(good, uuid="back", billing_type="refund")
    assert run("audit", "out").code == 0
    assert entry_of(out, "good")["cost_usd"] == "0.015"


def test_a_task_that_the_bill_alone_knows_to_have_failed(run: Run, bill: Bill, billed: Sandbox) -> None:
    """``submit`` does not wait: its ledger never hears how a task ended."""
    (task,) = run("submit", "a").lines
    failed = {"uuid": task, "model_uuid": "wavespeed-ai/flux-dev-lora", "status": "failed"}
    bill.change = lambda good, bad: but(good, prediction=failed, created_at=hours_ago(4))
    done = run("audit", "--all")
    assert (done.code, done.out.startswith("not refunded: ")) == (6, True)


def test_refunds_of_earlier_tasks(run: Run, out: Path) -> None:
    first = entry_of(out, "bad")["task"]["id"]
    run("batch", "jobs.jsonl", "-o", "out", "--retry-failed", "--poll-interval", "0.05")
    assert run("audit", "out").code == 0
    past = entry_of(out, "bad")["history"][0]
    assert (past["task_id"], past["refunded_usd"]) == (first, "0.015")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer.refusal(403, "no"), 5), (Answer.refusal(404, "no"), 5), (Answer.refusal(401, "no"), 4),
        (Answer(200, b"<html>", "text/html"), 5), (Answer(429, b"", headers=(("Retry-After", "3600"),)), 9),
        (Answer.data({"page": 1, "has_more": False, "items": [{"x": 1}]}), 5),
        (Answer.data({"page": 1, "has_more": False, "items": []}), 5),  # the key of another account
    ],
)  # fmt: skip
def test_nothing_is_concluded(run: Run, bill: Bill, out: Path, answer: Answer, code: int) -> None:
    before = (out / "ledger.sqlite3").read_bytes()
    bill.answer = answer
    done = run("audit", "out")
    assert (done.code, done.out) == (code, "")
    assert (out / "ledger.sqlite3").read_bytes() == before


def test_charges_that_no_ledger_knows(run: Run, bill: Bill, out: Path, billed: Sandbox) -> None:
    import requests

    url = f"{billed.base_url}/api/v2/wavespeed-ai/flux-dev-lora"
    answer = requests.post(url, json={"prompt": "c"}, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
    stranger = answer.json()["data"]["id"]
    assert stranger not in run("audit", "out").out  # not asked for
    for words in (["out", "--since", hours_ago(24)[:10]], ["--all"]):
        done = run("audit", *words)
        assert (done.code, f"unknown charge: task {stranger}: $0.015" in done.out) == (0, True), done.err
    echo = dict.fromkeys(("uuid", "price", "currency", "created_at"), KEY) | {"billing_type": "deduct"}
    bill.change = lambda good, bad: [*but(good, uuid="b0", prediction=None)[:1], echo, *good, *bad]
    done = run("audit", "--all")
    assert "unknown charge: no task: $0.015" in done.out
    assert KEY not in done.out + done.err


def test_an_unknown_submission_with_a_candidate(run: Run, billed: Sandbox, tmp_path: Path) -> None:
    """The list shows nothing, so the task is held; the bill is the second witness."""
    (tmp_path / "jobs.jsonl").write_text('{"id": "lost", "prompt": "a"}\n')
    faults: Any = billed._faults
    faults[:0] = [
        lambda endpoint, request: (
            request.carry_out() and Answer(silent="reset") if endpoint == "submit"
            else Answer.refusal(404, "no list") if endpoint == "list" else None
        )
    ]  # fmt: skip
    held = run("batch", "jobs.jsonl", "-o", "out")
    assert (held.code, "flux-lora audit DIR" in held.err) == (13, True)
    done = run("audit", "out")
    task = billed.tasks[0].id
    assert (done.code, f"--adopt lost={task}" in done.err) == (13, True)
    assert done.out.endswith("[bill: bill-1]\n")
    submit = faults.pop(0)
    assert run("batch", "jobs.jsonl", "-o", "out", "--adopt", f"lost={task}").code == 0
    assert run("audit", "out").code == 0
    assert len(billed.charges) == 1

    faults.insert(0, submit)
    assert run("submit", "another").code == 13
    done = run("audit", "--all")
    assert (done.code, "--adopt" in done.err) == (13, False)
    assert f"take it: flux-lora wait {billed.tasks[1].id}" in done.err


def test_a_submission_that_was_sent_again_may_have_been_charged_too(
    run: Run, service: Callable[..., Sandbox], tmp_path: Path
) -> None:
    sandbox = service(faults=["submit:reset:first=1", "list:404"])
    (tmp_path / "jobs.jsonl").write_text('{"id": "lost", "prompt": "a"}\n')
    assert run("batch", "jobs.jsonl", "-o", "out", "--on-unknown", "resubmit", "--poll-interval", "0.05").code == 0
    done = run("audit", "out")
    assert done.code == 0
    assert done.out.startswith(f"unknown charge: lost (task {sandbox.tasks[0].id}) in out: submitted again ")


def test_all_names_folders_that_are_gone(run: Run, out: Path) -> None:
    assert run("submit", "one more").code == 0
    done = run("audit", "--all", "--json")
    assert (done.code, done.events[-1]["tasks"]) == (0, 3)
    out.rename(out.with_name("elsewhere"))
    assert str(out) in run("audit", "--all").err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2), (["nowhere"], 3), (["loop"], 3), (["out", "--since", "yesterday"], 2), (["out", "--sandbox"], 7),
        (["out", "--since", "2999-01-01"], 2), (["out", "--since", "0001-01-01T00:00+14:00"], 2),
    ],
)  # fmt: skip
def test_wrong_usage(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int) -> None:
    monkeypatch.delenv("WAVESPEED_BASE_URL")
    out.with_name("loop").symlink_to("loop")
    assert run("audit", *words).code == code


def test_junit(run: Run, bill: Bill, out: Path) -> None:
    def cases(*folders: str) -> dict[tuple[str | None, str | None], list[str]]:
        run("audit", *folders, "--junit", "audit.xml")
        suites = ET.parse(out.with_name("audit.xml")).getroot()
        return {(s.get("name"), c.get("name")): [e.tag for e in c] for s in suites for c in s.iter("testcase")}

    bill.change = twice
    shutil.copytree(out, out.with_name("other"))
    assert cases("out", "other") == {
        ("out", "good"): ["failure"], ("out", "bad"): [],  # failed lately: the second refund may come yet
        ("other", "good"): [], ("other", "bad"): [],  # the copy of a folder
    }  # fmt: skip
    bill.answer = Answer.refusal(404, "not found")
    assert list(cases("out").values()) == [["error"]]


def test_a_hundred_tasks_per_request(run: Run, bill: Bill, billed: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text("".join(f'{{"prompt": "cat {n}"}}\n' for n in range(150)))
    run("batch", "many.jsonl", "-o", "many", "-q", "--concurrency", "50", "--no-download", "--poll-interval", "0.05")
    bill.asked.clear()
    assert run("audit", "many").code == 0
    assert [(len(asked["prediction_uuids"]), asked["page"]) for asked in bill.asked] == [(100, 1), (100, 2), (50, 1)]


@pytest.mark.parametrize("has_more", [True, None])
def test_pages_end_where_nothing_new_comes(run: Run, bill: Bill, out: Path, has_more: bool | None) -> None:
    """A service that takes no notice of the page, or does not say whether there is another."""
    first: Entries = []
    bill.change = lambda good, bad: first or first.extend(good + bad) or first
    bill.more = {"has_more": has_more}
    assert run("audit", "out").code == 0
    assert len(bill.asked) == 2


@pytest.mark.slow
def test_a_bill_that_is_not_read_to_its_end_tells_nothing(run: Run, bill: Bill, out: Path) -> None:
    entry = {"billing_type": "deduct", "price": 0.015, "created_at": hours_ago(1), "prediction": None}
    bill.change = lambda good, bad: [{**entry, "uuid": f"b{len(bill.asked)}"}]
    bill.more = {"has_more": True}
    done = run("audit", "out")
    assert (done.code, done.out) == (5, "")
