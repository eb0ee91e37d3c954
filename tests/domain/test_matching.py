"""Which task of the account's list is ours: too strict leaves paid work behind, too lax takes another's."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flux_lora_cli.domain.matching import find, inputs_agree, parse_time
from flux_lora_cli.domain.records import JobRecord, State
from flux_lora_cli.domain.task import Task

SENT: dict[str, Any] = {
    "prompt": "a cat",
    "image": "",
    "size": "1024*1024",
    "num_inference_steps": 28,
    "guidance_scale": 5.0,
    "num_images": 1,
    "seed": 12345,
    "loras": [{"path": "owner/name", "scale": 1}],
    "enable_safety_checker": True,
}
PIXELS = b"\x89PNG pixels"
IMAGE = f"inputs/{hashlib.sha256(PIXELS).hexdigest()}.png"
INLINE = base64.b64encode(PIXELS).decode()
MEANT = datetime(2026, 11, 23, 3, 0, tzinfo=timezone.utc)


def record(sent: dict[str, Any] = SENT) -> JobRecord:
    return JobRecord(
        "k", state=State.UNKNOWN, model="wavespeed-ai/flux-dev-lora", input=sent, intent_at="2026-11-23T03:00:00.000Z"
    )


def task(number: int = 1, **fields: Any) -> Task:
    given = {"model": "wavespeed-ai/flux-dev-lora", "created_at": "2026-11-23T03:00:01Z", "inputs": SENT, **fields}
    return Task(f"t{number}", "processing", **given)


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({}, True),
        ({"image": None}, True),  # nothing is nothing, however it is written
        ({"guidance_scale": 5}, True),
        ({"loras": [{"path": "owner/name", "scale": 1.0}]}, True),
        ({"extra": "x"}, True),
        ({"seed": 12346}, False),
        ({"seed": "12345"}, False),
        ({"prompt": "a dog"}, False),
        ({"loras": []}, False),
        ({"loras": [{"path": "owner/name", "scale": 0.9}]}, False),
        ({"num_images": 2}, False),
        ({"enable_safety_checker": False}, False),
        ({"image": "https://elsewhere/cat.png"}, False),
    ],
)
def test_an_echo_agrees_or_not(change: dict[str, Any], agrees: bool) -> None:
    assert inputs_agree(SENT, {**SENT, **change}) is agrees


@pytest.mark.parametrize("left_out", ["image", "size", "loras", "enable_safety_checker"])
def test_what_a_list_leaves_out_is_no_contradiction(left_out: str) -> None:
    assert inputs_agree(SENT, {k: v for k, v in SENT.items() if k != left_out}) is True


@pytest.mark.parametrize("echo", [None, {}, {"prompt": "a cat"}, {"seed": 12345}])
def test_too_little_told_is_neither(echo: dict[str, Any] | None) -> None:
    assert inputs_agree(SENT, echo) is None


@pytest.mark.parametrize(
    ("echoed", "agrees"),
    [
        (f"data:image/png;base64,{INLINE}", True),
        (INLINE, True),
        (f"data:image/png;base64,{base64.b64encode(b'other').decode()}", False),
        ("https://cdn.example/uploads/1.png", None),
        (INLINE[:5] + "...", None),
        ("", None),  # a list need not carry megabytes
        (None, None),
        (17, None),
    ],
)
def test_an_inline_image_is_known_by_its_hash(echoed: object, agrees: bool | None) -> None:
    assert inputs_agree({**SENT, "image": IMAGE}, {**SENT, "image": echoed}) is agrees


def test_an_image_that_the_list_does_not_mention_is_not_told() -> None:
    assert inputs_agree({**SENT, "image": IMAGE}, {k: v for k, v in SENT.items() if k != "image"}) is None


def test_a_url_as_input_is_compared_as_text() -> None:
    sent = {**SENT, "image": "https://a.example/1.png"}
    assert inputs_agree(sent, dict(sent)) is True
    assert inputs_agree(sent, {**sent, "image": "https://a.example/2.png"}) is False


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, True),
        ({"model": None}, True),
        ({"model": "flux-dev-lora"}, True),
        ({"model": "wavespeed-ai/flux-schnell-lora"}, False),
        ({"created_at": None}, True),
        ({"created_at": "yesterday"}, True),
        ({"created_at": "2026-11-23T02:51:00.123456789Z"}, True),
        ({"created_at": "2026-11-23T02:49:00Z"}, False),
        ({"created_at": "2026-11-23T03:14:00Z"}, True),
        ({"created_at": "2026-11-23T03:16:00Z"}, False),
    ],
)
def test_model_and_time_have_to_agree(fields: dict[str, Any], found: bool) -> None:
    until = MEANT + timedelta(minutes=5)
    assert bool(find(record(), [task(**fields)], (), until).matches) is found


def test_a_claimed_task_is_left_out() -> None:
    findings = find(record(), [task(1), task(2), task(3, inputs=None)], {"t1", "t3"})
    assert (findings.matches, findings.candidates) == (("t2",), ())


def test_a_task_listed_on_two_pages_is_one() -> None:
    assert find(record(), [task(1), task(1)], ()).matches == ("t1",)


def test_without_an_echo_there_are_candidates_only() -> None:
    findings = find(record(), [task(1, inputs=None), task(2, inputs={"seed": 12345})], ())
    assert (findings.matches, findings.candidates) == ((), ("t1", "t2"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T03:00:00Z", 0.0),
        ("2026-11-23T04:00:00+01:00", 0.0),
        ("2026-11-23T03:00:00.5Z", 0.5),
        ("2026-11-23T03:00:00", 0.0),
        ("2026-11-23T03:00:00.123456789+00:00", 0.123456),
    ],
)
def test_times_of_every_form(text: str, seconds: float) -> None:
    assert parse_time(text) == MEANT + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13-01T00:00:00Z"])
def test_no_time(text: str | None) -> None:
    assert parse_time(text) is None
