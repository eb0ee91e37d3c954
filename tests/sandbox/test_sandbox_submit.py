"""Submitting and looking: fields as the API documents them, checks as it documents them."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from tests.sandbox.conftest import DEV, DEV3, Caller, FakeClock, Make

LORA = {"path": "davanstrien/nasa_concept_art-flux-lora", "scale": 1}
ORDERED = {
    "prompt": "A beautiful landscape with mountains and a lake",
    "image": "https://example.com/input_image.jpg",
    "strength": 0.6,
    "size": "1024*1024",
    "num_inference_steps": 28,
    "guidance_scale": 5.0,
    "num_images": 1,
    "seed": -1,
    "loras": [LORA],
    "enable_safety_checker": True,
}


def test_the_request_of_the_ordered_page_is_accepted(call: Caller) -> None:
    data = call("POST", DEV, ORDERED).data
    assert re.fullmatch(r"[0-9a-f]{32}", data["id"])
    assert data["model"] == "wavespeed-ai/flux-dev-lora"
    assert data["status"] == "created"
    assert data["outputs"] == [] and data["has_nsfw_contents"] == []
    assert data["error"] == ""
    assert data["urls"]["get"] == f"{call.sandbox.base_url}/api/v2/predictions/{data['id']}/result"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data["created_at"])


@pytest.mark.parametrize(("version", "path"), [("v2", DEV), ("v3", DEV3)])
def test_a_completed_task_shows_outputs_flags_and_time(make: Make, clock: FakeClock, version: str, path: str) -> None:
    call = make(clock=clock, service_time=(2.0, 2.0))
    task = call.submit(path, num_images=3)
    clock.now += 2.5
    data = call.look(task["id"], version)
    assert data["status"] == "completed"
    assert len(data["outputs"]) == 3 and data["has_nsfw_contents"] == [False] * 3
    time = data["executionTime"] if version == "v2" else data["timings"]["inference"]
    assert time == 2000
    assert call("GET", f"/api/{version}/predictions/{task['id']}").data == data
    assert call("GET", f"/predictions/{task['id']}").data["id"] == task["id"]


def test_an_unknown_task_is_404(call: Caller) -> None:
    got = call("GET", "/api/v2/predictions/" + "0" * 32 + "/result")
    assert got.status == 404 and got.json["code"] == 404


WRONG = [
    ("v2", {"prompt": 5}, "prompt"),
    ("v2", {"strength": 1.1}, "strength"),
    ("v2", {"strength": "0.5"}, "strength"),
    ("v2", {"size": "256*512"}, "size"),
    ("v2", {"size": "1024x1024"}, "size"),
    ("v2", {"size": "1537*512"}, "size"),
    ("v2", {"num_inference_steps": 0}, "num_inference_steps"),
    ("v2", {"num_inference_steps": 51}, "num_inference_steps"),
    ("v2", {"num_inference_steps": 2.5}, "num_inference_steps"),
    ("v2", {"num_inference_steps": True}, "num_inference_steps"),
    ("v2", {"guidance_scale": 10.5}, "guidance_scale"),
    ("v2", {"num_images": 0}, "num_images"),
    ("v2", {"num_images": 5}, "num_images"),
    ("v2", {"seed": -2}, "seed"),
    ("v2", {"seed": 10_000_000_000}, "seed"),
    ("v2", {"loras": {}}, "loras"),
    ("v2", {"loras": [LORA] * 6}, "loras"),
    ("v2", {"loras": [{"path": "a/b"}]}, "scale"),
    ("v2", {"loras": [{"scale": 1}]}, "path"),
    ("v2", {"loras": [{"path": "a/b", "scale": 4.5}]}, "scale"),
    ("v2", {"enable_safety_checker": "yes"}, "enable_safety_checker"),
    ("v3", {"size": "255*512"}, "size"),
    ("v3", {"guidance_scale": 20.5}, "guidance_scale"),
    ("v3", {"seed": 2_147_483_648}, "seed"),
    ("v3", {"output_format": "gif"}, "output_format"),
    ("v3", {"enable_sync_mode": 1}, "enable_sync_mode"),
]


@pytest.mark.parametrize(("version", "inputs", "name"), WRONG, ids=lambda value: str(value)[:40])
def test_a_parameter_out_of_its_documented_range_is_refused(
    call: Caller, version: str, inputs: dict[str, Any], name: str
) -> None:
    got = call("POST", f"/api/{version}/wavespeed-ai/flux-dev-lora", inputs)
    assert got.status == 400 and got.json["code"] == 400
    assert name in got.json["message"]
    assert call.sandbox.stats()["charged_tasks"] == 0


RIGHT = [
    ("v2/wavespeed-ai/flux-dev-lora", {"seed": 9_999_999_999, "loras": [LORA] * 5, "num_inference_steps": 50}),
    ("v2/wavespeed-ai/flux-schnell-lora", {"num_inference_steps": 8}),
    ("v2/wavespeed-ai/flux-dev-lora", {"loras": [{"path": "https://huggingface.co/a/b", "scale": 0.25}]}),
    ("v3/wavespeed-ai/flux-dev-lora", {"size": "256*1536", "guidance_scale": 20, "seed": 2_147_483_647}),
    ("v3/wavespeed-ai/flux-krea-dev-lora", {"output_format": "webp"}),
    ("v3/wavespeed-ai/z-image/turbo", {"prompt": "a model of another family"}),
    ("v2/wavespeed-ai/flux-dev-lora?webhook=https://example.com/hook", {}),
]


@pytest.mark.parametrize(("path", "inputs"), RIGHT, ids=lambda value: str(value)[:50])
def test_a_parameter_within_its_range_is_accepted(call: Caller, path: str, inputs: dict[str, Any]) -> None:
    assert call("POST", f"/api/{path}", inputs).data["status"] == "created"


def test_schnell_takes_fewer_steps(call: Caller) -> None:
    assert call("POST", "/api/v2/wavespeed-ai/flux-schnell-lora", {"num_inference_steps": 9}).status == 400


def test_unknown_keys_are_ignored_and_billed(call: Caller) -> None:
    call.submit(prmopt="typo")
    assert call.sandbox.stats()["charged_usd"] == "0.015"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"seed":NaN}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(call: Caller, body: bytes) -> None:
    assert call("POST", DEV, body).status == 400


def test_any_key_but_none_is_taken(call: Caller) -> None:
    assert call("POST", DEV, {}, key="whatever").status == 200
    assert call("POST", DEV, {}, key=None).status == 401
    assert call("POST", DEV, {}, key="").status == 401
    assert call("GET", "/api/v3/balance", key=None).status == 401


def test_with_a_key_of_its_own_only_that_one_is_taken(make: Make) -> None:
    call = make(api_key="secret")
    assert call("POST", DEV, {}, key="other").status == 401
    assert call("POST", DEV, {}, key="secret").status == 200


def test_outputs_need_no_key_and_come_twice_alike(call: Caller) -> None:
    url = call.look(call.submit()["id"])["outputs"][0]
    first, second = call("GET", url, key=None), call("GET", url, key=None)
    assert first.status == 200 and first.body == second.body
    assert int(first.headers["Content-Length"]) == len(first.body)
    assert call("HEAD", url, key=None).headers["Content-Length"] == first.headers["Content-Length"]


def test_an_output_is_not_there_before_its_task_is_done(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=(5.0, 5.0))
    task = call.submit()["id"]
    assert call("GET", f"/outputs/{task}/1.png", key=None).status == 404
    clock.now += 5
    assert call("GET", f"/outputs/{task}/1.png", key=None).status == 200
    assert call("GET", f"/outputs/{task}/2.png", key=None).status == 404


def test_base64_outputs_stand_in_the_answer(make: Make) -> None:
    call = make(pictures="scene")
    task = call.submit(DEV3, enable_base64_output=True, output_format="png")
    head, _, text = call.look(task["id"], "v3")["outputs"][0].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(text).startswith(b"\x89PNG")


def test_synchronous_mode_answers_a_completed_task(make: Make) -> None:
    call = make(service_time=(0.05, 0.05))
    assert call.submit(DEV3, enable_sync_mode=True)["status"] == "completed"


def test_flags_follow_the_prompt_and_the_rate(make: Make) -> None:
    call = make()
    assert call.look(call.submit(prompt="nsfw, as a test", num_images=2)["id"])["has_nsfw_contents"] == [True, True]
    often = make(nsfw_rate=0.5, seed=3)
    flags = [often.look(often.submit(num_images=4)["id"])["has_nsfw_contents"] for _ in range(25)]
    assert 30 <= sum(map(sum, flags)) <= 70


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/api/v2/x"), ("POST", "/api/v9/a/b"), ("PUT", DEV), ("GET", DEV)]
)
def test_what_the_service_does_not_have_is_404(call: Caller, method: str, path: str) -> None:
    assert call(method, path, {}).status == 404
