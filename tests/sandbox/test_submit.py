"""Submissions, results, uploads and the list, as real clients use them."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.sandbox.conftest import DEV, DEV3, MODEL, Caller, FakeClock, Make

LORA = {"path": "davanstrien/nasa_concept_art-flux-lora", "scale": 1}
ORDERED = {
    "prompt": "A beautiful landscape with mountains and a lake", "image": "https://example.com/input_image.jpg",
    "strength": 0.6, "size": "1024*1024", "num_inference_steps": 28, "guidance_scale": 5.0, "num_images": 1, "seed": -1,
    "loras": [LORA], "enable_safety_checker": True,
}  # fmt: skip
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC")


def test_the_request_of_the_ordered_page_is_accepted(call: Caller) -> None:
    data = call("POST", DEV, ORDERED).data
    assert re.fullmatch(r"[0-9a-f]{32}", data["id"]) and data["model"] == MODEL
    assert (data["status"], data["outputs"], data["has_nsfw_contents"], data["error"]) == ("created", [], [], "")
    assert data["urls"]["get"] == f"{call.sandbox.base_url}/api/v2/predictions/{data['id']}/result"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data["created_at"])
    assert call.sandbox.charges == [(data["id"], Decimal("0.015"))]


@pytest.mark.parametrize(("version", "path"), [("v2", DEV), ("v3", DEV3)])
def test_a_completed_task_shows_outputs_flags_and_time(make: Make, clock: FakeClock, version: str, path: str) -> None:
    call = make(clock=clock, service_time=2.0)
    task = call.submit(path, num_images=3)
    assert call.result(task, version)["status"] == "processing"
    assert call("GET", f"/outputs/{task}/1.png", key=None).status == 404
    clock.now += 2.5
    data = call.result(task, version)
    assert data["status"] == "completed" and len(data["outputs"]) == 3 and data["has_nsfw_contents"] == [False] * 3
    assert (data["executionTime"] if version == "v2" else data["timings"]["inference"]) == 2000
    assert call("GET", f"/api/{version}/predictions/{task}").data == data


@pytest.fixture(scope="module")
def shared() -> Any:
    with Sandbox(service_time=0) as sandbox:
        yield Caller(sandbox)


@pytest.mark.parametrize(
    ("version", "inputs", "named"),
    [
        ("v2", {"prompt": 5}, "prompt"), ("v2", {"size": "256*512"}, "size"), ("v2", {"size": "1024x1024"}, "size"),
        ("v2", {"num_inference_steps": 2.5}, "num_inference_steps"), ("v2", {"guidance_scale": 10.5}, "guidance"),
        ("v2", {"loras": [LORA] * 6}, "loras"), ("v2", {"loras": [{"path": "a/b"}]}, "scale"),
        ("v3", {"prompt": None}, "prompt"), ("v3", {"loras": [LORA] * 5}, "loras"),
        ("v3", {"output_format": "gif"}, "output_format"),
    ],
)  # fmt: skip
def test_a_parameter_out_of_its_documented_range_is_refused(
    shared: Caller, version: str, inputs: dict[str, Any], named: str
) -> None:
    before = len(shared.sandbox.charges)
    got = shared("POST", f"/api/{version}/{MODEL}", {"prompt": "x", **inputs})
    assert got.status == got.json["code"] == 400 and named in got.json["message"]
    assert len(shared.sandbox.charges) == before


@pytest.mark.parametrize("body", [b"", b"[]", b'{"seed":NaN}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_not_a_json_object_is_refused(shared: Caller, body: bytes) -> None:
    assert shared("POST", DEV, body).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("POST", "/api/v9/a/b"), ("PUT", DEV), ("GET", DEV), ("POST", "/api/v3/wavespeed-ai/none"),
        ("POST", "/api/v3/billings/export"), ("POST", "/api/v3/user/usage_stats"), ("POST", "/predictions"),
        ("GET", f"/api/v3/predictions/{'0' * 32}/result"), ("GET", f"/outputs/{'0' * 32}/1.png"),
    ],
)  # fmt: skip
def test_what_the_service_does_not_have_is_404_and_costs_nothing(shared: Caller, method: str, path: str) -> None:
    before = len(shared.sandbox.charges)
    assert shared(method, path, {"prompt": "x"}).status == 404
    assert len(shared.sandbox.charges) == before


@pytest.mark.parametrize("host", ["evil.localhost.example", "127.0.0.1@evil", "10.0.0.1", ""])
def test_a_host_name_that_is_not_loopback_is_refused(shared: Caller, host: str) -> None:
    before = len(shared.sandbox.charges)
    assert shared("POST", DEV, {}, Host=host).status == 421
    assert len(shared.sandbox.charges) == before


def test_outputs_need_no_key_come_twice_alike_and_in_ranges(call: Caller) -> None:
    url = call.result(call.submit())["outputs"][0]
    first, second = call("GET", url, key=None), call("GET", url, key=None)
    assert first.status == 200 and first.body == second.body
    assert call("HEAD", url, key=None).headers["Content-Length"] == str(len(first.body))
    rest = call("GET", url, key=None, Range="bytes=1000-")
    assert rest.status == 206 and rest.body == first.body[1000:]
    assert rest.headers["Content-Range"] == f"bytes 1000-{len(first.body) - 1}/{len(first.body)}"
    assert call("GET", url, key=None, Range="bytes=9999999-").status == 416
    assert call("GET", url.replace("/1.", "/2."), key=None).status == 404


def test_base64_outputs_synchronous_mode_and_flags(make: Make) -> None:
    call = make(nsfw_rate=0.5, seed=3, service_time=0.02)
    data = call.post(DEV3, prompt="x", enable_sync_mode=True, enable_base64_output=True, output_format="png")
    assert data["status"] == "completed" and base64.b64decode(data["outputs"][0]).startswith(b"\x89PNG")
    flags = [call.post(DEV3, prompt="x", num_images=4, enable_sync_mode=True)["has_nsfw_contents"] for _ in range(25)]
    assert 30 <= sum(map(sum, flags)) <= 70
    assert call.post(DEV3, prompt="NSFW, a test", enable_sync_mode=True)["has_nsfw_contents"] == [True]


def test_the_catalogue_has_the_services_shape_and_every_model_of_it_runs(shared: Caller) -> None:
    models = shared("GET", "/api/v3/models").data
    assert len(models) >= 20 and {"lora-support", "text-to-image"} <= {model["type"] for model in models}
    examples = {"prompt": "x", "image": "https://example.com/a", "images": ["https://example.com/a"]}
    for model in models:
        (api,) = model["api_schema"]["api_schemas"]
        schema = api["request_schema"]
        assert set(schema["x-order-properties"]) == set(schema["properties"]) >= set(schema["required"])
        task = shared.post(api["api_path"], **{name: examples[name] for name in schema["required"]})["id"]
        assert shared.bill(prediction_uuids=[task]) == [(task, "deduct", model["base_price"])]


def test_an_upload_by_ticket_comes_back_and_starts_an_image(call: Caller) -> None:
    data = call.post("/api/v3/media/uploads", filename="../a b.png", size=len(PNG), content_type="image/png")
    url, put = data["download_url"], data["upload"]["url"]
    assert data["upload"]["method"] == "PUT" and ".." not in url.rpartition("/")[2].strip(".")
    assert call("GET", url, key=None).status == 404
    assert call("PUT", put, PNG + b"x", key=None).status in (400, 413)
    assert call("PUT", put, PNG[:-1], key=None).status == 400
    assert call("PUT", put, PNG, key=None).status == 200
    assert call("GET", url, key=None).body == PNG
    assert call.result(call.submit(image=url))["status"] == "completed"


@pytest.mark.parametrize(
    "image", ["no base64", "data:image/png;base64,AAAA", "data:image/png", f"BASE/uploads/{'0' * 32}"]
)
def test_an_image_that_cannot_be_used_fails_the_task_which_is_refunded(call: Caller, image: str) -> None:
    data = call.result(call.submit(image=image.replace("BASE", call.sandbox.base_url)))
    assert data["status"] == "failed" and data["code"] == 1402 and data["error"] and data["outputs"] == []
    assert call.sandbox.refunds == call.sandbox.charges


def test_the_list_is_newest_first_in_pages_and_echoes_inputs_on_demand(call: Caller) -> None:
    image = "data:image/png;base64," + base64.b64encode(PNG + b"A" * 100_000).decode()
    inputs = {"prompt": "ein Bär 🐻 \ud800", "seed": 7, "loras": [{"path": "a/b", "scale": 0.5}], "image": image}
    ids = [call.submit(seed=seed) for seed in range(4)] + [call("POST", DEV, json.dumps(inputs).encode()).data["id"]]
    pages = [call.listed(page=page, page_size=2) for page in (1, 2, 3, 4)]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]], []]
    assert call.post("/api/v3/predictions", include_inputs=True)["items"][0]["inputs"] == inputs
    assert "inputs" not in call.post("/api/v3/predictions")["items"][0]


def test_the_list_is_narrowed_by_model_status_and_time(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=5, concurrency=1)
    first = call.submit()
    clock.now += 6
    second, third = call.submit(DEV3), call.submit("/api/v3/wavespeed-ai/flux-schnell-lora")
    for wanted, found in (
        ({"status": "completed"}, [first]), ({"status": "processing"}, [second]), ({"status": "created"}, [third]),
        ({"model": MODEL}, [second, first]), ({"created_before": "2027-01-15T08:00:00Z"}, [first]),
        ({"created_after": "2027-01-15T08:00:05.123456789Z"}, [third, second]),
    ):  # fmt: skip
        assert call.listed(**wanted) == found
