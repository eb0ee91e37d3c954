"""The fast way to RFC 8785 and the library's agree."""

from __future__ import annotations

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.domain.fingerprint import canonical

_NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_canonical_is_what_the_library_writes(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_numbers_count_by_value() -> None:
    assert canonical({"a": 1.0, "b": [5]}) == canonical({"b": [5.0], "a": 1})
