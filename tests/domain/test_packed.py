"""Values and records that are packed read like those that they were made of."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.domain.packed import pack, unpack
from flux_lora_cli.domain.records import JobRecord, OutputRecord, State

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
VALUES = st.dictionaries(st.text(), JSON, max_size=5)
TEXT = st.none() | st.text()
NUMBER = st.none() | st.integers(0, 2**40)
OUTPUTS = st.builds(
    OutputRecord, st.integers(0, 3), url=TEXT, nsfw=st.none() | st.booleans(), file=TEXT, sha256=TEXT, bytes=NUMBER,
    width=NUMBER, height=NUMBER, media_type=TEXT, saved_at=TEXT, error=TEXT, mtime_ns=NUMBER, writing=TEXT, temp=TEXT,
    left_out=st.booleans(),
)  # fmt: skip
RECORDS = st.builds(
    JobRecord, st.text(), id=TEXT, order=st.integers(0), aliases=st.lists(st.text(), max_size=2).map(tuple),
    preset=TEXT, fingerprint=TEXT, state=st.sampled_from(State), model=TEXT, input=st.none() | VALUES, task_id=TEXT,
    task_model=TEXT, task_status=TEXT, task_created_at=TEXT, task_error=st.text(), execution_ms=NUMBER,
    matched_by=TEXT, intent_at=TEXT, attempts=st.integers(0, 3), earlier_tasks=st.just(("a",)) | st.just(()),
    price=st.none() | st.decimals(allow_nan=False, allow_infinity=False), error=TEXT,
    outputs=st.lists(OUTPUTS, max_size=3),
)  # fmt: skip
NAMES = [f.name for f in fields(JobRecord) if f.init]


@given(VALUES)
def test_packed_values_are_the_same(values: dict[str, Any]) -> None:
    assert unpack(pack(values)) == values


@given(RECORDS)
def test_a_record_at_rest_reads_the_same(record: JobRecord) -> None:
    before = copy.deepcopy(record)
    for name in NAMES:
        record.rest()
        assert getattr(record, name) == getattr(before, name)
    record.rest()
    assert record == before
    record.rest()
    assert replace(record) == before
    record.rest()
    assert pickle.loads(pickle.dumps(record)) == before


@given(RECORDS)
def test_its_awake_copy_leaves_it_at_rest(record: JobRecord) -> None:
    assert record.awake() is record
    for output in record.outputs:
        output.temp = None
    before = copy.deepcopy(record)
    record.rest()
    seen = record.awake()
    assert seen.resting is None
    assert record.resting is not None
    assert seen == before
    assert (record.key, record.state, record.task_id, record.cost) == (
        before.key, before.state, before.task_id, before.cost,
    )  # fmt: skip
    assert record.resting is not None


@given(RECORDS, st.sampled_from(NAMES), st.booleans())
def test_what_is_written_at_rest_counts(record: JobRecord, name: str, copied: bool) -> None:
    other = JobRecord("k", outputs=[OutputRecord(7)], input={"seed": 1}, price=Decimal(3), task_error="x", order=5)
    before = copy.deepcopy(record)
    setattr(before, name, getattr(other, name))
    record.rest()
    setattr(record, name, getattr(other, name))
    if copied:
        assert record.awake() == before
    record.rest()
    assert record == before


def test_outputs_that_are_changed_through_it_stay_changed() -> None:
    record = JobRecord("k", outputs=[OutputRecord(0)])
    record.rest()
    record.outputs[0].file = "a.png"
    record.rest()
    assert record.awake().outputs == [OutputRecord(0, file="a.png")]


def test_a_record_with_an_image_on_its_way_stays_awake() -> None:
    record = JobRecord("k", outputs=[OutputRecord(0), OutputRecord(1, temp=".x.part")])
    record.rest()
    assert record.resting is None


def test_it_has_no_other_fields() -> None:
    record = JobRecord("k")
    record.rest()
    with pytest.raises(AttributeError, match="no 'colour'"):
        record.colour  # noqa: B018
    assert not hasattr(record, "colour")
