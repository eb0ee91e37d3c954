"""Prices, the balance, the bill; and what limits mean: rate, queue, age. All by a clock that tests move."""

from __future__ import annotations

from decimal import Decimal

from tests.sandbox.conftest import DEV, MODEL, FakeClock, Make


def test_every_image_is_charged_until_the_credit_is_out(make: Make) -> None:
    call = make(balance=Decimal("0.10"), price_per_image=Decimal("0.03"))
    call.submit(num_images=2)
    assert call("GET", "/api/v3/balance").data["balance"] == 0.04
    refused = call("POST", DEV, {"num_images": 2})
    assert (refused.status, refused.json["code"]) == (400, 400) and "Insufficient credits" in refused.json["message"]
    call.submit()
    assert call("GET", "/api/v3/balance").data["balance"] == 0.01
    assert sum(price for _, price in call.sandbox.charges) == Decimal("0.09")


def test_the_bill_names_each_charge_and_refund(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=5, faults=["submit:failed=1200:every=2"])
    one = call.submit(num_images=2)
    clock.now += 10
    two = call.submit()
    assert call.bill() == [(two, "deduct", 0.015), (one, "deduct", 0.03)]
    assert call.bill(model_uuid=MODEL, billing_type="refund") == []
    clock.now += 10
    assert call.bill() == [(two, "refund", 0.015), (two, "deduct", 0.015), (one, "deduct", 0.03)]
    assert call.bill(prediction_uuids=[one, "nobody"]) == [(one, "deduct", 0.03)]
    assert call.bill(prediction_uuids=[]) == []
    assert call.bill(start_time="2027-01-15T08:00:05Z", billing_type="deduct") == [(two, "deduct", 0.015)]
    assert call.bill(end_time="2027-01-15T08:00:05Z") == [(one, "deduct", 0.03)]
    pages = [call.post("/api/v3/billings/search", page=page, page_size=2) for page in (1, 2)]
    assert [(len(page["items"]), page["has_more"]) for page in pages] == [(2, True), (1, False)]
    item = pages[0]["items"][0]
    assert item["prediction"] == {"uuid": two, "model_uuid": MODEL, "status": "failed"}
    assert item["created_at"] == "2027-01-15T08:00:15.000Z" and item["uuid"] != pages[0]["items"][1]["uuid"]
    assert call("POST", "/api/v3/billings/search", {"prediction_uuids": ["x"] * 101}).status == 400


def test_more_than_the_service_takes_at_once_queue(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=2, concurrency=2)
    ids = [call.submit() for _ in range(5)]
    seen = []
    for _ in range(4):
        states = [call.result(task)["status"] for task in ids]
        seen.append([states.count(state) for state in ("created", "processing", "completed")])
        clock.now += 2
    assert seen == [[3, 2, 0], [1, 2, 2], [0, 1, 4], [0, 0, 5]]
    assert call.result(ids[4])["executionTime"] == 2000  # without its time in the queue


def test_the_rate_counts_images_and_says_when_to_come_back(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, rate=6.0)
    for _ in range(3):
        call.submit(num_images=2)
    refused = call("POST", DEV, {})
    assert (refused.status, refused.json["code"], refused.headers["Retry-After"]) == (429, 429, "10")
    clock.now += 9
    assert call("POST", DEV, {}).status == 429
    clock.now += 1
    assert [call("POST", DEV, {}).status for _ in range(2)] == [200, 429]
    assert len(call.sandbox.charges) == 4
    assert make(clock=clock, rate=2.0).submit(num_images=4)  # a rate below one request
