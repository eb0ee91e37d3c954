"""The client as the commands use it; the service's tables are served by ``responses``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from flux_lora_cli import errors
from flux_lora_cli.adapters.client import Client, check_host, connect, load_key
from flux_lora_cli.adapters.clock import SystemClock

BASE = "https://api.wavespeed.ai"
MODEL = "wavespeed-ai/flux-dev-lora"


@pytest.fixture
def service() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def a_client(version: Any = "v2", **options: Any) -> Client:
    return connect(key="canary-key", clock=SystemClock(), version=version, **options)


def envelope(**data: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": data}


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_submit_and_result(service: responses.RequestsMock, version: str) -> None:
    service.post(f"{BASE}/api/{version}/{MODEL}", json=envelope(id="t1", status="created"))
    get = {"get": "https://evil.example/"}
    service.get(
        f"{BASE}/api/{version}/predictions/t1/result",
        json=envelope(id="t1", status="completed", outputs=["https://cdn/x"], urls=get),
    )
    client = a_client(version)
    assert client.submit(MODEL, {"prompt": "ä", "loras": [{"path": "a/b", "scale": 1}]}).id == "t1"
    assert client.result("t1").outputs == ("https://cdn/x",)
    sent = service.calls[0].request
    assert json.loads(sent.body or b"") == {"prompt": "ä", "loras": [{"path": "a/b", "scale": 1}]}
    assert sent.headers["Authorization"] == "Bearer canary-key"
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["User-Agent"].startswith("flux-lora/")
    assert sent.headers["X-Client-Name"] == "flux-lora"


STATUS_TABLE = [
    ({"status": 401}, errors.KeyRefused),
    ({"status": 403, "json": {"code": 403, "message": "role"}}, errors.KeyRefused),
    ({"status": 402}, errors.OutOfCredit),
    ({"status": 400, "json": {"code": 400, "message": "Insufficient credits. Please top up."}}, errors.OutOfCredit),
    ({"status": 400, "json": {"code": 400, "message": "size"}}, errors.Rejected),
    ({"status": 404}, errors.Rejected),
    ({"status": 422}, errors.Rejected),
    ({"status": 429, "headers": {"Retry-After": "5"}}, errors.RateLimited),
    ({"status": 302, "headers": {"Location": "https://login.example/"}}, errors.Redirected),
    ({"status": 408}, errors.Uncertain),
    ({"status": 500}, errors.Uncertain),
    ({"status": 502, "body": "<html>"}, errors.Uncertain),
    ({"status": 503}, errors.Uncertain),
    ({"status": 504}, errors.Uncertain),
    ({"status": 200, "body": "<html>"}, errors.BadAnswer),
    ({"status": 200, "json": {"code": 200, "data": {}}}, errors.BadAnswer),
    ({"status": 200, "json": {"code": 503, "message": "busy"}}, errors.Uncertain),
    ({"body": requests.ConnectionError("reset")}, errors.Uncertain),
    ({"body": requests.ReadTimeout("late")}, errors.Uncertain),
    ({"body": requests.ConnectTimeout("late")}, errors.NeverSent),
    ({"body": requests.exceptions.SSLError("bad")}, errors.InsecureConnection),
]


@pytest.mark.parametrize(("reply", "expected"), STATUS_TABLE)
def test_each_status_of_a_submit_means_one_thing_and_is_asked_once(
    service: responses.RequestsMock, reply: dict[str, Any], expected: type[errors.FluxLoraError]
) -> None:
    service.post(f"{BASE}/api/v2/{MODEL}", **reply)
    with pytest.raises(errors.FluxLoraError) as caught:
        a_client().submit(MODEL, {"prompt": "x"})
    assert type(caught.value) is expected
    assert len(service.calls) == 1
    if expected is errors.RateLimited:
        assert caught.value.retry_after == 5  # type: ignore[attr-defined]


def test_the_price_of_the_whole_request(service: responses.RequestsMock) -> None:
    service.post(f"{BASE}/api/v3/model/price", body='{"code":200,"data":{"price":0.03}}')
    assert a_client().price(MODEL, {"num_images": 2}) == Decimal("0.03")
    assert json.loads(service.calls[0].request.body or b"") == {"model_id": MODEL, "inputs": {"num_images": 2}}


def test_the_older_price_is_by_the_image(service: responses.RequestsMock) -> None:
    service.post(f"{BASE}/api/v3/model/price", status=404)
    service.post(f"{BASE}/api/v3/model/pricing", body='{"code":200,"data":{"unit_price":0.015}}')
    assert a_client().price(MODEL, {"num_images": 3}) == Decimal("0.045")


def test_a_price_that_nobody_tells_is_none(service: responses.RequestsMock) -> None:
    service.post(f"{BASE}/api/v3/model/price", status=404)
    service.post(f"{BASE}/api/v3/model/pricing", status=404)
    service.get(f"{BASE}/api/v3/balance", status=404)
    assert a_client().price(MODEL, {}) is None
    assert a_client().balance() is None


def test_a_page_of_the_list(service: responses.RequestsMock) -> None:
    service.post(f"{BASE}/api/v3/predictions", json=envelope(page=2, items=[{"id": "a", "inputs": {"seed": 1}}]))
    after = datetime(2026, 11, 23, 3, 14, 15, 900_000, tzinfo=timezone.utc)
    tasks = a_client().predictions(page=2, page_size=50, model=MODEL, created_after=after, created_before=after)
    assert [task.id for task in tasks] == ["a"]
    assert json.loads(service.calls[0].request.body or b"") == {
        "page": 2,
        "page_size": 50,
        "include_inputs": True,
        "model": MODEL,
        "created_after": "2026-11-23T03:14:15Z",
        "created_before": "2026-11-23T03:14:16Z",
    }


def test_an_upload_takes_the_ticket_and_leaves_the_key(service: responses.RequestsMock, tmp_path: Path) -> None:
    picture = tmp_path / 'a "b".PNG'
    picture.write_bytes(b"pixels")
    upload = {"method": "PUT", "url": "https://s3.example/put?sig=1", "headers": {"x-amz-acl": "private"}}
    service.post(f"{BASE}/api/v3/media/uploads", json=envelope(upload=upload, download_url="https://cdn.example/a"))
    service.put("https://s3.example/put?sig=1", body="")
    assert a_client().upload(picture, "image/png") == "https://cdn.example/a"
    put = service.calls[1].request
    assert put.body == b"pixels"
    assert put.headers["X-Amz-Acl"] == "private"
    assert put.headers["Content-Type"] == "image/png"
    assert "Authorization" not in put.headers
    assert "X-Client-Name" not in put.headers


def test_an_upload_goes_nowhere_unsafe(service: responses.RequestsMock, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    upload = {"url": "http://s3.example/put", "headers": {}}
    service.post(f"{BASE}/api/v3/media/uploads", json=envelope(upload=upload, download_url="https://cdn/a"))
    with pytest.raises(errors.RefusedUrl):
        a_client().upload(tmp_path / "a.png", "image/png")
    assert len(service.calls) == 1


def test_the_older_upload_is_the_way_out(service: responses.RequestsMock, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"--flux-lora-0000000000000000")
    service.post(f"{BASE}/api/v3/media/uploads", status=404)
    service.post(f"{BASE}/api/v3/media/upload/binary", json=envelope(download_url="https://cdn/a"))
    assert a_client().upload(str(tmp_path / "a.png"), "image/png") == "https://cdn/a"
    sent = service.calls[1].request
    assert b'name="file"; filename="input.png"' in (sent.body or b"")  # type: ignore[operator]
    assert "boundary=flux-lora-0000000000000001" in sent.headers["Content-Type"]


def test_a_client_name_of_ones_own_cannot_break_the_header(service: responses.RequestsMock) -> None:
    service.get(f"{BASE}/api/v3/balance", body='{"code":200,"data":{"balance":"1.50"}}')
    client = a_client(env={"WAVESPEED_CLIENT_NAME": "my\r\nX-Evil: 1 studio"})
    assert client.balance() == Decimal("1.50")
    assert service.calls[0].request.headers["X-Client-Name"] == "myX-Evil:1studio"


def test_doctor_sees_the_servers_clock(service: responses.RequestsMock) -> None:
    service.get(f"{BASE}/api/v3/balance", status=401, headers={"Date": "Mon, 23 Nov 2026 03:14:15 GMT"})
    answer = a_client().probe()
    assert answer.status == 401
    assert answer.headers["date"] == "Mon, 23 Nov 2026 03:14:15 GMT"
    assert answer.elapsed >= 0


@pytest.mark.parametrize("task_id", ["", "../x", "a/b", "a?b", "a\n", "x" * 129, "é"])
def test_only_a_plain_token_becomes_part_of_a_url(task_id: str) -> None:
    with pytest.raises(errors.UsageError):
        a_client().result(task_id)


@pytest.mark.parametrize("model", ["", "../balance", "a//b", "a/../b", "/a", "a b", "a?x=1", "a/."])
def test_only_a_model_id_becomes_part_of_a_url(model: str) -> None:
    with pytest.raises(errors.UsageError):
        a_client().submit(model, {})


# ---- key and host ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_without_a_key_both_ways_on_are_named(text: str) -> None:
    with pytest.raises(errors.MissingKey) as caught:
        load_key({"WAVESPEED_API_KEY": text})
    assert "WAVESPEED_API_KEY" in caught.value.hint
    assert "--sandbox" in caught.value.hint


@pytest.mark.parametrize("text", ["a b", "a\nb", "ключ", "a\x00b", "k" * 5000])
def test_what_can_be_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        load_key({"WAVESPEED_API_KEY": text})
    assert text not in caught.value.message + caught.value.hint


def test_a_key_file_comes_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbffrom-file\r\n")
    file.chmod(0o600)
    key = load_key({"WAVESPEED_API_KEY": "from-env"}, file)
    assert (key.value, key.warning) == ("from-file", "")
    assert "from-file" not in repr(key)
    file.chmod(0o644)
    assert "chmod 600" in load_key({}, file).warning


def test_key_files_that_are_not_there_or_not_readable(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError):
        load_key({}, tmp_path / "none")
    with pytest.raises(errors.MissingKey):
        load_key({}, tmp_path)


@pytest.mark.parametrize(
    ("url", "custom", "fine"),
    [
        (BASE, False, True),
        (BASE + ":443/", False, True),
        ("https://API.wavespeed.ai", False, True),
        ("http://127.0.0.1:8000", False, True),
        ("http://localhost:8000", False, True),
        ("http://[::1]:8000", False, True),
        ("https://api.wavespeed.ai.evil.example", False, False),
        ("https://api.wavespeed.ai:8443", False, False),
        ("https://proxy.corp", False, False),
        ("https://proxy.corp", True, True),
        ("http://api.wavespeed.ai", False, False),
        ("http://api.wavespeed.ai", True, True),
        ("http://localhost.evil.example", True, True),
        ("http://localhost.evil.example", False, False),
        ("https://127.0.0.1.evil.example", False, False),
        ("https://user:pass@api.wavespeed.ai", True, False),
        ("https://api.wavespeed.ai?x=1", True, False),
        ("ftp://api.wavespeed.ai", True, False),
        ("api.wavespeed.ai", True, False),
        ("https://", True, False),
        ("https://a:99999", True, False),
        ("https://[::1", True, False),
        ("https://a\u202eb", True, False),
    ],
)
def test_which_host_may_get_the_key(url: str, custom: bool, fine: bool) -> None:
    if fine:
        a_client(base_url=url, allow_custom_host=custom)
        check_host(url, custom)
    else:
        with pytest.raises(errors.UsageError):
            a_client(base_url=url, allow_custom_host=custom)


def test_requests_is_loaded_when_something_is_sent(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, flux_lora_cli.domain.answers, flux_lora_cli.domain.hosts, flux_lora_cli.adapters.image_store\n"
        "from flux_lora_cli.adapters.client import connect\n"
        "client = connect(key='key')\n"
        "assert 'requests' not in sys.modules and 'urllib3' not in sys.modules\n"
        "client.close()\n"
        "client.transport.send\n"
        "assert 'requests' in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
