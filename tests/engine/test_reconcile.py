"""Which task of the account a lost submission made: by meaning, by the drawn seed, by the service's clock."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.engine.reconcile import bill_candidates, find_task
from flux_lora_cli.folder.records import JobRecord, State
from flux_lora_cli.service.wire import BillItem, Task

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEED = 1_234_567_890
PICTURE = b"\x89PNG" + bytes(range(256)) * 40
SHA = hashlib.sha256(PICTURE).hexdigest()
INPUT: dict[str, Any] = {
    "prompt": "a café on a wall",
    "image": "",
    "size": "512*512",
    "num_inference_steps": 28,
    "guidance_scale": 5,
    "num_images": 1,
    "seed": SEED,
    "loras": [{"path": "owner/retro", "scale": 0.8}, {"path": "https://civitai.com/api/download/models/9", "scale": 1}],
    "enable_safety_checker": True,
}


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def record(*, drawn: bool | None = False, clock: float | None = 0.0, **changes: Any) -> JobRecord:
    return JobRecord(
        "k", id="job-1", state=State.UNKNOWN, model="wavespeed-ai/flux-dev-lora", input={**INPUT, **changes},
        api_version="v2", intent_at=stamp(NOON), service_clock=clock, seed_drawn=drawn,
    )  # fmt: skip


def task(task_id: str = "t1", at: datetime | str | None = NOON, **changes: Any) -> Task:
    """A task as the list shows it; a change to ``...`` leaves the key out."""
    inputs = {key: value for key, value in {**INPUT, **changes}.items() if value is not ...}
    created = stamp(at) if isinstance(at, datetime) else at
    return Task(task_id, "processing", "wavespeed-ai/flux-dev-lora", created_at=created, inputs=inputs)


Found = dict[str, bool]
NOTHING: Found = {}
MATCH, CANDIDATE = {"t1": True}, {"t1": False}


@pytest.mark.parametrize(
    "echo",
    [
        {},
        {"seed": str(SEED)},
        {"seed": f" {SEED}.0 "},
        {"prompt": "  a café on a wall\n"},
        {"prompt": unicodedata.normalize("NFD", INPUT["prompt"])},
        {"size": "512x512"},
        {"size": "512 × 512"},
        {"num_inference_steps": "28"},
        {"guidance_scale": "5.0"},
        {"enable_safety_checker": "true"},
        {"enable_safety_checker": 1},
        {"enable_safety_checker": "Yes"},
        {"prompt": "a caf&eacute; on a wall"},
        {"image": None},
        {"image": ...},
        {"loras": [{**INPUT["loras"][0], "scale": "0.8"}, INPUT["loras"][1]]},
        {"loras": [{**INPUT["loras"][0], "scale": 0.800000011920929}, INPUT["loras"][1]]},
        {"loras": [{**INPUT["loras"][0], "path": "https://huggingface.co/owner/retro"}, INPUT["loras"][1]]},
        {"loras": [{**INPUT["loras"][0], "path": "http://www.hf.co/Owner/Retro/"}, INPUT["loras"][1]]},
        {"loras": ["owner/retro:0.8", INPUT["loras"][1]]},
        {"loras": [INPUT["loras"][0], {"path": INPUT["loras"][1]["path"]}]},
        {"output_format": "jpeg", "enable_sync_mode": False},
    ],
    ids=repr,
)
@pytest.mark.parametrize("drawn", [True, False])
def test_values_agree_by_meaning(echo: dict[str, Any], drawn: bool) -> None:
    assert find_task(record(drawn=drawn), [task(**echo)]) == MATCH


@pytest.mark.parametrize(
    ("echo", "drawn", "fixed"),
    [
        # What a list leaves out is left open, unless the drawn seed tells.
        ({"size": ...}, MATCH, CANDIDATE),
        ({"loras": ...}, MATCH, CANDIDATE),
        ({"prompt": ...}, CANDIDATE, CANDIDATE),
        ({"prompt": "a café on…"}, CANDIDATE, CANDIDATE),
        ({"seed": ...}, CANDIDATE, CANDIDATE),
        ({"seed": "hidden"}, CANDIDATE, CANDIDATE),
        ({"loras": "hidden"}, MATCH, CANDIDATE),
        ({"size": {"width": 512, "height": 512}}, MATCH, CANDIDATE),
        ({"enable_safety_checker": "standard"}, MATCH, CANDIDATE),
        # Another value: not ours, unless the drawn seed agrees; then it may be a spelling that we do not know.
        ({"prompt": "a dog"}, CANDIDATE, NOTHING),
        ({"size": "512*768"}, CANDIDATE, NOTHING),
        ({"guidance_scale": 5.1}, CANDIDATE, NOTHING),
        ({"enable_safety_checker": False}, CANDIDATE, NOTHING),
        ({"loras": INPUT["loras"][::-1]}, CANDIDATE, NOTHING),
        ({"loras": INPUT["loras"][:1]}, CANDIDATE, NOTHING),
        ({"loras": [{"path": "owner/other", "scale": 0.8}, INPUT["loras"][1]]}, CANDIDATE, NOTHING),
        ({"image": "https://example.com/a.png"}, CANDIDATE, NOTHING),
        # Another seed: never ours.
        ({"seed": SEED + 1}, NOTHING, NOTHING),
        ({"seed": -1}, NOTHING, NOTHING),
        ({"seed": ..., "prompt": "a dog"}, NOTHING, NOTHING),
    ],
    ids=repr,
)
def test_what_a_list_tells_in_part_or_otherwise(echo: dict[str, Any], drawn: Found, fixed: Found) -> None:
    assert find_task(record(drawn=True), [task(**echo)]) == drawn
    assert find_task(record(drawn=False), [task(**echo)]) == fixed


@pytest.mark.parametrize("inputs", [None, {}])
def test_a_list_without_inputs_only_names_candidates(inputs: dict[str, Any] | None) -> None:
    bare = replace(task(), inputs=inputs)
    assert find_task(record(drawn=True), [bare]) == CANDIDATE
    late = replace(bare, created_at=stamp(NOON + timedelta(hours=3)))
    assert find_task(record(drawn=True), [late]) == NOTHING


DEV, TWO = "wavespeed-ai/flux-dev-lora", "wavespeed-ai/flux-2-dev/text-to-image-lora"


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    [
        (DEV, "flux-dev-lora", True),
        (DEV, "WaveSpeed-AI/flux-dev-lora", True),
        (DEV, None, True),
        (DEV, "wavespeed-ai/flux-dev-lora:v2", True),
        (DEV, "https://wavespeed.ai/models/wavespeed-ai/flux-dev-lora", True),
        (DEV, "WaveSpeed AI / FLUX dev LoRA", True),
        (DEV, "00c0ffee-0000-4000-8000-0123456789ab", True),
        (DEV, "wavespeed-ai/flux-dev-lora-ultra-fast", False),
        (DEV, "other/flux-dev-lora", False),
        (TWO, "flux-2-dev/text-to-image-lora", True),
        (TWO, "wavespeed-ai/qwen-image/text-to-image-lora", False),
    ],
)
def test_a_model_may_be_called_otherwise(ours: str, theirs: str | None, agrees: bool) -> None:
    for drawn, other in ((False, NOTHING), (True, CANDIDATE)):
        found = find_task(replace(record(drawn=drawn), model=ours), [replace(task(), model=theirs)])
        assert found == (MATCH if agrees else other)


HOUR, DAY = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("ahead", "drawn", "fixed"),  # seconds by which the task's time is later than the intent
    [
        (0.0, MATCH, MATCH),
        (-500.0, MATCH, MATCH),
        (1200.0, MATCH, NOTHING),
        (-3 * DAY, MATCH, NOTHING),
        (20 * HOUR, MATCH, NOTHING),
    ],
)
def test_time_never_outweighs_a_drawn_seed(ahead: float, drawn: Found, fixed: Found) -> None:
    made = task(at=NOON + timedelta(seconds=ahead))
    assert find_task(record(drawn=True), [made]) == drawn
    assert find_task(record(drawn=False), [made]) == fixed
    unsure = CANDIDATE if fixed == NOTHING else MATCH
    assert find_task(record(drawn=None), [made]) == unsure


@pytest.mark.parametrize("skew", [-1200.0, 1200.0, 20 * HOUR])
def test_time_is_the_services_own(skew: float) -> None:
    made = task(at=NOON + timedelta(seconds=skew))
    assert find_task(record(clock=skew), [made]) == MATCH
    assert find_task(record(clock=0.0), [made]) == NOTHING
    assert find_task(record(clock=None), [made]) == CANDIDATE  # nobody knows whose clock is off


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("2026-03-01T12:00:07.123456789Z", MATCH),
        ("2026-03-01T20:00:07+08:00", MATCH),
        ("2026-03-01 12:00:07", MATCH),
        ("2026-03-01 20:00:07", CANDIDATE),  # the wall clock of somewhere
        ("yesterday", CANDIDATE),
        (None, CANDIDATE),
        ("2026-02-26T12:00:07Z", NOTHING),
    ],
)
def test_times_in_any_form(text: str | None, fixed: Found) -> None:
    assert find_task(record(drawn=False), [task(at=text)]) == fixed
    assert find_task(record(drawn=True), [task(at=text)]) == MATCH


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("echo", "fixed"),
    [
        (f"inputs/{SHA}.png", MATCH),
        (f"data:image/png;base64,{encoded(PICTURE)}", MATCH),
        (encoded(PICTURE), MATCH),
        (SHA, MATCH),
        (f"sha256:{SHA.upper()}", MATCH),
        (f"https://uploads.example/{SHA}.png?x=1", MATCH),
        ("https://uploads.example/abc.png", CANDIDATE),
        (f"data:image/png;base64,{encoded(PICTURE)[:101]}", CANDIDATE),
        (f"{encoded(PICTURE)[:100]}…", CANDIDATE),
        (encoded(PICTURE[:-1]), CANDIDATE),
        ("", CANDIDATE),
        (..., CANDIDATE),
        (7, CANDIDATE),
        ("0" * 64, CANDIDATE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_local_image_by_hash_bytes_or_upload(echo: Any, fixed: Found) -> None:
    ours: dict[str, Any] = {"image": f"inputs/{SHA}.png", "strength": 0.6}
    assert find_task(record(drawn=False, **ours), [task(image=echo, strength=0.6)]) == fixed
    drawn = CANDIDATE if fixed == NOTHING else MATCH
    assert find_task(record(drawn=True, **ours), [task(image=echo, strength=0.6)]) == drawn


def test_a_list_of_images_one_by_one() -> None:
    ours: dict[str, Any] = {"images": [f"inputs/{SHA}.png", "https://example.com/a.png?token=x"]}
    assert find_task(record(**ours), [task(images=[encoded(PICTURE), "https://example.com/a.png"])]) == MATCH
    assert find_task(record(**ours), [task(images=[encoded(PICTURE)])]) == NOTHING
    assert find_task(record(**ours), [task(images=[encoded(PICTURE), "https://cdn.example/1"])]) == CANDIDATE


def test_twins_are_both_named() -> None:
    twins = [task("t1"), task("t2"), task("t1"), task("t3", seed=None)]
    assert find_task(record(), twins) == {"t1": True, "t2": True, "t3": False}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "scale", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*INPUT, "images", "mask_image"]), JSON), st.booleans())
def test_no_echo_breaks_it_and_a_drawn_seed_that_agrees_is_never_dropped(echo: dict[str, Any], drawn: bool) -> None:
    find_task(record(drawn=drawn), [replace(task(), inputs=echo)])
    assert find_task(record(drawn=True), [task(**{**echo, "seed": SEED})]) != NOTHING


def test_charges_of_the_model_and_the_time_are_candidates() -> None:
    def charge(task_id: str | None, at: datetime, model: str | None = None) -> BillItem:
        return BillItem("b", "deduct", None, "", created_at=stamp(at), task_id=task_id, model=model)

    soon = NOON + timedelta(seconds=30)
    charges = [
        charge("t1", soon, "flux-dev-lora"), charge("t1", soon), charge("t1", soon, "5f2d7c1e"), charge(None, soon),
        charge("other-model", soon, "z-image/turbo-lora"),
        charge("earlier", NOON - timedelta(hours=1)), charge("later", NOON + timedelta(hours=1)),
    ]  # fmt: skip
    assert bill_candidates(record(), charges) == ("t1",)
    assert bill_candidates(record(clock=3600.0), charges) == ("later",)
