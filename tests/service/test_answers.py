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
from flux_lora_cli.service.envelope import Answer, NoSuchList, open_envelope, retry_after
from flux_lora_cli.service.wire import Task, parse_time
from flux_lora_cli.text import printable

NOW = datetime(2026, 11, 23, 3, 14, 15, tzinfo=UTC)
HTML = b"<!DOCTYPE html><title>Blocked</title>"
OWN = {"code": 400, "message": "not like this"}


def response(body: Any = b"", status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, lower, data, "api.example", NOW)


def task_body(**data: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"id": "t1", "status": "created", **data}}


# ---- statuses -----------------------------------------------------------------------------------

#: Kinds of calls, statuses, bodies (each with each), and what they mean.
MEANINGS: list[tuple[str, str, list[Any], type[errors.FluxLoraError]]] = [
    ("submit poll list balance bill", "401", [OWN, HTML, b""], errors.KeyRefused),
    ("submit poll balance", "403", [OWN, {"error_code": "FORBIDDEN"}], errors.KeyRefused),
    ("submit upload", "403", [HTML, b"", b"Access denied", []], errors.Rejected),
    ("submit", "404 407 409 413 421 422 451", [OWN, HTML, b""], errors.Rejected),
    ("submit upload", "402", [OWN, b""], errors.OutOfCredit),
    ("submit", "400 403 422", [{"message": "Insufficient credits. Please top up."}], errors.OutOfCredit),
    ("submit", "400", [{"message": "Your balance is too low"}], errors.OutOfCredit),
    ("submit poll list", "400", [OWN], errors.Rejected),
    ("poll", "400", [{"message": "Insufficient credits"}], errors.Rejected),
    ("submit poll list", "425 429", [OWN, HTML, b""], errors.RateLimited),
    ("submit poll", "301 302 304 307 308", [b""], errors.Redirected),
    ("submit poll list", "408 499 500 502 503 504 520 529", [OWN, HTML, b"\xff\xfe"], errors.Uncertain),
    ("submit", "101 999", [b""], errors.BadAnswer),
    ("poll", "404 410", [OWN, HTML, b""], errors.TaskNotFound),
    ("poll", "400 403", [HTML], errors.BadAnswer),
    ("balance", "403", [HTML], errors.BadAnswer),
    ("list", "403 404 405", [OWN, HTML, b""], NoSuchList),
    ("models bill", "403 404", [OWN, HTML, b""], errors.ServiceError),
]


@pytest.mark.parametrize(("kinds", "statuses", "bodies", "expected"), MEANINGS)
def test_what_a_status_means_for_each_call(kinds: Any, statuses: str, bodies: list[Any], expected: type) -> None:
    for kind in kinds.split():
        for status in map(int, statuses.split()):
            for body in bodies:
                with pytest.raises(errors.FluxLoraError) as caught:
                    open_envelope(response(body, status), kind)
                assert type(caught.value) is expected, (kind, status, body)
                assert "None" not in caught.value.message


def test_a_page_that_wants_a_sign_in_stops_all_and_is_not_said_to_refuse_the_key() -> None:
    with pytest.raises(errors.KeyRefused, match=r"wants a sign-in .*page") as caught:
        wire.decode_submit(response(HTML, 401))
    assert "refused" not in caught.value.message


#: In place of a task's data, under status 200.
NO_TASK = [
    *(HTML, b"", b" \n", b"\xff\xfe\x00", b"null", b'"t1"', b'{"code":200,"data":{"id":"t1"', [{"id": "t1"}]),
    *({"code": 200, "data": data} for data in (None, [], {}, {"id": 7}, {"id": ""}, {"id": "t1\n"}, {"id": "t" * 129})),
    *({"code": 200, "data": {"id": text}} for text in ("../balance", "t1?x=1")),
    *({"code": code, "data": {"id": "t1"}} for code in ("abc", True, 1e300, 1200, 5004)),
    *(b"[" * 200_000, b'{"a":' * 100_000, b'{"code":' + b"9" * 900_000 + b"}"),
    b'{"data":{"id":"t1","x":%s}}' % (b"9" * 5000),
]
#: An envelope's own code counts as the status; and one answer is too long for anything in it to be believed.
CODES = [
    (b'{"data":{"id":"t1","x":[%s{}]}}' % (b"{}," * 900_000), errors.AnswerTooLong),
    ({"code": 400, "message": "no"}, errors.Rejected),
    ({"code": 400, "message": "Insufficient credits"}, errors.OutOfCredit),
    ({"code": "401", "message": "no"}, errors.KeyRefused),
    ({"code": 403, "message": "no"}, errors.KeyRefused),
    ({"code": 429, "message": "slow"}, errors.RateLimited),
    ({"code": 500, "message": "no", "data": {"id": "t1"}}, errors.Uncertain),
    ({"code": 302, "message": "no"}, errors.Redirected),
    ({"code": 404, "message": "no such model"}, errors.Rejected),
]


@pytest.mark.parametrize(("body", "expected"), [*((body, errors.BadAnswer) for body in NO_TASK), *CODES])
def test_a_submission_that_succeeded_without_a_task(body: Any, expected: type) -> None:
    with pytest.raises(errors.FluxLoraError) as caught:
        wire.decode_submit(response(body))
    assert type(caught.value) is expected


@pytest.mark.parametrize("body", [HTML, task_body(id="t2"), task_body(status=None), {"data": {"id": "t1"}}])
def test_a_poll_that_failed_is_never_a_task_that_failed(body: Any) -> None:
    with pytest.raises(errors.BadAnswer):
        wire.decode_task(response(body), "t1")


def test_a_redirect_names_the_host_it_leads_to() -> None:
    with pytest.raises(errors.Redirected, match=r"to evil\.example \(307\)"):
        wire.decode_submit(response(status=307, location="https://evil.example/api?key=1"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0), ("1.5", 1.5), ("9" * 30, 1e9)),
        *((text, None) for text in ("", "soon", "-5", "2, 3", "nan", "9" * 300, "Mon, 99 Nov 2026 99:99:99 GMT")),
        *(("Mon, 23 Nov 2026 03:14:45 GMT", 30.0), ("Mon, 23 Nov 2026 03:14:00 GMT", 0.0)),
    ],
)
def test_retry_after_in_both_forms(value: str, seconds: float | None) -> None:
    assert retry_after(response(status=429, retry_after=value)) == seconds


def test_a_retry_after_date_is_read_by_the_servers_clock() -> None:
    late = response(status=503, date="Mon, 23 Nov 2026 09:00:00 GMT", retry_after="Mon, 23 Nov 2026 09:00:10 GMT")
    with pytest.raises(errors.Uncertain) as caught:
        wire.decode_submit(late)
    assert caught.value.retry_after == 10.0


# ---- tasks --------------------------------------------------------------------------------------

URL = "https://x/1"
ALL_OF_V2 = {
    "model": "wavespeed-ai/flux-dev-lora",
    "outputs": ["https://d1.cloudfront.net/a.png", "https://d1.cloudfront.net/b.png"],
    "urls": {"get": "https://elsewhere.example/steal"},
    "has_nsfw_contents": [False, True],
    "status": "completed",
    "created_at": "2026-11-23T03:14:15.123456789Z",
    "error": "",
    "executionTime": 2412,
}


def test_the_whole_answer_of_v2() -> None:
    task = wire.decode_task(response(task_body(**ALL_OF_V2)), "t1")
    outputs, created = ("https://d1.cloudfront.net/a.png", "https://d1.cloudfront.net/b.png"), ALL_OF_V2["created_at"]
    assert task == Task("t1", "completed", "wavespeed-ai/flux-dev-lora", outputs, (False, True), str(created), 2412)
    assert parse_time(task.created_at) == datetime(2026, 11, 23, 3, 14, 15, 123456, tzinfo=UTC)
    assert task.terminal and task.completed


@pytest.mark.parametrize(
    ("field", "expected", "data"),
    [
        *(("status", same, {"status": same}) for same in ("created", "processing", "failed", "error", "deleted")),
        *(("status", "completed", {"status": said}) for said in ("COMPLETED", "succeeded", "success")),
        *(("status", "completed", {"status": said}) for said in ("succeeded(completed)", " Completed ")),
        *(("status", "cancelled", {"status": said}) for said in ("canceled", "Cancelled")),
        *(("status", word, {"status": said}) for word, said in (("warming_up", "warming up"), ("unknown", "\x1b[2J"))),
        *(("terminal", False, {"status": said}) for said in ("created", "processing", "warming up", "\x1b[2J")),
        *(("terminal", True, {"status": s}) for s in ("failed", "canceled", "timeout", "error", "rejected", "Expired")),
        ("execution_ms", 100, {"timings": {"inference": 99.6}}),
        *(("execution_ms", None, {"executionTime": odd}) for odd in ("soon", True, -1, 1e308)),
        ("outputs", (), {"outputs": None}),
        *(("outputs", (URL,), {"outputs": o}) for o in (URL, [[URL]], [{"image": URL}], [" HTTPS://x/1\n"])),
        *(("outputs", (URL,), data) for data in ({"outputs": None, "output": URL}, {"images": [{"url": URL}]})),
        ("outputs", (URL, "https://x/2"), {"outputs": [{"url": URL}, "https://x/2"]}),
        ("outputs", ("", URL, "", ""), {"outputs": [None, URL, {}, 7]}),
        ("outputs", ("iVBORw0KGgo=",), {"outputs": ["iVBORw0KGgo"]}),
        ("outputs", ("a+/bAAA=",), {"outputs": ["a-_b\nAAA"]}),
        ("outputs", ("data:image/png;base64,AA/+",), {"outputs": ["DATA:image/png;base64,AA_-"]}),
        ("outputs", ("https://x/?",), {"outputs": ["https://x/\ud800"]}),
        ("outputs", ("a===",) * 64, {"outputs": ["a"] * 1000}),
        ("nsfw", (True, None), {"outputs": ["a", "b"], "has_nsfw_contents": [True]}),
        ("nsfw", (False,), {"outputs": ["a"], "has_nsfw_contents": [False, True, True]}),
        *(("nsfw", (None,), {"outputs": ["a"], "has_nsfw_contents": flags}) for flags in (None, [0], "x")),
        ("nsfw", (True,), {"outputs": ["a"], "has_nsfw_contents": True}),
        ("nsfw", (None, None), {"outputs": ["a", "b"], "has_nsfw_contents": False}),
        ("error", "bad\\x1b[31m size", {"error": "bad\x1b[31m size"}),
        ("error", "bad", {"error": {"message": "bad"}}),
        ("error", "", {"error": None}),
        ("error", "x" * 499 + "…", {"error": "x" * 9999}),
        ("error", "content moderation refused the prompt or an image", {"code": 1200, "error": ""}),
        ("inputs", {"seed": 1}, {"inputs": {"seed": 1}}),
        ("inputs", {"guidance_scale": 3.5}, {"input": {"guidance_scale": 3.5}}),
        ("inputs", None, {"inputs": "x"}),
    ],
)
def test_fields_of_a_task(field: str, expected: object, data: dict[str, Any]) -> None:
    assert getattr(wire.decode_task(response(task_body(**data)), "t1"), field) == expected


def test_a_task_without_an_envelope_is_read_too() -> None:
    assert wire.decode_task(response({"id": "t1", "status": "failed", "error": "HTTP 403"}), "t1").error == "HTTP 403"
    assert wire.decode_submit(response({"id": "t1"})).status == "created"


def test_sync_mode_that_gave_up_waiting_is_a_task_that_goes_on() -> None:
    data = {"id": "t1", "status": "processing"}
    assert wire.decode_submit(response({"code": 5004, "message": "timed out", "data": data})) == Task(**data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, NOW) for text in ("2026-11-23T03:14:15Z", "2026-11-23T03:14:15", "2026-11-23 03:14:15+00:00")),
        ("2026-11-23T04:14:15.000000001+01:00", NOW),
        *((text, None) for text in ("yesterday", "", None, "9999-12-31T23:59:59-23:59", "2" * 5000)),
    ],
)
def test_times(text: str | None, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_the_list_leaves_out_what_names_no_task() -> None:
    items = [{"id": "a", "status": "completed", "inputs": {"seed": 3}}, {"id": "../x"}, None, {"id": "b"}]
    tasks = wire.decode_predictions(response({"code": 200, "data": {"page": 1, "items": items}}))
    assert [(task.id, task.inputs) for task in tasks] == [("a", {"seed": 3}), ("b", None)]
    assert wire.decode_predictions(response({"code": 200, "data": {"items": None}})) == []
    (other,) = wire.decode_predictions(response({"code": 200, "data": {"items": [{"uuid": "c"}]}}))
    assert other.id == "c"
    for data in ({}, {"items": [{"name": "d"}]}):  # nothing can be said of a list that cannot be read at all
        with pytest.raises(errors.BadAnswer):
            wire.decode_predictions(response({"code": 200, "data": data}))


def test_an_upload_cannot_set_the_headers_that_matter() -> None:
    headers = {"Content-Type": "image/png", "Authorization": "x", "Host": "y", "x-amz-acl": "z"}
    data = {"upload": {"url": "https://s3/x", "headers": headers}, "download_url": "https://cdn/x"}
    found = wire.decode_upload(response({"code": 200, "data": data}))
    assert found == ("https://s3/x", {"Content-Type": "image/png", "x-amz-acl": "z"}, "https://cdn/x")


# ---- money --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "odd", "said"),
    [
        ("0.015", False, '"price":0.1,"discounted_price":0.015'),
        *(("0.015", False, f'"price":0.015,"discounted_price":{cheaper}') for cheaper in ("0.015", "null")),
        *(("0.015", True, f'"price":0.015,"discounted_price":{c}') for c in ("0", "-1", "1e-13", "0.02", '"free"')),
        ("0.03", False, '"price":"0.03"'),
        ("1", False, '"price":1'),
        ("0.100000000000", False, '"price":0.1000000000000000055511151231257827'),
        *((None, True, f'"price":{odd}') for odd in ("0", "0.0", "1e-13", "-1", "1e999999", "true", '"1e-3"')),
        (None, True, '"price":0,"discounted_price":0.01'),
        (None, True, '"unit_price":0'),
        (None, False, '"price":NaN'),
        (None, False, '"price":1,"currency":"EUR"'),
        (None, False, '"code":404,"message":"no such model"'),
    ],
)
def test_prices_are_decimal_and_believable(price: str | None, odd: bool, said: str) -> None:
    found, note = wire.decode_price(response(f"{{{said}}}".encode()))
    assert (found, bool(note)) == (None if price is None else Decimal(price), odd)


def test_a_service_without_prices_says_nothing_rather_than_zero() -> None:
    assert [wire.decode_price(response(HTML, status))[0] for status in (403, 404, 405)] == [None] * 3
    assert wire.decode_balance(response(b"", 404)) is None
    assert wire.decode_balance(response(b'{"code":200,"data":{"balance":-0.25}}')) == Decimal("-0.25")


def bill(items: Any, **more: Any) -> wire.BillPage:
    return wire.decode_bill(response({"code": 200, "data": {"page": 1, "has_more": False, "items": items, **more}}))


def test_the_bill_keeps_prices_as_they_come() -> None:
    prediction = {"uuid": "t1", "model_uuid": "wavespeed-ai/flux-dev-lora", "status": "completed"}
    one = {"uuid": "b1", "billing_type": "deduct", "price": -0.25, "created_at": "2026-11-23T03:14:15Z"}
    one |= {"access_key_name": "laptop", "prediction": prediction}
    page = bill([one, {**one, "price": 24300, "currency": "credits"}, {**one, "price": "much"}, "x"], has_more=True)
    assert (page.has_more, page.unread) == (True, 1)
    first, second, third = page.items
    assert (first.kind, first.price, first.task_id) == ("deduct", Decimal("-0.25"), "t1")
    assert parse_time(first.created_at) == NOW
    assert first.model == "wavespeed-ai/flux-dev-lora"
    assert (second.price, second.shown, second.unit) == (Decimal(24300), "24300 credits", "credits")
    assert (third.price, third.shown) == (None, "much")


def test_bills_that_are_none() -> None:
    assert bill([]).items == ()
    assert bill([{"uuid": "b", "billing_type": "refund", "price": 1, "prediction": None}]).items[0].task_id is None
    wrong: tuple[Any, ...] = ("x", {}, ["x"], [{"price": 1}])
    for items in wrong:
        with pytest.raises(errors.BadAnswer):
            bill(items)


# ---- anything -----------------------------------------------------------------------------------

DECODERS: list[Any] = [
    *(wire.decode_submit, wire.decode_predictions, wire.decode_price, wire.decode_balance, wire.decode_bill),
    *(wire.decode_upload, wire.check_upload_put, lambda answer: wire.decode_task(answer, "t1")),
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


@settings(max_examples=int(os.environ.get("FLUX_LORA_FUZZ", "60")), deadline=None)
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
