"""What YAML makes of careless writing is named, with the place and the way out."""

from __future__ import annotations

import pytest

JOB = "jobs:\n- prompt: x\n  "


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("jobs:\n- prompt: no", "2:11", ["no without quotes is a boolean", '"no"']),
        ("jobs:\n- prompt: on", "2:11", ["boolean", '"on"']),
        ("jobs:\n- prompt: 16:9", "2:11", ["base-60", "969", '"16:9"']),
        ("jobs:\n- prompt: 0123", "2:11", ["octal", "83", '"0123"']),
        ("jobs:\n- prompt: 42", "2:11", ["number", '"42"']),
        ("jobs:\n- prompt: 2026-11-23", "2:11", ["date", '"2026-11-23"']),
        ("jobs:\n- prompt:", "2:10", ["nothing here"]),
        ("jobs:\n- prompt: ~", "2:11", ["nothing here"]),
        (JOB + "num_images: yes", "3:15", ["jobs[0].num_images", "yes is a boolean", "1 to 4"]),
        (JOB + "num_images: true", "3:15", ["boolean", "1 to 4"]),
        (JOB + "seed: 16:9", "3:9", ["base-60", "write 969"]),
        (JOB + "seed: 0123", "3:9", ["octal", "write 123 or 83"]),
        (JOB + "guidance_scale: 1e3", "3:19", ["text in YAML 1.1", "write 1000"]),
        (JOB + "guidance_scale: .nan", "3:19", ["not a finite number"]),
        (JOB + "guidance_scale: -.inf", "3:19", ["not a finite number"]),
        (JOB + "guidance_scale: 1.0e+999", "3:19", ["huge number"]),
        (JOB + "seed: " + "9" * 5000, "3:9", ["huge number of 5000 characters"]),
        (JOB + "seed: '1'", "3:9", ['"1" is text', "whole number from -1 to 9999999999"]),
        (JOB + "size: 16:9", "3:9", ["base-60", "WIDTH*HEIGHT"]),
        (JOB + "size: 1024x768", "3:9", ["not a size", '"1024*768"']),
        (JOB + "skip: 1", "3:9", ["true or false"]),
        (JOB + "loras: [{path: a/b, scale: no}]", "3:30", ["loras[0].scale", "boolean", "0 to 4"]),
        ("jobs:\n- prompt: a\n  prompt: b", "3:3", ['"prompt" is a duplicate', "line 2"]),
        ("jobs:\n- prompt: a\n\tseed: 1", "3:1", ["a tab", "spaces"]),
        ("jobs:\n- prompt: !!python/object:os.system x", "2:11", ["the tag", "quotes"]),
        ("jobs:\n- prompt: !secret x", "2:11", ["the tag !secret"]),
        ("jobs:\n- prompt: a\n---\njobs:\n- prompt: b", "3:1", ["second document"]),
        ("jobs:\n- prompt: *x", "2:11", ["alias *x has no anchor"]),
        ("jobs: &a\n- *a", "2:3", ["contains itself"]),
        ("jobs:\n- prompt: a: b", "2:12", ["quotes"]),
        ("jobs:\n- prompt: @home", "2:11", ["text that begins with @ goes in quotes"]),
        ("jobs:\n- {<<: 1, prompt: a}", "2:4", ["<< takes a mapping"]),
        ("jobs:\n- [x]: y\n  prompt: a", "2:3", ["a key must be text"]),
        ("", "1:1", ["empty"]),
        ("# nothing\n", "1:1", ["empty"]),
        ("- prompt: a", "1:1", ["a preset is a mapping"]),
        ("jobs:\n- prompt: \x07", None, ["U+0007"]),
        ("a: " * 2 + "[" * 300, None, ["p.yaml:1:"]),
        ("jobs: " + "[" * 300, None, ["nested more than 40"]),
    ],
)
def test_trap_is_named_at_its_place(studio, text, place, words):
    found = studio.problems(text)
    assert found
    for word in words:
        assert word in found[0], found
    if place:
        assert found[0].startswith(f"p.yaml:{place}: "), found


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("enable_safety_checker", "no", False),
        ("num_inference_steps", "28.0", 28),
        ("guidance_scale", "3.5", 3.5),
        ("seed", "0x10", 16),
    ],
)
def test_what_is_clear_is_taken(studio, key, text, value):
    job = studio.load("p.yaml", f"jobs:\n- prompt: x\n  {key}: {text}").jobs[0]
    assert (job.seed if key == "seed" else job.params[key]) == value


def test_text_that_only_looks_odd_is_text(studio):
    assert studio.prompts("jobs:\n- prompt: 1e3\n- prompt: 'no'\n- prompt: |\n    16:9\n") == ["1e3", "no", "16:9\n"]


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfjobs:\n- prompt: a\n", b"jobs:\r\n- prompt: a\r\n"])
def test_byte_order_mark_and_crlf_are_fine(studio, data):
    assert [job.id for job in studio.load("p.yaml", data).jobs] == ["a"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"jobs:\n- prompt: caf\xe9\n", ["p.yaml:2:14", "not UTF-8", "0xe9"]),
        ("jobs: []".encode("utf-16"), ["p.yaml:1:1", "UTF-16"]),
    ],
)
def test_other_encodings_are_named(studio, data, words):
    found = studio.problems(data)
    assert all(word in found[0] for word in words), found


def test_merge_keys_and_aliases_work(studio):
    text = """
jobs:
- &base
  id: one
  prompt: a
  seed: 1
- <<: *base
  id: two
  prompt: b
"""
    jobs = studio.load("p.yaml", text).jobs
    assert [(job.id, job.params["prompt"], job.seed) for job in jobs] == [("one", "a", 1), ("two", "b", 1)]


def test_the_pure_parser_reads_the_same():
    from flux_lora_cli.domain.presets.nodes import plain
    from flux_lora_cli.domain.presets.problems import Problems
    from flux_lora_cli.domain.presets.yaml_reader import read_yaml

    text = "a: &x {b: [1, no, 'q', 0x10, 1.5], c: |\n   t\n  }\n"
    text = "a: &x {b: [1, no, 'q', 0x10, 1.5]}\nc: *x\nd: {<<: *x, e: ~}\n"
    both = []
    for libyaml in (True, False):
        problems = Problems()
        node = read_yaml(text, "f", problems, libyaml=libyaml)
        assert node is not None and not problems
        both.append(plain(node))
    assert both[0] == both[1]
    assert both[0]["d"] == {"b": [1, False, "q", 16, 1.5], "e": None}
