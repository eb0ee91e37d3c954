"""Every answer, good or bad, is one row of a table."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux_lora_cli import errors
from flux_lora_cli.domain import answers
from flux_lora_cli.domain.envelope import raise_status, retry_after, server_date
from flux_lora_cli.domain.task import Task
from flux_lora_cli.domain.text import printable
from flux_lora_cli.domain.wire import HttpResponse

NOW = datetime(2026, 11, 23, 3, 14, 15, tzinfo=timezone.utc)
HTML = b"<!DOCTYPE html><title>502</title>"


def response(body: Any = b"", status: int = 200, **headers: str) -> HttpResponse:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, lower, body, received_at=NOW, host="api.example")


def task_body(**data: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"id": "t1", "status": "created", **data}}


SUBMIT_ROWS = [
    (401, {"code": 401, "message": "bad key"}, errors.KeyRefused),
    (403, HTML, errors.KeyRefused),
    (402, b"", errors.OutOfCredit),
    (400, {"code": 400, "message": "Insufficient credits. Please top up."}, errors.OutOfCredit),
    (400, {"code": 400, "message": "num_images out of range"}, errors.Rejected),
    (404, HTML, errors.Rejected),
    (422, {"detail": "size"}, errors.Rejected),
    (409, b"", errors.Rejected),
    (429, b"", errors.RateLimited),
    (301, b"", errors.Redirected),
    (302, b"", errors.Redirected),
    (307, b"", errors.Redirected),
    (308, b"", errors.Redirected),
    (304, b"", errors.Redirected),
    (408, b"", errors.Uncertain),
    (500, {"code": 500, "message": "oops"}, errors.Uncertain),
    (502, HTML, errors.Uncertain),
    (503, b"", errors.Uncertain),
    (504, b"\xff\xfe", errors.Uncertain),
    (599, b"", errors.Uncertain),
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
    (200, {"code": 429, "message": "slow"}, errors.RateLimited),
    (200, {"code": 500, "message": "no", "data": {"id": "t1"}}, errors.Uncertain),
    (200, {"code": 302, "message": "no"}, errors.Redirected),
    (200, {"code": 1200, "message": "no"}, errors.BadAnswer),
    (200, {"code": "abc", "data": {"id": "t1"}}, errors.BadAnswer),
    (200, {"code": True, "data": {"id": "t1"}}, errors.BadAnswer),
    (200, {"code": 1e300, "data": {"id": "t1"}}, errors.BadAnswer),
    (200, b"[" * 200_000, errors.BadAnswer),
    (200, b'{"a":' * 100_000, errors.BadAnswer),
    (200, b'{"code":' + b"9" * 900_000 + b"}", errors.BadAnswer),
    (200, b'{"code":200,"data":{"id":"t1","x":' + b"9" * 5000 + b"}}", errors.BadAnswer),
    (200, b'{"code":200,"data":{"id":"t1","x":' + b"9" * 100 + b"}}", errors.BadAnswer),
    (200, b'{"code":200,"data":{"id":"t1","x":[' + b"{}," * 600_000 + b"{}]}}", errors.BadAnswer),
]


@pytest.mark.parametrize(("status", "body", "expected"), SUBMIT_ROWS)
def test_a_submit_that_did_not_work_has_exactly_one_meaning(
    status: int, body: Any, expected: type[errors.FluxLoraError]
) -> None:
    with pytest.raises(errors.FluxLoraError) as caught:
        answers.decode_submit(response(body, status))
    assert type(caught.value) is expected


LOOK_ROWS = [
    (404, b"", errors.TaskNotFound),
    (410, b"", errors.TaskNotFound),
    (200, {"code": 404, "message": "no such prediction"}, errors.TaskNotFound),
    (401, b"", errors.KeyRefused),
    (400, {"message": "Insufficient credits"}, errors.BadAnswer),
    (402, b"", errors.BadAnswer),
    (422, b"", errors.BadAnswer),
    (429, b"", errors.RateLimited),
    (500, b"", errors.Uncertain),
    (200, HTML, errors.BadAnswer),
    (200, task_body(id="t2"), errors.BadAnswer),
    (200, {"code": 200, "data": {"id": "t1"}}, errors.BadAnswer),
]


@pytest.mark.parametrize(("status", "body", "expected"), LOOK_ROWS)
def test_a_look_that_failed_is_never_a_task_that_failed(
    status: int, body: Any, expected: type[errors.FluxLoraError]
) -> None:
    with pytest.raises(errors.FluxLoraError) as caught:
        answers.decode_task(response(body, status), "t1")
    assert type(caught.value) is expected


def test_the_whole_answer_of_v2() -> None:
    body = task_body(
        model="wavespeed-ai/flux-dev-lora",
        outputs=["https://d1.cloudfront.net/a.png", "https://d1.cloudfront.net/b.png"],
        urls={"get": "https://elsewhere.example/steal"},
        has_nsfw_contents=[False, True],
        status="completed",
        created_at="2026-11-23T03:14:15.123Z",
        error="",
        executionTime=2412,
    )
    assert answers.decode_task(response(body), "t1") == Task(
        id="t1",
        status="completed",
        model="wavespeed-ai/flux-dev-lora",
        outputs=("https://d1.cloudfront.net/a.png", "https://d1.cloudfront.net/b.png"),
        nsfw=(False, True),
        created_at="2026-11-23T03:14:15.123Z",
        execution_ms=2412,
    )


@pytest.mark.parametrize(
    ("data", "field", "expected"),
    [
        ({"timings": {"inference": 99.6}}, "execution_ms", 100),
        ({"executionTime": "soon"}, "execution_ms", None),
        ({"executionTime": True}, "execution_ms", None),
        ({"executionTime": -1}, "execution_ms", None),
        ({"executionTime": 1e308}, "execution_ms", None),
        ({"outputs": None}, "outputs", ()),
        ({"outputs": "https://x/1"}, "outputs", ("https://x/1",)),
        ({"outputs": [{"url": "https://x/1"}, "https://x/2"]}, "outputs", ("https://x/1", "https://x/2")),
        ({"outputs": [None, "https://x/2", {}]}, "outputs", ("", "https://x/2", "")),
        ({"outputs": ["data:image/png;base64,AAAA"]}, "outputs", ("data:image/png;base64,AAAA",)),
        ({"outputs": ["https://x/\ud800"]}, "outputs", ("https://x/?",)),
        ({"outputs": ["a", "b"], "has_nsfw_contents": [True]}, "nsfw", (True, None)),
        ({"outputs": ["a"], "has_nsfw_contents": [False, True, True]}, "nsfw", (False,)),
        ({"outputs": ["a"]}, "nsfw", (None,)),
        ({"outputs": ["a"], "has_nsfw_contents": [0]}, "nsfw", (None,)),
        ({"outputs": ["a"], "has_nsfw_contents": True}, "nsfw", (True,)),
        ({"outputs": ["a", "b"], "has_nsfw_contents": False}, "nsfw", (None, None)),
        ({"status": "COMPLETED"}, "status", "completed"),
        ({"status": "warming_up"}, "status", "warming_up"),
        ({"status": "\x1b[2J"}, "status", "unknown"),
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
    task = answers.decode_task(response(task_body(**data)), "t1")
    assert getattr(task, field) == expected


def test_a_task_without_an_envelope_is_read_too() -> None:
    bare = {"id": "t1", "status": "failed", "code": 1402, "error": "HTTP 403"}
    task = answers.decode_task(response(bare), "t1")
    assert task.status == "failed"
    assert task.error == "the service could not reach the input image or a LoRA's URL: HTTP 403"
    assert answers.decode_submit(response({"id": "t1"})).status == "created"


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
        ("nan", None),
        ("9" * 30, 1e9),
        ("Mon, 99 Nov 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(response(status=429, retry_after=value)) == seconds


@pytest.mark.parametrize("status", [500, 503, 408])
def test_an_error_of_the_service_may_ask_for_patience_too(status: int) -> None:
    with pytest.raises(errors.Uncertain) as caught:
        raise_status(response(status=status, retry_after="7"), status, "look", "")
    assert caught.value.retry_after == 7
    with pytest.raises(errors.Uncertain) as caught:
        raise_status(response(status=status), status, "look", "")
    assert caught.value.retry_after is None


def test_a_retry_after_date_is_read_by_the_servers_clock() -> None:
    late = response(status=429, date="Mon, 23 Nov 2026 09:00:00 GMT", retry_after="Mon, 23 Nov 2026 09:00:10 GMT")
    assert retry_after(late) == 10.0
    assert server_date(late) == datetime(2026, 11, 23, 9, tzinfo=timezone.utc)


def test_a_redirect_names_the_host_it_leads_to() -> None:
    with pytest.raises(errors.Redirected, match=r"to evil\.example \(307\)"):
        answers.decode_submit(response(status=307, location="https://evil.example/api?key=1"))


@pytest.mark.parametrize(
    ("body", "price"),
    [
        (b'{"code":200,"data":{"price":0.015}}', Decimal("0.015")),
        (b'{"code":200,"data":{"price":0.1,"discounted_price":0.015}}', Decimal("0.015")),
        (b'{"price":"0.03"}', Decimal("0.03")),
        (b'{"price":1}', Decimal(1)),
        (b'{"price":0.1000000000000000055511151231257827}', Decimal("0.100000000000")),
        (b'{"price":-1}', None),
        (b'{"price":NaN}', None),
        (b'{"price":1e999999}', None),
        (b'{"price":true}', None),
        (b'{"price":1,"currency":"EUR"}', None),
        (b'{"code":404,"message":"no such model"}', None),
        (b"{}", None),
    ],
)
def test_prices_are_decimal_and_believable(body: bytes, price: Decimal | None) -> None:
    assert answers.decode_price(response(body)) == price


def test_a_service_without_prices_says_nothing_rather_than_zero() -> None:
    assert answers.decode_price(response(HTML, 404)) is None
    assert answers.decode_unit_price(response(b"", 405)) is None
    assert answers.decode_balance(response(b"", 404)) is None
    assert answers.decode_balance(response(b'{"code":200,"data":{"balance":-0.25}}')) == Decimal("-0.25")


def test_the_list_leaves_out_what_names_no_task() -> None:
    items = [{"id": "a", "status": "completed", "inputs": {"seed": 3}}, {"id": "../x"}, None, {"id": "b"}]
    tasks = answers.decode_predictions(response({"code": 200, "data": {"page": 1, "items": items}}))
    assert [(task.id, task.inputs) for task in tasks] == [("a", {"seed": 3}), ("b", None)]
    assert answers.decode_predictions(response({"code": 200, "data": {"items": None}})) == []
    with pytest.raises(errors.BadAnswer):
        answers.decode_predictions(response({"code": 200, "data": {}}))


def test_an_upload_ticket_cannot_set_the_headers_that_matter() -> None:
    headers = {"Content-Type": "image/png", "Authorization": "x", "Host": "y", "x-amz-acl": "z", "A\r\nB": "c"}
    data = {"upload": {"url": "https://s3/x", "headers": headers}, "download_url": "https://cdn/x"}
    ticket = answers.decode_upload_ticket(response({"code": 200, "data": data}))
    assert ticket is not None
    assert ticket.headers == {"Content-Type": "image/png", "x-amz-acl": "z"}


DECODERS = [
    answers.decode_submit,
    lambda answer: answers.decode_task(answer, "t1"),
    answers.decode_predictions,
    answers.decode_price,
    answers.decode_unit_price,
    answers.decode_balance,
    answers.decode_upload_ticket,
    answers.decode_upload_binary,
    answers.decode_upload_put,
]
NAMES = [
    "code",
    "message",
    "data",
    "id",
    "status",
    "outputs",
    "error",
    "items",
    "price",
    "unit_price",
    "balance",
    "upload",
    "url",
    "headers",
    "download_url",
    "has_nsfw_contents",
    "executionTime",
    "timings",
    "inference",
    "inputs",
    "currency",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["t1", "completed"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
BODIES = st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=int(os.environ.get("FLUX_LORA_FUZZ", "200")), deadline=None)
@given(
    body=BODIES,
    status=st.sampled_from([200, 201, 302, 400, 401, 404, 429, 500]) | st.integers(100, 999),
    headers=st.dictionaries(st.sampled_from(["retry-after", "location", "date"]), st.text(max_size=40)),
)
@example(body=b'{"code":200,"data":{"id":"t1","status":"x","outputs":["\\ud800"]}}', status=200, headers={})
@example(body=b"", status=302, headers={"location": "https://[::1"})
@example(body=b"", status=429, headers={"retry-after": "Mon, 1 Jan 99999 00:00:00 +9999"})
def test_whatever_comes_is_a_value_or_one_of_our_errors(body: bytes, status: int, headers: dict[str, str]) -> None:
    for decode in DECODERS:
        check_outcome(decode, HttpResponse(status, headers, body, received_at=NOW))


def check_outcome(decode: Any, answer: HttpResponse) -> None:
    try:
        value = decode(answer)
    except errors.FluxLoraError as error:
        assert printable(error.message) == error.message
        assert len(error.message) < 2000
    else:
        repr(value).encode()
