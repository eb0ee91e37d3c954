"""A packed mapping reads like the plain one."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.domain.packed import Packed, plain_dict

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_it_reads_like_the_mapping_it_was_made_of(values: dict[str, object]) -> None:
    packed = Packed(values)
    assert packed == values
    assert list(packed) == list(values)
    assert (len(packed), dict(packed), {**packed}) == (len(values), values, values)
    assert plain_dict(packed) == plain_dict(values) == values
    assert Packed(packed) == values
    assert repr(packed) == repr(values)
    assert all(packed[key] == values[key] for key in values)
    with pytest.raises(KeyError):
        packed["".join(values) + "x"]


def test_it_is_smaller() -> None:
    values = {name: number for number, name in enumerate("abcdefghi")}
    packed = Packed(values)
    assert sys.getsizeof(packed) + sys.getsizeof(packed._text) < sys.getsizeof(values)
