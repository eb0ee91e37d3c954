"""The list of predictions, and deleting from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.conftest import DEV, DEV3, Caller, FakeClock, Make


def _list(call: Caller, **wanted: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = call("POST", "/api/v3/predictions", wanted).data["items"]
    return items


def test_newest_first_in_pages(call: Caller) -> None:
    ids = [call.submit(seed=seed)["id"] for seed in range(5)]
    pages = [[item["id"] for item in _list(call, page=page, page_size=2)] for page in (1, 2, 3, 4)]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]], []]
    assert call("POST", "/api/v3/predictions", {"page": 2}).data["page"] == 2


def test_inputs_are_echoed_on_demand_exactly_as_sent(call: Caller) -> None:
    inputs = {"prompt": "ein Bär 🐻 \ud800", "seed": 7, "loras": [{"path": "a/b", "scale": 0.5}], "extra": None}
    call("POST", DEV, json.dumps(inputs).encode())
    assert _list(call, include_inputs=True)[0]["inputs"] == inputs
    assert "inputs" not in _list(call)[0]


def test_large_inline_images_are_kept_once_and_echoed_whole(make: Make, tmp_path: Path) -> None:
    call = make(state=tmp_path / "state")
    image = "data:image/png;base64," + "iVBORw0KGgo" + "A" * 1_000_001
    for seed in range(10):
        call.submit(image=image, seed=seed)
    items = _list(call, include_inputs=True)
    assert [item["inputs"]["seed"] for item in items] == list(range(9, -1, -1))
    assert all(item["inputs"]["image"] == image for item in items)
    call.sandbox.stop()
    assert (tmp_path / "state").stat().st_size < 2_500_000


def test_filters_by_model_status_and_time(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=(5.0, 5.0), concurrency=1)
    first = call.submit()
    clock.now += 6
    second = call.submit(DEV3)
    third = call.submit("/api/v2/wavespeed-ai/flux-schnell-lora")

    def found(**wanted: Any) -> list[str]:
        return [item["id"] for item in _list(call, **wanted)]

    assert found(status="completed") == [first["id"]]
    assert found(status="processing") == [second["id"]]
    assert found(status="created") == [third["id"]]
    assert found(status="failed") == []
    assert found(model="wavespeed-ai/flux-dev-lora") == [second["id"], first["id"]]
    assert found(created_before=first["created_at"]) == [first["id"]]
    assert found(created_after="2027-01-15T08:00:05+00:00") == [third["id"], second["id"]]
    assert found(created_after="2027-01-15T08:00:05.1234567Z") == [third["id"], second["id"]]


@pytest.mark.parametrize(
    "wanted",
    [{"page": 0}, {"page_size": 101}, {"page_size": "5"}, {"created_after": "yesterday"}, {"model": 5}],
    ids=str,
)
def test_a_wrong_field_is_refused(call: Caller, wanted: dict[str, Any]) -> None:
    assert call("POST", "/api/v3/predictions", wanted).status == 400


def test_deleted_predictions_are_gone_but_stay_charged(call: Caller) -> None:
    task = call.submit()["id"]
    call("POST", "/api/v3/predictions/delete", {"ids": [task]}).data  # noqa: B018 - asserts the status
    assert call("GET", f"/api/v3/predictions/{task}/result").status == 404
    assert _list(call) == []
    assert call.sandbox.stats()["charged_tasks"] == 1


def test_the_catalogue_names_models_with_their_schemas(call: Caller) -> None:
    models = {model["model_id"]: model for model in call("GET", "/api/v3/models").data}
    schema = models["wavespeed-ai/flux-dev-lora"]["api_schema"]["api_schemas"][0]["request_schema"]
    assert schema["properties"]["num_inference_steps"]["maximum"] == 50
    assert schema["properties"]["loras"]["maxItems"] == 5
