"""YAML 1.2 as editors read it; what careless writing makes of it is told with its place and the way out."""

from __future__ import annotations

from typing import Any

import pytest

from flux_lora_cli.presets.nodes import Problems, Source
from flux_lora_cli.presets.read import read_yaml

JOB = "jobs:\n- prompt: x\n  "
#: The core schema: what is written, and what it is.
SCALARS: list[tuple[str, Any]] = [
    ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None), ("nULL", "nULL"),
    ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
    ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"),
    ("12:30", "12:30"), ("1:2:3", "1:2:3"), ("2024-01-01", "2024-01-01"),
    ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
    ("010", 10), ("-010", -10), ("0o10", 8), ("0x10", 16), ("0xfF", 255), ("0b11", "0b11"), ("1_0", "1_0"), ("+1", 1),
    ("1e1", 10.0), ("1.5e-3", 0.0015), (".5", 0.5), ("5.", 5.0), ("1.", 1.0), ("1e", "1e"), ("e1", "e1"),
    ("1.2.3", "1.2.3"), ("1,5", "1,5"), ("٣", "٣"), ("'1'", "1"), ('"yes"', "yes"), ("!!str 1", "1"), ("! 1", "1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS)
@pytest.mark.parametrize("libyaml", [True, False])
def test_a_scalar_is_what_an_editor_takes_it_for(
    text: str, value: Any, libyaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux_lora_cli.presets.read.HAS_LIBYAML", libyaml)
    problems = Problems()
    node = read_yaml(f"a: {text}\n", Source("f"), problems)
    assert node is not None and not problems
    found = node.plain()["a"]
    assert found == value and type(found) is type(value)


def test_infinity_is_a_number_that_nothing_takes(studio) -> None:
    for text in (".inf", "-.Inf", ".nan", "1e999", "9" * 400):
        assert "guidance_scale" in studio.problems(JOB + f"guidance_scale: {text}")[0], text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("jobs:\n- prompt: 42", "2:11", ["quotes"]),
        ("jobs:\n- prompt: true", "2:11", ["quotes"]),
        ("jobs:\n- prompt:", "2:10", ["nothing here"]),
        (JOB + "num_images: yes", "3:15", ["jobs[0].num_images", '"yes"', "from 1 to 4"]),
        (JOB + "enable_safety_checker: no", "3:26", ["text in YAML 1.2", "true or false"]),
        (JOB + "seed: 12:30", "3:9", ['"12:30"', "a whole number"]),
        (JOB + "seed: " + "9" * 5000, "3:9", ["allowed"]),
        (JOB + "seed: '1'", "3:9", ['"1"', "from -1 to 9999999999"]),
        (JOB + "size: 1024x768", "3:9", ["not a size", "'1024*768'"]),
        (JOB + "loras: [{path: a/b, scale: no}]", "3:30", ["loras[0].scale", "from 0 to 4"]),
        (JOB + "num_images:", "3:14", ["jobs[0].num_images", "nothing here"]),
        ("jobs:\n- prompt: a\n  prompt: b", "3:3", ['jobs[0].prompt: the key "prompt" is a duplicate', "line 2"]),
        ("jobs:\n- prompt: a\n\tseed: 1", "3:1", ["a tab", "spaces"]),
        ("jobs:\n- prompt: !!python/object:os.system x", "2:11", ["the tag", "quotes"]),
        ("jobs:\n- prompt: a\n---\njobs:\n- prompt: b", "3:1", ["second document"]),
        ("jobs:\n- prompt: *x", "2:11", ["alias *x has no anchor"]),
        ("jobs: &a\n- *a", "2:3", ["contains itself"]),
        ("jobs:\n- prompt: a: b", "2:12", ["quotes"]),
        ("jobs:\n- prompt: @home", "2:11", ["text that begins with @ goes in quotes"]),
        ("jobs:\n- {<<: 1, prompt: a}", "2:4", ["<< takes a mapping"]),
        ("jobs:\n- [x]: y\n  prompt: a", "2:3", ["a key must be text"]),
        ('jobs:\n- prompt: "a \\{b|c}"', "2:14", ['"\\\\{"', "single quotes"]),
        ("", "1:1", ["empty"]),
        ("- prompt: a", "1:1", ["a preset is a mapping"]),
        ("jobs:\n- prompt: \x07", "2:11", ["U+0007"]),
        ("jobs: " + "[" * 300, None, ["nested more than 40"]),
    ],
)  # fmt: skip
def test_a_slip_is_told_at_its_place(studio, text: str, place: str | None, words: list[str]) -> None:
    found = studio.problems(text)
    assert found
    for word in words:
        assert word in found[0], found
    if place:
        assert found[0].startswith(f"p.yaml:{place}: "), found


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfjobs:\n- prompt: a\n", b"jobs:\r\n- prompt: a\r\n"])
def test_byte_order_mark_and_crlf_are_fine(studio, data: bytes) -> None:
    assert studio.ids(data) == ["a"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"jobs:\n- prompt: caf\xe9\n", ["p.yaml:2:14", "not UTF-8", "0xe9"]),
        ("jobs: []".encode("utf-16"), ["p.yaml:1:1", "not UTF-8"]),
        ("jobs: []".encode("utf-16-le"), ["p.yaml:1:2", "U+0000"]),
    ],
)
def test_other_encodings_are_named(studio, data: bytes, words: list[str]) -> None:
    found = studio.problems(data)
    assert all(word in found[0] for word in words), found


def test_merge_keys_aliases_and_anchor_holders(studio) -> None:
    text = """
x-base: &base {prompt: a, seed: 1}
x-lora: &lora {path: o/n, scale: 0.5}
jobs:
- {<<: *base, id: one, x-note: ignored}
- {<<: [*base, {num_images: 2, prompt: c}], id: two, loras: [*lora]}
"""
    one, two = studio.load(text).jobs
    assert (one.id, one.params, one.seed) == ("one", {"prompt": "a"}, 1)
    assert two.params == {"prompt": "a", "num_images": 2, "loras": [{"path": "o/n", "scale": 0.5}]}


def test_a_problem_in_an_alias_is_told_where_it_is_written(studio) -> None:
    found = studio.problems("x-a: &a\n  seed: x\njobs:\n- {<<: *a, prompt: a}\n- {<<: *a, prompt: b}\n")
    assert len(found) == 1 and found[0].startswith("p.yaml:2:9: jobs[0].seed")
