"""Prices, the balance, and what is counted."""

from __future__ import annotations

from decimal import Decimal

from tests.sandbox.conftest import DEV, Caller, Make

NAME = "wavespeed-ai/flux-dev-lora"


def test_the_price_is_that_of_the_whole_request(call: Caller) -> None:
    wanted = {"model_id": NAME, "inputs": {"prompt": "x", "num_images": 3}}
    data = call("POST", "/api/v3/model/price", wanted).data
    assert data["price"] == 0.045 and data["currency"] == "USD"
    assert call("POST", "/api/v3/model/pricing", wanted).data == {
        "model_id": NAME,
        "unit_price": 0.045,
        "currency": "USD",
    }


def test_a_price_for_nothing_is_refused(call: Caller) -> None:
    assert call("POST", "/api/v3/model/price", {"inputs": {}}).status == 400
    assert call("POST", "/api/v3/model/price", {"model_id": NAME, "inputs": []}).status == 400
    assert call("POST", "/api/v3/model/price", {"model_id": NAME, "inputs": {"num_images": 9}}).status == 400


def test_every_image_is_charged_until_the_credit_is_out(make: Make) -> None:
    call = make(balance=Decimal("0.10"), price_per_image=Decimal("0.03"))
    call.submit(num_images=2)
    assert call("GET", "/api/v3/balance").data["balance"] == 0.04
    refused = call("POST", DEV, {"num_images": 2})
    assert refused.status == 400
    assert refused.json == {"code": 400, "message": "Insufficient credits. Please top up."}
    call.submit()
    assert call("GET", "/api/v3/balance").data["balance"] == 0.01
    assert call.sandbox.stats()["charged_usd"] == "0.09"


def test_a_refused_request_costs_nothing(make: Make) -> None:
    call = make(balance=Decimal(1))
    assert call("POST", DEV, {"seed": "x"}).status == 400
    assert call("GET", "/api/v3/balance").data["balance"] == 1.0


def test_stats_count_by_kind_and_need_no_key(call: Caller) -> None:
    task = call.submit(num_images=2)["id"]
    call("POST", DEV, {"seed": "x"})
    url = call.look(task)["outputs"][0]
    call("GET", url, key=None)
    call("GET", url, key="leaked")
    call("POST", "/api/v3/predictions", {})
    call("GET", "/api/v3/balance")
    stats = call("GET", "/sandbox/stats", key=None).json
    counted = ("submits_received", "accepted", "charged_tasks", "charged_images", "looks", "downloads", "lists")
    assert [stats[name] for name in counted] == [2, 1, 1, 2, 1, 2, 1]
    assert stats["balances"] == 1 and stats["keyed_downloads"] == 1
    assert stats["charged_usd"] == "0.03"
    assert sum(stats["requests_by_second"].values()) == stats["requests"] == 7
    assert stats == call.sandbox.stats()
