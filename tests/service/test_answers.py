"""Every answer, good or bad, is one row of a table."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux_lora_cli import errors
from flux_lora_cli.service import wire
from flux_lora_cli.service.envelope import Answer, Kind, NoSuchList, open_envelope, retry_after
from flux_lora_cli.service.wire import Task, parse_time
from flux_lora_cli.text import printable

NOW = datetime(2026, 11, 23, 3, 14, 15, tzinfo=UTC)
HTML = b"<!DOCTYPE html><title>Blocked</title>"


def response(body: Any = b"", status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, lower, data, "api.example", NOW)


def task_body(**data: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"id": "t1", "status": "created", **data}}


SUBMIT_ROWS = [
    (401, {"code": 401, "message": "bad key"}, errors.KeyRefused),
    (401, HTML, errors.KeyRefused),
    (401, b"", errors.KeyRefused),
    (403, {"code": 403, "message": "role"}, errors.KeyRefused),
    (403, {"error_code": "FORBIDDEN"}, errors.KeyRefused),
    (403, HTML, errors.Rejected),
    (403, b"", errors.Rejected),
    (403, b"Access denied", errors.Rejected),
    (403, [], errors.Rejected),
    (403, {"code": 403, "message": "Insufficient credits"}, errors.OutOfCredit),
    (402, b"", errors.OutOfCredit),
    (400, {"code": 400, "message": "Insufficient credits. Please top up."}, errors.OutOfCredit),
    (400, {"code": 400, "message": "Your balance is too low"}, errors.OutOfCredit),
    (400, {"code": 400, "message": "num_images out of range"}, errors.Rejected),
    (404, HTML, errors.Rejected),
    (407, b"", errors.Rejected),
    (422, {"detail": "size"}, errors.Rejected),
    (409, b"", errors.Rejected),
    (413, HTML, errors.Rejected),
    (421, HTML, errors.Rejected),
    (451, HTML, errors.Rejected),
    (429, b"", errors.RateLimited),
    (425, HTML, errors.RateLimited),
    (301, b"", errors.Redirected),
    (302, b"", errors.Redirected),
    (307, b"", errors.Redirected),
    (308, b"", errors.Redirected),
    (304, b"", errors.Redirected),
    (408, b"", errors.Uncertain),
    (499, b"", errors.Uncertain),
    (500, {"code": 500, "message": "oops"}, errors.Uncertain),
    (502, HTML, errors.Uncertain),
    (503, b"", errors.Uncertain),
    (504, b"\xff\xfe", errors.Uncertain),
    (520, HTML, errors.Uncertain),
    (529, HTML, errors.Uncertain),
    (101, b"", errors.BadAnswer),
    (200, HTML, errors.BadAnswer),
    (200, b"", errors.BadAnswer),
    (204, b"", errors.BadAnswer),
    (200, b" \n", errors.BadAnswer),
    (200, b'{"code":200,"data":{"id":"t1"', errors.BadAnswer),
    (200, b"\xff\xfe\x00", errors.BadAnswer),
    (200, [{"id": "t1"}], errors.BadAnswer),
    (200, b"null", errors.BadAnswer),
    (200, b'"t1"', errors.BadAnswer),
    (200, {"code": 200, "data": None}, errors.BadAnswer),
    (200, {"code": 200, "data": []}, errors.BadAnswer),
    (200, {"code": 200, "message": "success", "data": {}}, errors.BadAnswer),
    (200, task_body(id=""), errors.BadAnswer),
    (200, task_body(id=7), errors.BadAnswer),
    (200, task_body(id="../balance"), errors.BadAnswer),
    (200, task_body(id="t1\n"), errors.BadAnswer),
    (200, task_body(id="t" * 129), errors.BadAnswer),
    (200, task_body(id="t1?x=1"), errors.BadAnswer),
    (200, {"code": 400, "message": "no"}, errors.Rejected),
    (200, {"code": 400, "message": "Insufficient credits"}, errors.OutOfCredit),
    (200, {"code": "401", "message": "no"}, errors.KeyRefused),
    (200, {"code": 403, "message": "no"}, errors.KeyRefused),
    (200, {"code": 429, "message": "slow"}, errors.RateLimited),
    (200, {"code": 500, "message": "no", "data": {"id": "t1"}}, errors.Uncertain),
    (200, {"code": 302, "message": "no"}, errors.Redirected),
    (200, {"code": 1200, "message": "no"}, errors.BadAnswer),
    (200, {"code": 5004, "message": "no"}, errors.BadAnswer),
    (200, {"code": "abc", "data": {"id": "t1"}}, errors.BadAnswer),
    (200, {"code": True, "data": {"id": "t1"}}, errors.BadAnswer),
    (200, {"code": 1e300, "data": {"id": "t1"}}, errors.BadAnswer),
    (200, b"[" * 200_000, errors.BadAnswer),
    (200, b'{"a":' * 100_000, errors.BadAnswer),
    (200, b'{"code":' + b"9" * 900_000 + b"}", errors.BadAnswer),
    (200, b'{"code":200,"data":{"id":"t1","x":' + b"9" * 100 + b"}}", errors.BadAnswer),
    (200, b'{"code":200,"data":{"id":"t1","x":[' + b"{}," * 900_000 + b"{}]}}", errors.BadAnswer),
]


@pytest.mark.parametrize(("status", "body", "expected"), SUBMIT_ROWS)
def test_a_submission_that_did_not_work_has_exactly_one_meaning(status: int, body: Any, expected: type) -> None:
    with pytest.raises(errors.FluxLoraError) as caught:
        wire.decode_submit(response(body, status))
    assert type(caught.value) is expected
    assert "None" not in caught.value.message


POLL_ROWS = [
    (404, b"", errors.TaskNotFound),
    (410, b"", errors.TaskNotFound),
    (200, {"code": 404, "message": "no such prediction"}, errors.TaskNotFound),
    (401, b"", errors.KeyRefused),
    (403, {"code": 403, "message": "role"}, errors.KeyRefused),
    (403, HTML, errors.BadAnswer),
    (400, HTML, errors.BadAnswer),
    (400, {"code": 400, "message": "no"}, errors.Rejected),
    (400, {"message": "Insufficient credits"}, errors.Rejected),
    (302, b"", errors.Redirected),
    (425, b"", errors.RateLimited),
    (429, b"", errors.RateLimited),
    (500, b"", errors.Uncertain),
    (200, HTML, errors.BadAnswer),
    (200, task_body(id="t2"), errors.BadAnswer),
    (200, task_body(status=None), errors.BadAnswer),
    (200, {"code": 200, "data": {"id": "t1"}}, errors.BadAnswer),
]


@pytest.mark.parametrize(("status", "body", "expected"), POLL_ROWS)
def test_a_poll_that_failed_is_never_a_task_that_failed(status: int, body: Any, expected: type) -> None:
    with pytest.raises(errors.FluxLoraError) as caught:
        wire.decode_task(response(body, status), "t1")
    assert type(caught.value) is expected


OTHER_ROWS: list[tuple[Kind, int, Any, type]] = [
    ("list", 403, {"code": 403, "message": "role"}, NoSuchList),
    ("list", 403, HTML, NoSuchList),
    ("list", 404, b"", NoSuchList),
    ("list", 401, b"", errors.KeyRefused),
    ("list", 400, {"message": "page"}, errors.Rejected),
    ("list", 500, b"", errors.Uncertain),
    ("balance", 403, HTML, errors.BadAnswer),
    ("balance", 401, HTML, errors.KeyRefused),
    ("models", 403, HTML, errors.ServiceError),
    ("models", 403, {"code": 403, "message": "role"}, errors.ServiceError),
    ("models", 404, b"", errors.ServiceError),
    ("bill", 403, {"code": 403, "message": "role"}, errors.ServiceError),
    ("bill", 404, b"", errors.ServiceError),
    ("bill", 401, b"", errors.KeyRefused),
    ("upload", 402, b"", errors.OutOfCredit),
    ("upload", 403, HTML, errors.Rejected),
]


@pytest.mark.parametrize(("kind", "status", "body", "expected"), OTHER_ROWS)
def test_what_a_status_means_for_other_calls(kind: Kind, status: int, body: Any, expected: type) -> None:
    with pytest.raises(errors.FluxLoraError) as caught:
        open_envelope(response(body, status), kind)
    assert type(caught.value) is expected


def test_the_whole_answer_of_v2() -> None:
    body = task_body(
        model="wavespeed-ai/flux-dev-lora",
        outputs=["https://d1.cloudfront.net/a.png", "https://d1.cloudfront.net/b.png"],
        urls={"get": "https://elsewhere.example/steal"},
        has_nsfw_contents=[False, True],
        status="completed",
        created_at="2026-11-23T03:14:15.123456789Z",
        error="",
        executionTime=2412,
    )
    task = wire.decode_task(response(body), "t1")
    assert task == Task(
        id="t1",
        status="completed",
        model="wavespeed-ai/flux-dev-lora",
        outputs=("https://d1.cloudfront.net/a.png", "https://d1.cloudfront.net/b.png"),
        nsfw=(False, True),
        created_at="2026-11-23T03:14:15.123456789Z",
        execution_ms=2412,
    )
    assert task.created == datetime(2026, 11, 23, 3, 14, 15, 123456, tzinfo=UTC)
    assert task.terminal and task.completed


URL = "https://x/1"


@pytest.mark.parametrize(
    ("data", "field", "expected"),
    [
        ({"timings": {"inference": 99.6}}, "execution_ms", 100),
        ({"executionTime": "soon"}, "execution_ms", None),
        ({"executionTime": True}, "execution_ms", None),
        ({"executionTime": -1}, "execution_ms", None),
        ({"executionTime": 1e308}, "execution_ms", None),
        ({"outputs": None}, "outputs", ()),
        ({"outputs": URL}, "outputs", (URL,)),
        ({"outputs": [{"url": URL}, "https://x/2"]}, "outputs", (URL, "https://x/2")),
        ({"outputs": [{"image": URL}]}, "outputs", (URL,)),
        ({"outputs": [[URL]]}, "outputs", (URL,)),
        ({"outputs": None, "output": URL}, "outputs", (URL,)),
        ({"images": [{"url": URL}]}, "outputs", (URL,)),
        ({"outputs": [None, URL, {}, 7]}, "outputs", ("", URL, "", "")),
        ({"outputs": [" HTTPS://x/1\n"]}, "outputs", (URL,)),
        ({"outputs": ["iVBORw0KGgo"]}, "outputs", ("iVBORw0KGgo=",)),
        ({"outputs": ["a-_b\nAAA"]}, "outputs", ("a+/bAAA=",)),
        ({"outputs": ["DATA:image/png;base64,AA_-"]}, "outputs", ("data:image/png;base64,AA/+",)),
        ({"outputs": ["https://x/\ud800"]}, "outputs", ("https://x/?",)),
        ({"outputs": ["a"] * 1000}, "outputs", ("a===",) * 64),
        ({"outputs": ["a", "b"], "has_nsfw_contents": [True]}, "nsfw", (True, None)),
        ({"outputs": ["a"], "has_nsfw_contents": [False, True, True]}, "nsfw", (False,)),
        ({"outputs": ["a"]}, "nsfw", (None,)),
        ({"outputs": ["a"], "has_nsfw_contents": [0]}, "nsfw", (None,)),
        ({"outputs": ["a"], "has_nsfw_contents": True}, "nsfw", (True,)),
        ({"outputs": ["a", "b"], "has_nsfw_contents": False}, "nsfw", (None, None)),
        ({"error": "bad\x1b[31m size"}, "error", "bad\\x1b[31m size"),
        ({"error": {"message": "bad"}}, "error", "bad"),
        ({"error": None}, "error", ""),
        ({"error": "x" * 9999}, "error", "x" * 499 + "…"),
        ({"code": 1200, "error": ""}, "error", "content moderation refused the prompt or an image"),
        ({"inputs": {"seed": 1}}, "inputs", {"seed": 1}),
        ({"input": {"guidance_scale": 3.5}}, "inputs", {"guidance_scale": 3.5}),
        ({"inputs": "x"}, "inputs", None),
    ],
)
def test_fields_of_a_task(data: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(wire.decode_task(response(task_body(**data)), "t1"), field) == expected


@pytest.mark.parametrize(
    ("said", "status", "terminal"),
    [
        ("created", "created", False),
        ("processing", "processing", False),
        ("in_queue", "in_queue", False),
        ("warming up", "warming_up", False),
        ("\x1b[2J", "unknown", False),
        ("COMPLETED", "completed", True),
        ("succeeded", "completed", True),
        ("succeeded(completed)", "completed", True),
        ("success", "completed", True),
        ("failed", "failed", True),
        ("canceled", "cancelled", True),
        ("cancelled", "cancelled", True),
        ("error", "error", True),
        ("rejected", "rejected", True),
        ("Expired", "expired", True),
        ("timeout", "timeout", True),
        ("deleted", "deleted", True),
    ],
)
def test_spellings_of_a_status(said: str, status: str, terminal: bool) -> None:
    task = wire.decode_task(response(task_body(status=said)), "t1")
    assert (task.status, task.terminal, task.completed) == (status, terminal, status == "completed")


def test_a_task_without_an_envelope_is_read_too() -> None:
    bare = {"id": "t1", "status": "failed", "code": 1402, "error": "HTTP 403"}
    task = wire.decode_task(response(bare), "t1")
    assert task.status == "failed"
    assert task.error == "the service could not reach the input image or a LoRA's URL: HTTP 403"
    assert wire.decode_submit(response({"id": "t1"})).status == "created"


def test_sync_mode_that_gave_up_waiting_is_a_task_that_goes_on() -> None:
    body = {"code": 5004, "message": "timed out", "data": {"id": "t1", "status": "processing"}}
    assert wire.decode_submit(response(body)) == Task("t1", "processing")
    assert wire.decode_submit(response({"id": "t1", "status": "processing", "code": 5004})).status == "processing"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Mon, 23 Nov 2026 03:14:45 GMT", 30.0),
        ("Mon, 23 Nov 2026 03:14:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("2, 3", None),
        ("nan", None),
        ("9" * 30, 1e9),
        ("9" * 300, None),
        ("Mon, 99 Nov 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(response(status=429, retry_after=value)) == seconds


def test_a_retry_after_date_is_read_by_the_servers_clock() -> None:
    late = response(status=503, date="Mon, 23 Nov 2026 09:00:00 GMT", retry_after="Mon, 23 Nov 2026 09:00:10 GMT")
    with pytest.raises(errors.Uncertain) as caught:
        wire.decode_submit(late)
    assert caught.value.retry_after == 10.0


def test_a_redirect_names_the_host_it_leads_to() -> None:
    with pytest.raises(errors.Redirected, match=r"to evil\.example \(307\)"):
        wire.decode_submit(response(status=307, location="https://evil.example/api?key=1"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T03:14:15Z", NOW),
        ("2026-11-23T03:14:15", NOW),
        ("2026-11-23 03:14:15+00:00", NOW),
        ("2026-11-23T04:14:15.000000001+01:00", NOW),
        ("yesterday", None),
        ("", None),
        (None, None),
        ("9999-12-31T23:59:59-23:59", None),
        ("2" * 5000, None),
    ],
)
def test_times(text: str | None, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_the_list_leaves_out_what_names_no_task() -> None:
    items = [{"id": "a", "status": "completed", "inputs": {"seed": 3}}, {"id": "../x"}, None, {"id": "b"}]
    tasks = wire.decode_predictions(response({"code": 200, "data": {"page": 1, "items": items}}))
    assert [(task.id, task.inputs) for task in tasks] == [("a", {"seed": 3}), ("b", None)]
    assert wire.decode_predictions(response({"code": 200, "data": {"items": None}})) == []
    with pytest.raises(errors.BadAnswer):
        wire.decode_predictions(response({"code": 200, "data": {}}))


def test_an_upload_ticket_cannot_set_the_headers_that_matter() -> None:
    headers = {"Content-Type": "image/png", "Authorization": "x", "Host": "y", "x-amz-acl": "z", "A\r\nB": "c"}
    data = {"upload": {"url": "https://s3/x", "headers": headers}, "download_url": "https://cdn/x"}
    ticket = wire.decode_upload(response({"code": 200, "data": data}))
    assert ticket[1] == {"Content-Type": "image/png", "X-Amz-Acl": "z"}


# ---- money --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "price", "odd"),
    [
        (b'{"code":200,"data":{"price":0.015}}', "0.015", False),
        (b'{"code":200,"data":{"price":0.1,"discounted_price":0.015}}', "0.015", False),
        (b'{"price":0.015,"discounted_price":0.015}', "0.015", False),
        (b'{"price":0.015,"discounted_price":null}', "0.015", False),
        (b'{"price":0.015,"discounted_price":0}', "0.015", True),
        (b'{"price":0.015,"discounted_price":-1}', "0.015", True),
        (b'{"price":0.015,"discounted_price":1e-13}', "0.015", True),
        (b'{"price":0.015,"discounted_price":0.02}', "0.015", True),
        (b'{"price":0.015,"discounted_price":"free"}', "0.015", True),
        (b'{"price":"0.03"}', "0.03", False),
        (b'{"price":1}', "1", False),
        (b'{"price":0.1000000000000000055511151231257827}', "0.100000000000", False),
        (b'{"price":0}', None, True),
        (b'{"price":0.0}', None, True),
        (b'{"price":1e-13}', None, True),
        (b'{"price":-1}', None, True),
        (b'{"price":0,"discounted_price":0.01}', None, True),
        (b'{"price":NaN}', None, False),
        (b'{"price":1e999999}', None, True),
        (b'{"price":true}', None, True),
        (b'{"price":"free"}', None, True),
        (b'{"price":"1e-3"}', None, True),
        (b'{"price":1,"currency":"EUR"}', None, False),
        (b'{"code":404,"message":"no such model"}', None, False),
        (b"{}", None, False),
    ],
)
def test_prices_are_decimal_and_believable(body: bytes, price: str | None, odd: bool) -> None:
    quote = wire.decode_price(response(body))
    assert quote[0] == (None if price is None else Decimal(price))
    assert bool(quote[1]) is odd


def test_a_service_without_prices_says_nothing_rather_than_zero() -> None:
    assert wire.decode_price(response(HTML, 404))[0] is None
    assert wire.decode_price(response(HTML, 403))[0] is None
    assert wire.decode_price(response(b"", 405))[0] is None
    assert wire.decode_price(response(b'{"unit_price":0}'))[0] is None
    assert wire.decode_balance(response(b"", 404)) is None
    assert wire.decode_balance(response(b'{"code":200,"data":{"balance":-0.25}}')) == Decimal("-0.25")


def bill(*items: Any, **more: Any) -> wire.BillPage:
    data = {"page": 1, "has_more": False, "items": list(items), **more}
    return wire.decode_bill(response({"code": 200, "data": data}))


def test_the_bill_keeps_prices_as_they_come() -> None:
    entry = {
        "uuid": "b1",
        "billing_type": "deduct",
        "price": -0.25,
        "created_at": "2026-11-23T03:14:15Z",
        "access_key_name": "laptop",
        "prediction": {"uuid": "t1", "model_uuid": "wavespeed-ai/flux-dev-lora", "status": "completed"},
    }
    page = bill(entry, {**entry, "price": 24300, "currency": "credits"}, {**entry, "price": "much"}, "x", has_more=True)
    assert (page.has_more, page.unread) == (True, 1)
    first, second, third = page.items
    assert (first.kind, first.price, first.task_id, first.created) == ("deduct", Decimal("-0.25"), "t1", NOW)
    assert first.model == "wavespeed-ai/flux-dev-lora"
    assert (second.price, second.shown, second.unit) == (Decimal(24300), "24300 credits", "credits")
    assert (third.price, third.shown) == (None, "much")


def test_bills_that_are_none() -> None:
    assert bill().items == ()
    assert bill({"uuid": "b", "billing_type": "refund", "price": 1, "prediction": None}).items[0].task_id is None
    wrong: tuple[Any, ...] = ("x", {}, ["x"], [{"price": 1}])
    for items in wrong:
        with pytest.raises(errors.BadAnswer):
            wire.decode_bill(response({"code": 200, "data": {"items": items}}))


# ---- anything -----------------------------------------------------------------------------------

DECODERS: list[Any] = [
    wire.decode_submit,
    lambda answer: wire.decode_task(answer, "t1"),
    wire.decode_predictions,
    wire.decode_price,
    wire.decode_balance,
    wire.decode_bill,
    wire.decode_upload,
    wire.check_upload_put,
]
NAMES = [
    *("code", "message", "data", "id", "status", "outputs", "output", "error", "items", "price", "discounted_price"),
    *("unit_price", "balance", "upload", "url", "headers", "download_url", "has_nsfw_contents", "executionTime"),
    *("timings", "inference", "inputs", "currency", "uuid", "billing_type", "prediction"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["t1", "completed"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)
BODIES = st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=int(os.environ.get("FLUX_LORA_FUZZ", "200")), deadline=None)
@given(
    body=BODIES,
    status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 429, 500]) | st.integers(100, 999),
    headers=st.dictionaries(st.sampled_from(["retry-after", "location", "date"]), st.text(max_size=40)),
)
@example(body=b'{"code":200,"data":{"id":"t1","status":"x","outputs":["\\ud800"]}}', status=200, headers={})
@example(body=b"", status=302, headers={"location": "https://[::1"})
@example(body=b"", status=429, headers={"retry-after": "Mon, 1 Jan 99999 00:00:00 +9999"})
def test_whatever_comes_is_a_value_or_one_of_our_errors(body: bytes, status: int, headers: dict[str, str]) -> None:
    for decode in DECODERS:
        try:
            value = decode(Answer(status, headers, body, received_at=NOW))
        except errors.FluxLoraError as error:
            assert printable(error.message) == error.message
            assert len(error.message) < 2000
        else:
            repr(value).encode()
