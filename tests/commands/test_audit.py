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


class Bill:
    """A fault: the bill's entries as ``change`` leaves them; ``more`` beside them; ``answer`` in place of all of it."""

    def __init__(self) -> None:
        self.change: Callable[[Entries], Entries] = lambda items: items
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
        return Answer.data({**data, "items": self.change(data["items"]), **self.more})


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


def task_of(out: Path, job: str) -> str:
    return str(entry_of(out, job)["task"]["id"])


def entry_of(out: Path, job: str) -> dict[str, Any]:
    jobs: Entries = json.loads((out / "manifest.json").read_text())["jobs"]
    return next(entry for entry in jobs if entry["id"] == job)


def drop_refunds(items: Entries) -> Entries:
    return [item for item in items if item["billing_type"] == "deduct"]


def aged(items: Entries, hours: float) -> Entries:
    at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    return [{**item, "created_at": at} for item in items]


def good_only(**changes: Any) -> Callable[[Entries], Entries]:
    """Change the charge of the completed task: the one without a refund."""

    def change(items: Entries) -> Entries:
        refunded = {item["prediction"]["uuid"] for item in items if item["billing_type"] == "refund"}
        return [item if item["prediction"]["uuid"] in refunded else {**item, **changes} for item in items]

    return change


def only_good(items: Entries) -> Entries:
    return [item for item in good_only(uuid="x")(items) if item["uuid"] == "x"]


def without_good(items: Entries) -> Entries:
    return [item for item, changed in zip(items, good_only(uuid="x")(items), strict=True) if item == changed]


def partly_refunded(items: Entries) -> Entries:
    """The completed task was charged too much, and got a part of it back."""
    too_much = good_only(price=0.03)(items)
    return too_much + [{**item, "uuid": "b", "billing_type": "refund", "price": 0.01} for item in only_good(too_much)]


def twice(items: Entries) -> Entries:
    return items + [{**item, "uuid": f"{item['uuid']}-again"} for item in items if item["billing_type"] == "deduct"]


@pytest.mark.parametrize(
    ("change", "code", "kind", "job"),
    [
        pytest.param(lambda items: items, 0, None, None, id="as it should be"),
        pytest.param(twice, 6, "charged_twice", "good", id="twice"),
        pytest.param(lambda items: items + items, 0, None, None, id="the same entry twice"),
        pytest.param(lambda items: aged(drop_refunds(items), 4), 6, "not_refunded", "bad", id="refund overdue"),
        pytest.param(lambda items: aged(drop_refunds(items), 2), 0, "refund_may_come", "bad", id="refund may come"),
        pytest.param(good_only(price=0.02), 6, "other_price", "good", id="other price"),
        pytest.param(partly_refunded, 6, "other_price", "good", id="other price, in part refunded"),
        pytest.param(good_only(price=-0.015), 0, None, None, id="signed"),
        pytest.param(good_only(price=24300), 6, "unclear_price", "good", id="unit not told"),
        pytest.param(good_only(currency="EUR"), 6, "unclear_price", "good", id="another currency"),
        pytest.param(good_only(price="many"), 6, "unclear_price", "good", id="not a number"),
        pytest.param(good_only(price=None), 6, "unclear_price", "good", id="no price"),
        pytest.param(good_only(billing_type="adjust"), 0, "not_charged", "good", id="an entry of another kind"),
        pytest.param(without_good, 0, "not_charged", "good", id="completed and not charged"),
    ],
)
def test_bill_of_a_folder(
    run: Run, bill: Bill, out: Path, change: Callable[[Entries], Entries], code: int, kind: str | None, job: str | None
) -> None:
    bill.change = change
    done = run("audit", "out", "--json")
    assert done.code == code, done.err
    found = {(e["data"]["finding"], e["data"]["job"]) for e in done.events if e.get("kind") == "finding"}
    assert (kind, job) in found if kind else not found
    if code:
        assert task_of(out, str(job)) in done.err
    if kind == "unclear_price":  # shown as it came, never summed
        assert done.events[-1]["charged_usd"] == "0.015"


def test_totals_by_folder_model_and_month(run: Run, bill: Bill, out: Path) -> None:
    def change(items: Entries) -> Entries:
        moved = next(item for item in items if item["prediction"]["uuid"] == task_of(out, "good"))
        moved["created_at"] = "2025-02-28T23:59:59Z"
        return items

    bill.change = change
    done = run("audit", "out", "--json")
    totals = [event["data"] for event in done.events if event.get("kind") == "total"]
    assert {(each["folder"], each["model"]) for each in totals} == {("out", "wavespeed-ai/flux-dev-lora")}
    february, now = totals
    assert (february["month"], february["charged_usd"], february["refunded_usd"]) == ("2025-02", "0.015", "0")
    assert (now["charged_usd"], now["refunded_usd"]) == ("0.015", "0.015")
    assert done.events[-1]["charged_usd"] == "0.03"
    assert "out, wavespeed-ai/flux-dev-lora, 2025-02: $0.015 billed" in done.err


def test_refunds_are_recorded_once_and_never_beyond_the_price(run: Run, bill: Bill, out: Path) -> None:
    before = (out / "ledger.sqlite3").read_bytes()
    bill.change = drop_refunds
    assert run("audit", "out").code == 0
    assert (out / "ledger.sqlite3").read_bytes() == before  # nothing but refunds is written

    bill.change = lambda items: without_good(items)[:1]  # a refund of what was never charged
    assert run("audit", "out", "--json").events[-1]["refunds_recorded"] == 0

    bill.change = lambda items: [{**item, "price": 0.5} if item["billing_type"] == "refund" else item for item in items]
    assert run("audit", "out", "--json").events[-1]["refunds_recorded"] == 1
    assert (entry_of(out, "bad")["refunded_usd"], entry_of(out, "bad")["cost_usd"]) == ("0.015", "0")
    again = (out / "ledger.sqlite3").read_bytes()
    assert run("audit", "out", "--json").events[-1]["refunds_recorded"] == 0
    assert (out / "ledger.sqlite3").read_bytes() == again


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
    good = task_of(out, "good")

    def change(items: Entries) -> Entries:
        own = [item for item in twice(items) if item["prediction"]["uuid"] == good]
        back = {**own[0], "uuid": "back", "billing_type": "refund"}
        return [item for item in items if item["prediction"]["uuid"] != good] + [*own, back]

    bill.change = change
    assert run("audit", "out").code == 0
    assert entry_of(out, "good")["cost_usd"] == "0.015"


def test_a_task_that_the_bill_alone_knows_to_have_failed(run: Run, bill: Bill, billed: Sandbox) -> None:
    """``submit`` does not wait: its ledger never hears how a task ended."""
    (task,) = run("submit", "a").lines
    failed = {"uuid": task, "model_uuid": "wavespeed-ai/flux-dev-lora", "status": "failed"}
    bill.change = lambda items: [{**item, "prediction": failed} for item in aged(items, 4)]
    done = run("audit", "--all")
    assert done.code == 6, done.err
    assert done.out.startswith("not refunded: ")


def test_refunds_of_earlier_tasks(run: Run, bill: Bill, out: Path) -> None:
    first = task_of(out, "bad")
    run("batch", "jobs.jsonl", "-o", "out", "--retry-failed", "--poll-interval", "0.05")
    assert run("audit", "out").code == 0
    past = entry_of(out, "bad")["history"][0]
    assert (past["task_id"], past["refunded_usd"]) == (first, "0.015")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(Answer.refusal(403, "forbidden"), 5, id="403"),
        pytest.param(Answer.refusal(404, "not found"), 5, id="404"),
        pytest.param(Answer.refusal(401, "bad key"), 4, id="401"),
        pytest.param(Answer(200, b"<html>", "text/html"), 5, id="nonsense"),
        pytest.param(Answer(429, b"", headers=(("Retry-After", "3600"),)), 9, id="come back in an hour"),
        pytest.param(Answer.data({"page": 1, "has_more": False, "items": [{"x": 1}]}), 5, id="unreadable entries"),
        pytest.param(Answer.data({"page": 1, "has_more": False, "items": []}), 5, id="the key of another account"),
    ],
)
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
    today = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    for words in (["out", "--since", today], ["--all"]):
        done = run("audit", *words)
        assert done.code == 0, done.err
        assert f"unknown charge: task {stranger}: $0.015" in done.out
    echo = {"uuid": KEY, "billing_type": "deduct", "price": KEY, "currency": KEY, "created_at": KEY}
    bill.change = lambda items: [{**items[0], "uuid": "b0", "billing_type": "deduct", "prediction": None}, echo, *items]
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
    assert done.code == 13
    assert f"--adopt lost={task}" in done.err
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
    done = run("audit", "--all")
    assert done.code in (0, 5)
    assert str(out) in done.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2), (["nowhere"], 3), (["."], 3), (["loop"], 3), (["out", "--since", "yesterday"], 2),
        (["out", "--since", "2999-01-01"], 2), (["out", "--since", "0001-01-01T00:00+14:00"], 2),
        (["out", "--sandbox"], 7),
    ],
)  # fmt: skip
def test_wrong_usage(run: Run, out: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int) -> None:
    monkeypatch.delenv("WAVESPEED_BASE_URL")
    out.with_name("loop").symlink_to("loop")
    assert run("audit", *words).code == code


def test_junit(run: Run, bill: Bill, out: Path) -> None:
    bill.change = twice
    assert run("audit", "out", "--junit", "audit.xml").code == 6
    suite = ET.parse(out.with_name("audit.xml")).getroot()[0]
    assert {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")} == {
        "good": ["failure"],
        "bad": [],  # failed lately: the second refund may come yet
    }
    shutil.copytree(out, out.with_name("other"))
    run("audit", "out", "other", "--junit", "audit.xml")
    suites = ET.parse(out.with_name("audit.xml")).getroot()
    assert {suite.get("name"): suite.get("failures") for suite in suites} == {"out": "1", "other": "0"}
    bill.answer = Answer.refusal(404, "not found")
    run("audit", "out", "--junit", "audit.xml")
    (case,) = ET.parse(out.with_name("audit.xml")).getroot().iter("testcase")
    assert (case.get("name"), case[0].tag) == ("audit", "error")


def test_a_hundred_tasks_per_request(run: Run, bill: Bill, billed: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text("".join(f'{{"prompt": "cat {n}"}}\n' for n in range(150)))
    run("batch", "many.jsonl", "-o", "many", "-q", "--concurrency", "50", "--no-download", "--poll-interval", "0.05")
    bill.asked.clear()
    assert run("audit", "many").code == 0
    assert [(len(asked["prediction_uuids"]), asked["page"]) for asked in bill.asked] == [(100, 1), (100, 2), (50, 1)]


@pytest.fixture
def first_page(bill: Bill) -> Entries:
    """The bill gives it for every page."""
    first: Entries = []

    def change(items: Entries) -> Entries:
        first[:] = items or first
        return first

    bill.change = change
    return first


@pytest.mark.parametrize("has_more", [True, None])
def test_pages_end_where_nothing_new_comes(
    run: Run, bill: Bill, out: Path, first_page: Entries, has_more: bool | None
) -> None:
    """A service that takes no notice of the page, or does not say whether there is another."""
    bill.more = {"has_more": has_more}
    assert run("audit", "out").code == 0
    assert len(bill.asked) == 2


@pytest.mark.slow
def test_a_bill_that_is_not_read_to_its_end_tells_nothing(run: Run, bill: Bill, out: Path, first_page: Entries) -> None:
    repeat = bill.change
    bill.change = lambda items: [{**item, "uuid": f"{len(bill.asked)}-{n}"} for n, item in enumerate(repeat(items))]
    bill.more = {"has_more": True}
    done = run("audit", "out")
    assert (done.code, done.out) == (5, "")
