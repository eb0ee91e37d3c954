"""The client as the commands use it; the service's answers are served by ``responses``."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import responses

from flux_lora_cli import errors
from flux_lora_cli.service.client import MAX_INLINE_IMAGE, Client, connect
from tests.conftest import KEY

BASE = "https://api.wavespeed.ai"
MODEL = "wavespeed-ai/flux-dev-lora"


@pytest.fixture
def service() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def client() -> Client:
    return connect(key=KEY, env={})


def envelope(**data: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": data}


def sent(service: responses.RequestsMock, number: int = 0) -> Any:
    return json.loads(service.calls[number].request.body or b"")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_submit_and_result(version: Any, service: responses.RequestsMock, client: Client) -> None:
    service.post(f"{BASE}/api/{version}/{MODEL}", json=envelope(id="t1", status="created"))
    done = envelope(id="t1", status="completed", outputs=["https://cdn/x"], urls={"get": "https://evil.example/"})
    service.get(f"{BASE}/api/{version}/predictions/t1/result", json=done)
    body = {"prompt": "ä", "loras": [{"path": "a/b", "scale": 1}]}
    assert client.submit(MODEL, body, version).id == "t1"
    assert client.result("t1", version).outputs == ("https://cdn/x",)
    assert sent(service) == body
    headers = service.calls[0].request.headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("flux-lora/")
    assert headers["X-Client-Name"] == "flux-lora" and headers["X-Client-Version"] and headers["X-Client-OS"]


@pytest.mark.parametrize(
    ("price", "pricing", "expected", "note"),
    [
        ('{"data":{"price":0.03,"discounted_price":0}}', None, Decimal("0.03"), "discounted price of 0"),
        (None, '{"data":{"unit_price":0.015}}', Decimal("0.045"), ""),
        (None, None, None, ""),
    ],
    ids=["of the whole request", "older, per image", "not told"],
)
def test_prices(price: Any, pricing: Any, expected: Any, note: str, client: Client) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as service:
        service.post(f"{BASE}/api/v3/model/price", body=price or "", status=200 if price else 404)
        service.post(f"{BASE}/api/v3/model/pricing", body=pricing or "", status=200 if pricing else 404)
        assert client.price(MODEL, {"num_images": 3}) == expected
        assert sent(service) == {"model_id": MODEL, "inputs": {"num_images": 3}}
    assert note in client.price_note


def test_a_page_of_the_list(service: responses.RequestsMock, client: Client) -> None:
    service.post(f"{BASE}/api/v3/predictions", json=envelope(page=2, items=[{"id": "a", "inputs": {"seed": 1}}]))
    after = datetime(2026, 11, 23, 4, 14, 15, 900_000, tzinfo=UTC)
    assert [task.id for task in client.predictions(2, 50, after)] == ["a"]
    paged = {"page": 2, "page_size": 50, "include_inputs": True}
    assert sent(service) == paged | {"created_after": "2026-11-23T04:14:15Z"}


def test_a_page_of_the_bill(service: responses.RequestsMock, client: Client) -> None:
    item = {"uuid": "b", "billing_type": "refund", "price": 0.015, "prediction": {"uuid": "t1"}}
    service.post(f"{BASE}/api/v3/billings/search", json=envelope(page=1, has_more=True, items=[item]))
    page = client.bill(1, 100, ["t1", "t2"], datetime(2026, 11, 1, tzinfo=UTC), None)
    assert (page.has_more, page.items[0].price, page.items[0].task_id) == (True, Decimal("0.015"), "t1")
    paged = {"page": 1, "page_size": 100}
    assert sent(service) == paged | {"prediction_uuids": ["t1", "t2"], "start_time": "2026-11-01T00:00:00Z"}


def test_the_catalogue_comes_without_its_envelope_and_never_with_the_key(
    service: responses.RequestsMock, client: Client
) -> None:
    service.get(f"{BASE}/api/v3/models", json={"code": 200, "data": [{"model_id": "a/b"}]})
    assert client.models() == [{"model_id": "a/b"}]
    service.upsert("GET", f"{BASE}/api/v3/models", json=[{"model_id": "a/b", "description": f"Bearer {KEY}"}])
    with pytest.raises(errors.BadAnswer, match="not used"):
        client.models()


def test_no_text_of_a_task_shows_the_key(service: responses.RequestsMock, client: Client) -> None:
    texts = dict.fromkeys(("error", "model", "created_at"), f"it was {KEY}")
    service.get(f"{BASE}/api/v2/predictions/t1/result", json=envelope(id="t1", status="failed", **texts))
    assert KEY not in str(client.result("t1"))


def test_the_services_clock_is_read_from_its_answers(service: responses.RequestsMock, client: Client) -> None:
    assert client.clock_ahead is None
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1200), usegmt=True)
    service.get(f"{BASE}/api/v3/balance", body='{"balance":"1.50"}', headers={"Date": date})
    assert client.balance() == Decimal("1.50")
    assert client.clock_ahead is not None and abs(client.clock_ahead - 1200) < 2


def test_a_client_name_of_ones_own_cannot_break_the_header(service: responses.RequestsMock) -> None:
    service.get(f"{BASE}/api/v3/balance", body='{"balance":1}')
    connect(key=KEY, env={"WAVESPEED_CLIENT_NAME": "my\r\nX-Evil: 1 studio"}).balance()
    assert service.calls[0].request.headers["X-Client-Name"] == "myX-Evil:1studio"


def test_an_odd_id_stays_one_part_of_the_url(service: responses.RequestsMock, client: Client) -> None:
    service.get(f"{BASE}/api/v2/predictions/..%2F..%2Fx%3Fy%0A/result", status=404)
    with pytest.raises(errors.TaskNotFound):
        client.result("../../x?y\n")


# ---- uploads ------------------------------------------------------------------------------------

LARGE = b"pixels" * 200_000
PUT, CDN = "https://s3.example/put?sig=1%2f2", "https://cdn.example/a"
TICKET = {"method": "PUT", "url": PUT, "headers": {"x-amz-acl": "private"}}
UPLOADS = f"{BASE}/api/v3/media/uploads"


@pytest.fixture
def picture(tmp_path: Path) -> str:
    (tmp_path / "a.png").write_bytes(LARGE)
    return str(tmp_path / "a.png")


@pytest.fixture
def storage(service: responses.RequestsMock) -> responses.RequestsMock:
    """The service, with a ticket to a storage that takes the file."""
    service.post(UPLOADS, json=envelope(upload=TICKET, download_url=CDN))
    service.put(PUT, body="")
    return service


def test_a_small_image_goes_inline(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"p" * MAX_INLINE_IMAGE)
    head, _, data = client.upload(str(tmp_path / "a.png"), "image/png").partition(",")
    assert (head, base64.b64decode(data)) == ("data:image/png;base64", b"p" * MAX_INLINE_IMAGE)
    with pytest.raises(errors.NotFoundError):
        client.upload(str(tmp_path / "b.png"), "image/png")


def test_an_upload_takes_the_ticket_and_leaves_the_key(
    storage: responses.RequestsMock, client: Client, picture: str
) -> None:
    assert client.upload(picture, "image/png") == CDN
    assert sent(storage) == {"filename": "input.png", "size": len(LARGE), "content_type": "image/png"}
    put = storage.calls[1].request
    assert (put.url, put.body) == (PUT, LARGE)
    assert put.headers["X-Amz-Acl"] == "private" and put.headers["Content-Type"] == "image/png"
    assert put.headers["Content-Length"] == str(len(LARGE))
    assert "Authorization" not in put.headers and "X-Client-Name" not in put.headers


def test_callers_that_come_together_share_one_upload(
    storage: responses.RequestsMock, client: Client, picture: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.upload(picture, "image/png"), range(50)))
    assert (found, len(storage.calls)) == ([CDN] * 50, 2)


@pytest.mark.parametrize("url", ["http://s3.example/put", "file:///etc/passwd", f"https://s3.example/?k={KEY[:-3]}"])
def test_an_upload_goes_nowhere_unsafe(url: str, service: responses.RequestsMock, picture: str) -> None:
    service.post(UPLOADS, json=envelope(upload={"url": url}, download_url=CDN))
    with pytest.raises(errors.RefusedUrl):
        connect(key=KEY[:-3], env={}).upload(picture, "image/png")
    assert len(service.calls) == 1


def test_the_storages_refusal_says_nothing_about_the_key(
    service: responses.RequestsMock, client: Client, picture: str
) -> None:
    service.post(UPLOADS, json=envelope(upload=TICKET, download_url=CDN))
    service.put(PUT, status=403, json={"code": 403, "message": "expired"})
    with pytest.raises(errors.Rejected):
        client.upload(picture, "image/png")


def test_the_older_upload_is_the_way_out(service: responses.RequestsMock, client: Client, picture: str) -> None:
    service.post(UPLOADS, status=404)
    service.post(f"{BASE}/api/v3/media/upload/binary", json=envelope(download_url=CDN))
    assert client.upload(picture, "image/png") == CDN
    request = service.calls[1].request
    assert isinstance(request.body, bytes) and LARGE in request.body
    assert b'name="file"; filename="input.png"\r\nContent-Type: image/png\r\n\r\npixels' in request.body
    assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
