"""Job identity, version 1: the published vectors, and what they promise. A change here makes people pay twice."""

from __future__ import annotations

import hashlib
import json
import math
from importlib.resources import files
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.domain.fingerprint import fingerprint
from flux_lora_cli.domain.job import Job, LocalImage

_TEXT = files("flux_lora_cli").joinpath("resources/fingerprint-v1.json").read_text(encoding="utf-8")
VECTORS: list[dict[str, Any]] = json.loads(_TEXT)["vectors"]


def the_job(vector: dict[str, Any]) -> Job:
    sha = vector.get("local_image_sha256")
    image = LocalImage("/somewhere/cat.png", sha, 1, "image/png", "png") if sha else None
    return Job("id", "preset", vector["model"], vector["parameters"], vector["seed"], vector["repeat"], image)


def by_about(about: str) -> str:
    return next(vector["fingerprint"] for vector in VECTORS if vector["about"] == about)


def test_the_vectors_have_not_changed() -> None:
    # Version 1 is for ever: folders on people's disks depend on it.
    whole = "".join(vector["fingerprint"] for vector in VECTORS)
    assert (
        hashlib.sha256(whole.encode()).hexdigest() == "a220a08c7b6b82379f1f0f280f286349b5df4085c41c29f8cbdb510b4e90e87a"
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["about"])
def test_a_published_vector(vector: dict[str, Any]) -> None:
    assert fingerprint(the_job(vector)) == vector["fingerprint"]
    assert hashlib.sha256(vector["canonical"].encode()).hexdigest() == vector["fingerprint"]


def test_what_is_the_same_job() -> None:
    assert by_about("-1 is no seed") == by_about("a prompt and nothing else: no defaults, no seed")
    assert by_about("a fixed seed, whatever the repeat number") == by_about("a fixed seed, without a repeat number")
    assert by_about("numbers count by value") == by_about("numbers count by value: the same")
    assert by_about("keys in any order") == by_about("a default that was written is written")
    assert len({vector["fingerprint"] for vector in VECTORS}) == len(VECTORS) - 4


def test_id_preset_and_place_are_no_part_of_it() -> None:
    one = Job("a", "p", "m", {"prompt": "x"})
    other = Job("b", "q", "m", {"prompt": "x"})
    assert fingerprint(one) == fingerprint(other)


_NUMBERS = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
)
_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.recursive(
    st.one_of(_NUMBERS, _WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(_WORDS.filter(lambda key: key != "seed"), _VALUES, max_size=5))
def test_it_is_the_librarys_rfc_8785_whatever_the_parameters(params: dict[str, Any]) -> None:
    expected = rfc8785.dumps({"v": 1, "model": "m", "input": params, "seed": "random/1"})
    assert fingerprint(Job("id", "p", "m", params)) == hashlib.sha256(expected).hexdigest()


@given(st.floats(1e-9, 1e18), st.booleans())
def test_a_whole_number_is_the_same_with_and_without_a_point(value: float, up: bool) -> None:
    whole = float(math.ceil(value) if up else math.floor(value))
    if whole <= 2**53 - 1:
        point, none = ({"prompt": "x", "n": n} for n in (whole, int(whole)))
        assert fingerprint(Job("i", "p", "m", point)) == fingerprint(Job("i", "p", "m", none))
