"""Submissions and results: fields as the API documents them, checks as it documents them, money for tasks alone."""

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


def test_the_request_of_the_ordered_page_is_accepted(call: Caller) -> None:
    data = call("POST", DEV, ORDERED).data
    assert re.fullmatch(r"[0-9a-f]{32}", data["id"]) and data["model"] == MODEL
    assert (data["status"], data["outputs"], data["has_nsfw_contents"], data["error"]) == ("created", [], [], "")
    assert data["urls"]["get"] == f"{call.sandbox.base_url}/api/v2/predictions/{data['id']}/result"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data["created_at"])
    assert call.sandbox.charges == [(data["id"], Decimal("0.015"))]


@pytest.mark.parametrize(("version", "path"), [("v2", DEV), ("v3", DEV3)])
def test_a_completed_task_shows_outputs_flags_and_time(make: Make, clock: FakeClock, version: str, path: str) -> None:
    call = make(clock=clock, service_time=(2.0, 2.0))
    task = call.submit(path, num_images=3)["id"]
    assert call.result(task, version)["status"] == "processing"
    assert call("GET", f"/outputs/{task}/1.png", key=None).status == 404
    clock.now += 2.5
    data = call.result(task, version)
    assert data["status"] == "completed" and len(data["outputs"]) == 3 and data["has_nsfw_contents"] == [False] * 3
    assert (data["executionTime"] if version == "v2" else data["timings"]["inference"]) == 2000
    assert call("GET", f"/api/{version}/predictions/{task}").data == data


WRONG = [
    ("v2", {"prompt": 5}, "prompt"), ("v2", {"strength": 1.1}, "strength"), ("v2", {"strength": "0.5"}, "strength"),
    ("v2", {"size": "256*512"}, "size"), ("v2", {"size": "1024x1024"}, "size"),
    ("v2", {"size": "1537*512"}, "size"), ("v2", {"size": ""}, "size"),
    ("v2", {"num_inference_steps": 0}, "num_inference_steps"),
    ("v2", {"num_inference_steps": 51}, "num_inference_steps"),
    ("v2", {"num_inference_steps": 2.5}, "num_inference_steps"),
    ("v2", {"num_inference_steps": True}, "num_inference_steps"),
    ("v2", {"guidance_scale": 10.5}, "guidance_scale"), ("v2", {"num_images": 5}, "num_images"),
    ("v2", {"num_images": 10**400}, "num_images"), ("v2", {"guidance_scale": float("1e400")}, "JSON"),
    ("v2", {"seed": 10_000_000_000}, "seed"), ("v2", {"loras": {}}, "loras"),
    ("v2", {"loras": [LORA] * 6}, "loras"), ("v2", {"loras": [{"path": "a/b"}]}, "scale"),
    ("v2", {"loras": [{"path": " ", "scale": 1}]}, "path"),
    ("v2", {"loras": [{"path": "a/b", "scale": 4.5}]}, "scale"),
    ("v2", {"enable_safety_checker": "yes"}, "enable_safety_checker"), ("v3", {"prompt": None}, "prompt"),
    ("v3", {"size": "255*512"}, "size"), ("v3", {"guidance_scale": 20.5}, "guidance_scale"),
    ("v3", {"seed": 2_147_483_648}, "seed"), ("v3", {"loras": [LORA] * 5}, "loras"),
    ("v3", {"output_format": "gif"}, "output_format"), ("v3", {"enable_sync_mode": 1}, "enable_sync_mode"),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Any:
    with Sandbox(service_time=0, small_pictures=True) as sandbox:
        yield Caller(sandbox)


@pytest.mark.parametrize(("version", "inputs", "name"), WRONG, ids=lambda value: str(value)[:40])
def test_a_parameter_out_of_its_documented_range_is_refused(
    shared: Caller, version: str, inputs: dict[str, Any], name: str
) -> None:
    before = len(shared.sandbox.charges)
    got = shared("POST", f"/api/{version}/{MODEL}", {"prompt": "x", **inputs})
    assert got.status == 400 and got.json["code"] == 400 and name in got.json["message"]
    assert len(shared.sandbox.charges) == before


RIGHT = [
    ("v2/wavespeed-ai/flux-dev-lora", {"seed": 9_999_999_999, "loras": [LORA] * 5, "prompt": ""}),
    ("v2/wavespeed-ai/flux-dev-lora", {"loras": [{"path": "https://huggingface.co/a/b", "scale": 0.25}], "image": ""}),
    ("v3/wavespeed-ai/flux-dev-lora", {"size": "256*1536", "guidance_scale": 20, "seed": 2_147_483_647}),
    ("v3/wavespeed-ai/flux-krea-dev-lora", {"output_format": "webp"}),
    ("v3/wavespeed-ai/flux-kontext-dev-lora", {"image": "https://example.com/a.png"}),
    ("v3/wavespeed-ai/flux-2-dev/edit-lora", {"images": ["https://example.com/a.png"] * 3}),
    ("v3/wavespeed-ai/z-image/turbo", {}),
    ("v2/wavespeed-ai/flux-schnell-lora", {"num_images": 2}),
    ("v2/wavespeed-ai/flux-dev-lora?webhook=https://example.com/hook", {}),
]


@pytest.mark.parametrize(("path", "inputs"), RIGHT, ids=lambda value: str(value)[:50])
def test_a_parameter_within_its_range_is_accepted(shared: Caller, path: str, inputs: dict[str, Any]) -> None:
    assert shared("POST", f"/api/{path}", {"prompt": "x", **inputs}).data["status"] == "created"


def test_undeclared_parameters_are_dropped_and_billed_or_refused(make: Make) -> None:
    schnell = "/api/v3/wavespeed-ai/flux-schnell-lora"
    dropping, refusing = make(), make(undeclared="refuse")
    dropping.submit(schnell, guidance_scale=99)
    assert "guidance_scale" not in dropping.sandbox.tasks[0].inputs
    assert dropping.sandbox.charges[0][1] == Decimal("0.005")
    refused = refusing("POST", schnell, {"prompt": "x", "guidance_scale": 3})
    assert refused.status == 400 and "guidance_scale" in refused.json["message"]
    assert refusing.sandbox.charges == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"seed":NaN}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_not_a_json_object_is_refused(shared: Caller, body: bytes) -> None:
    assert shared("POST", DEV, body).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/api/v2/x"), ("POST", "/api/v9/a/b"), ("PUT", DEV), ("GET", DEV), ("OPTIONS", DEV),
        ("POST", "/api/v3/wavespeed-ai/no-such-model"), ("POST", "/api/v3/billings/export"),
        ("POST", "/api/v3/user/anything"), ("POST", "/api/v3/predictions/cancel"), ("POST", "/predictions"),
        ("GET", f"/api/v3/predictions/{'0' * 32}/result"), ("GET", f"/outputs/{'0' * 32}/1.png"),
    ],
)  # fmt: skip
def test_what_the_service_does_not_have_is_404_and_costs_nothing(shared: Caller, method: str, path: str) -> None:
    before = len(shared.sandbox.charges)
    assert shared(method, path, {"prompt": "x"}).status == 404
    assert len(shared.sandbox.charges) == before


def test_any_key_but_none_is_taken_unless_it_has_one_of_its_own(make: Make) -> None:
    any_key, own_key = make(), make(api_key="secret")
    assert any_key("POST", DEV, {}, key="whatever").status == 200
    assert {any_key("POST", DEV, {}, key=key).status for key in (None, "", " ")} == {401}
    assert any_key("GET", "/api/v3/balance", key=None).status == 401
    assert own_key("POST", DEV, {}, key="other").status == 401
    assert own_key("POST", DEV, {}, key="secret").status == 200


@pytest.mark.parametrize("host", ["example.com", "evil.localhost.example", "127.0.0.1@evil", "10.0.0.1", "", "[::2]"])
def test_a_host_name_that_is_not_loopback_is_refused(shared: Caller, host: str) -> None:
    before = len(shared.sandbox.charges)
    assert shared("POST", DEV, {}, headers={"Host": host}).status == 421
    assert len(shared.sandbox.charges) == before


def test_outputs_need_no_key_come_twice_alike_and_in_ranges(call: Caller) -> None:
    url = call.result(call.submit()["id"])["outputs"][0]
    first, second = call("GET", url, key=None), call("GET", url, key=None)
    assert first.status == 200 and first.body == second.body
    assert call("HEAD", url, key=None).headers["Content-Length"] == str(len(first.body))
    rest = call("GET", url, key=None, headers={"Range": "bytes=1000-"})
    assert rest.status == 206 and rest.body == first.body[1000:]
    assert rest.headers["Content-Range"] == f"bytes 1000-{len(first.body) - 1}/{len(first.body)}"
    assert call("GET", url, key=None, headers={"Range": "bytes=9999999-"}).status == 416
    assert call("GET", url.replace("/1.", "/2."), key=None).status == 404


def test_base64_outputs_stand_bare_in_the_answer(call: Caller) -> None:
    task = call.submit(DEV3, enable_base64_output=True, output_format="png")
    (text,) = call.result(task["id"], "v3")["outputs"]
    assert base64.b64decode(text, validate=True).startswith(b"\x89PNG")
    assert call.post("/api/v3/predictions")["items"][0]["outputs"][0].startswith("http://")


def test_synchronous_mode_answers_a_completed_task(make: Make) -> None:
    assert make(service_time=0.05).submit(DEV3, enable_sync_mode=True)["status"] == "completed"


def test_flags_follow_the_prompt_and_the_rate(make: Make) -> None:
    call = make()
    assert call.result(call.submit(prompt="NSFW, a test", num_images=2)["id"])["has_nsfw_contents"] == [True, True]
    often = make(nsfw_rate=0.5, seed=3)
    flags = [often.result(often.submit(num_images=4)["id"])["has_nsfw_contents"] for _ in range(25)]
    assert 30 <= sum(map(sum, flags)) <= 70


def test_the_catalogue_has_the_services_shape_and_every_model_of_it_runs(shared: Caller) -> None:
    models = shared("GET", "/api/v3/models").data
    assert len(models) >= 20 and {"lora-support", "text-to-image"} <= {model["type"] for model in models}
    for model in models:
        (api,) = model["api_schema"]["api_schemas"]
        schema = api["request_schema"]
        assert set(schema["x-order-properties"]) == set(schema["properties"]) >= set(schema["required"])
        examples = {"prompt": "x", "image": "https://example.com/a", "images": ["https://example.com/a"]}
        before = len(shared.sandbox.charges)
        shared.post(api["api_path"], **{name: examples[name] for name in schema["required"]})
        assert shared.sandbox.charges[before:][0][1] == Decimal(str(model["base_price"]))


# ---- uploads ----------------------------------------------------------------------------------

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC")


def test_an_upload_by_ticket_comes_back_and_starts_an_image(call: Caller) -> None:
    data = call.post("/api/v3/media/uploads", filename="../a b.png", size=len(PNG), content_type="image/png")
    assert data["upload"]["method"] == "PUT" and ".." not in data["download_url"].rpartition("/")[2].strip(".")
    assert call("GET", data["download_url"], key=None).status == 404
    assert call("PUT", data["upload"]["url"], PNG + b"x", key=None).status in (400, 413)
    assert call("PUT", data["upload"]["url"], PNG[:-1], key=None).status == 400
    assert call("PUT", data["upload"]["url"], PNG, key=None).status == 200
    assert call("GET", data["download_url"], key=None).body == PNG
    assert call.result(call.submit(image=data["download_url"])["id"])["status"] == "completed"
    assert len(call.sandbox.charges) == 1


def test_the_older_upload_takes_a_form(call: Caller) -> None:
    form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\nContent-Type: image/png\r\n\r\n'
    body, headers = form + PNG + b"\r\n--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}
    data = call("POST", "/api/v3/media/upload/binary", body, headers=headers).data
    assert (data["filename"], data["size"], data["type"]) == ("x.png", len(PNG), "image")
    got = call("GET", data["download_url"], key=None)
    assert got.body == PNG and got.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    "image", ["no base64", "data:image/png;base64,AAAA", "data:image/png", f"BASE/uploads/{'0' * 32}"]
)
def test_an_image_that_cannot_be_used_fails_the_task_which_is_refunded(call: Caller, image: str) -> None:
    data = call.result(call.submit(image=image.replace("BASE", call.sandbox.base_url))["id"])
    assert data["status"] == "failed" and data["code"] == 1402 and data["error"] and data["outputs"] == []
    assert call.sandbox.refunds == call.sandbox.charges


# ---- the list ---------------------------------------------------------------------------------


def test_the_list_is_newest_first_in_pages(call: Caller) -> None:
    ids = [call.submit(seed=seed)["id"] for seed in range(5)]
    pages = [call.post("/api/v3/predictions", page=page, page_size=2)["items"] for page in (1, 2, 3, 4)]
    assert [[item["id"] for item in page] for page in pages] == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]], []]


def test_inputs_are_echoed_on_demand_as_sent(call: Caller) -> None:
    image = "data:image/png;base64," + base64.b64encode(PNG + b"A" * 100_000).decode()
    inputs = {"prompt": "ein Bär 🐻 \ud800", "seed": 7, "loras": [{"path": "a/b", "scale": 0.5}], "image": image}
    call("POST", DEV, json.dumps(inputs).encode())
    assert call.post("/api/v3/predictions", include_inputs=True)["items"][0]["inputs"] == inputs
    assert "inputs" not in call.post("/api/v3/predictions")["items"][0]


def test_the_list_is_narrowed_by_model_status_and_time(make: Make, clock: FakeClock) -> None:
    call = make(clock=clock, service_time=5, concurrency=1)
    first = call.submit()
    clock.now += 6
    second, third = call.submit(DEV3)["id"], call.submit("/api/v3/wavespeed-ai/flux-schnell-lora")["id"]

    def found(**wanted: Any) -> list[str]:
        return [item["id"] for item in call.post("/api/v3/predictions", **wanted)["items"]]

    assert [found(status=status) for status in ("completed", "processing", "created", "failed")] == [
        [first["id"]], [second], [third], [],
    ]  # fmt: skip
    assert found(model=MODEL) == [second, first["id"]]
    assert found(created_before=first["created_at"]) == [first["id"]]
    assert found(created_after="2027-01-15T08:00:05+00:00") == [third, second]
    assert found(created_after="2027-01-15T08:00:05.123456789Z") == [third, second]


def test_deleted_predictions_are_gone_but_stay_charged(call: Caller) -> None:
    one, two = call.submit()["id"], call.submit()["id"]
    assert call("DELETE", f"/api/v3/predictions/{one}").data == {"deleted": 1}
    assert call.post("/api/v3/predictions/delete", ids=[two, "nobody"]) == {"deleted": 1}
    assert {call("GET", f"/api/v3/predictions/{task}/result").status for task in (one, two)} == {404}
    assert call.post("/api/v3/predictions")["items"] == []
    assert [task for task, _ in call.sandbox.charges] == [one, two]
