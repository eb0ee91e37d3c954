"""The short way through a plain line gives what the long one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_lora_cli.domain.presets.json_lines import _Line, _plain_object
from flux_lora_cli.domain.presets.nodes import Map, Node, Scalar, Seq
from flux_lora_cli.domain.presets.problems import Problems

SPACES = st.text(" \t\r", max_size=2)
KEYS = st.sampled_from(["prompt", "seed", "id", "A_1"]) | st.text(max_size=3)
VALUES = (
    st.text(max_size=5)
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False)
    | st.sampled_from([True, False, None, [], {}])
)


def spread(node: Node) -> Any:
    """A node as plain values, places and all."""
    if isinstance(node, Map):
        return node.line, node.column, [(key, *entry[:2], spread(entry[2])) for key, entry in node.entries.items()]
    if isinstance(node, Seq):
        return node.line, node.column, [spread(item) for item in node.items]
    return node.line, node.column, type(node.value), node.value, node.text, node.trap


@given(st.lists(st.tuples(KEYS, VALUES, SPACES, SPACES), max_size=4), st.booleans(), SPACES)
def test_both_ways_read_the_same(pairs: list[tuple[str, Any, str, str]], escaped: bool, end: str) -> None:
    inside = ",".join(
        f"{a}{json.dumps(key, ensure_ascii=escaped)}{b}:{a}{json.dumps(value, ensure_ascii=escaped)}{b}"
        for key, value, a, b in pairs
    )
    line = f"{{{inside}}}{end}"
    short = _plain_object(line, 7)
    if short is not None:
        problems = Problems()
        assert spread(short) == spread(_Line(line, 7, "f", problems).whole())
        assert not problems


def test_most_lines_go_the_short_way() -> None:
    node = _plain_object('{"id": "job-1", "prompt": "a cät, [x]", "seed": 4, "image": null}', 3)
    assert node is not None
    value = node.entries["seed"]
    assert value[:2] == (3, 41)
    assert isinstance(value[2], Scalar)
    assert (value[2].value, value[2].column) == (4, 49)


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1} x',
        '{"a": 1,}',
        '{"a": 01}',
        '{"a": 1.5}',
        '{"a": "\\n"}',
        '{"a": 12345678901234567890}',
        '{"a": "x\ud800"}',
        '{"a": [1]}',
        '{"a" 1}',
        "{}",
        "[]",
        ' {"a": 1}',
    ],
)
def test_what_is_not_plain_goes_the_long_way(line: str) -> None:
    assert _plain_object(line, 1) is None
