"""The JSON Schema and the checker agree, on documents of every kind, and on YAML as people write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flux_lora_cli.presets.language import schema
from flux_lora_cli.presets.load import LoadOptions, Reader
from flux_lora_cli.presets.nodes import Problems, Source
from flux_lora_cli.presets.read import read_yaml
from flux_lora_cli.presets.sources import Files

VALIDATOR = Draft202012Validator(schema())
ROOT = Path(__file__).parents[2]
OURS = [*sorted((ROOT / "presets").glob("*.yaml")), ROOT / "flux_lora_cli/resources/new-preset.yaml"]
#: Reasons of the checker that no schema can see.
BEYOND = (
    "the seeds count up", "no stack", "no such file", "is a duplicate", "lists go together", "is in matrix, too",
    "needs image", "needs a prompt", "no prompt;",
)  # fmt: skip


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_the_projects_presets_are_valid(path: Path) -> None:
    node = read_yaml(path.read_text("utf-8"), Source("p"), Problems())
    assert node is not None
    VALIDATOR.validate(node.plain())


def compare(text: str) -> None:
    """Both take a document, or both refuse it."""
    node = read_yaml(text, Source("p.yaml"), Problems())
    assert node is not None
    reader = Reader(LoadOptions(require_jobs=False), Files())
    reader.preset(Source("p.yaml"), text.encode())
    problems = [str(problem) for problem in reader.problems.sorted()]
    refused = not VALIDATOR.is_valid(node.plain())
    if refused:
        assert problems, f"the schema alone refuses {text}"
    if problems and not all(any(words in line for words in BEYOND) for line in problems):
        assert refused, f"the checker alone refuses {text}: {problems}"


SPELLINGS = [
    "yes", "no", "on", "~", "", "null", "12:30", "2024-01-01", "010", "0o10", "0x10", "1e1", "1.0",
    "1_0", "+1", "-1", ".5", "'1'", '"no"', "true", "True", ".inf", "1e400", "1" * 50, "[]", "{}", "[1]", "text",
    "!!str 1",
]  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS)
def test_they_agree_on_yaml_as_people_write_it(text: str) -> None:
    compare(f"version: {text}\njobs: [{{prompt: a}}]\n")
    compare(f"vars: {{v: {text}, w: [{text}]}}\njobs: [{{prompt: a}}]\n")
    for key in ("repeat", "skip", "id", "sample", "prompts_file"):
        compare(f"jobs:\n- {key}: {text}\n" + ("  prompt: a\n" if key != "prompts_file" else ""))
    for key in ("seed", "size", "prompt", "guidance_scale", "enable_safety_checker", "image", "stack", "loras"):
        compare(f"jobs:\n- {key}: {text}\n" + ("  prompt: a\n" if key != "prompt" else ""))
        compare(f"jobs:\n- prompt: a\ndefaults: {{{key}: {text}}}\n")
        compare(f"jobs: [{{id: j, x-prompt: a, prompts_file: no.txt}}]\nmatrix: {{{key}: [{text}]}}\n")


ODD = [None, True, "text", -1, 3.5, [], [1], "9", {"a": 1}]
LORA_PATHS = (
    "o/n", "https://x.co/o", "n", "../x", "o/n\n", "o/n.safetensors", "o/n/f.safetensors", "huggingface.co/o/n",
    "Civitai.com/x", "civitai:1@2", "C:\\x", "o/n ", "o/N.PT", "https://a@b@c", "o.io/n", "https://civitai.com/models/1",
)  # fmt: skip
EDGES: dict[str, list[Any]] = {
    "prompt": ["", "no", "16:9"],
    "image": ["", "https://x.co/a.png", "ftp://x", "data:image/png;base64,aGk=", "data:x", "http://"],
    "mask_image": ["", "https://x.co/a.png", "a.png", "x" * 256],
    "strength": [0, 1, 1.01, -0.1],
    "size": ["512*512", "1536*1536", "511*512", "512*1537", "1024x768", "0512*512", "512*512\n", "256*256", [512, 512]],
    "num_inference_steps": [1, 8, 9, 28.0, 28.5, 50, 51],
    "guidance_scale": [10, 10.5, 20, 20.5],
    "num_images": [1, 4, 5],
    "seed": [-1, 2**31 - 1, 2**31, 9_999_999_999, 10_000_000_000, -2],
    "enable_safety_checker": [False, "yes"],
    "loras": [
        *([{"path": path}] for path in LORA_PATHS),
        *([{"path": "o/n", "scale": scale}] for scale in (0, 4, 4.1, -1, "1", True)),
        [{"path": "o/n"}] * 4, [{"path": "o/n"}] * 6, [{"scale": 1}], [{"path": "o/n", "x": 1}], ["o/n"],
    ],
    "stack": ["s", ["s", "s"]],
    "output_format": ["png", "gif"],
    "stpes": [1],
    "x-mine": [1],
}  # fmt: skip
JOB_EDGES: dict[str, list[Any]] = {
    "id": ["dawn", "a/b-c.d", "a b", "-x", "x/", "é", "x" * 121, "a\n"],
    "repeat": [1, 3.0, 100_000, 100_001],
    "sample": [1, 100_001],
    "sample_seed": [0, 2**53 - 1, 2**53],
    "skip": [False],
    "vars": [{"a": "x", "b_1": [1, "y"]}, {"1x": "a"}, {"a b": "a"}, {"a": []}, {"a": [None]}, {"a": {}}],
    "matrix": [
        {"seed": [1]}, {"prompt": ["a"]}, {"stpes": [1]}, {"seed": 1},
        {"scale": [1, 5]}, {"scale": {"o/n": [1]}}, {"scale": {"n": [1]}},
    ],
    "zip": [{"seed": [1], "num_images": [2]}, {"prompt": ["a"]}, {"seed": []}, {"scale": [1]}],
    "prompts_file": ["a.txt", "a.csv", "a.TXT", "txt"],
}  # fmt: skip
FILE_EDGES: dict[str, list[Any]] = {
    "version": [1, 1.0, 2, "1"],
    "name": ["a", "", " ", "x" * 201],
    "description": ["", "x"],
    "extends": [["a.yaml"], []],
    "model": ["flux-schnell-lora", "wavespeed-ai/flux-krea-dev-lora", "other", ""],
    "jobs": [[{"seed": 1}], [{"prompt": "a"}], [{"matrix": {"prompt": ["a"]}}]],
    "jobz": [1],
    "x-anchors": [{"a": 1}],
}


def test_they_agree_on_whole_documents() -> None:
    for document in (
        {"jobs": [{"prompt": "a", "seed": True}]},
        {"model": "flux-schnell-lora", "defaults": {"num_inference_steps": 9}, "jobs": [{"prompt": "a"}]},
        {"jobs": [{"prompts_file": "no.txt", "matrix": {"prompt": ["a"]}}]},
        {"stacks": {"s": 1}, "matrix": {"stack": ["s"], "seed": [1, "x"]}, "jobs": [{"id": "j", "prompt": "a"}]},
    ):
        compare(json.dumps(document))


def _document(section: str, content: Any, **job: Any) -> dict[str, Any]:
    """A good document but for one section."""
    whole = {"prompt": "a", "image": "https://x.co/a.png", **job}
    return {"stacks": {"s": [{"path": "o/n"}]}, "jobs": [whole], section: content}


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("jobs: [{prompt: a}]", False),
        ("jobs: [{prompt: a, image: b.png}, {prompt: c}]", False),
        ("jobs: [{prompt: a, image: b.png}]", True),
        ("jobs: [{prompt: a, matrix: {image: [b.png]}}]", True),
        ("defaults: {image: b.png}\njobs: [{prompt: a}]", True),
        ("matrix: {image: [b.png]}\njobs: [{prompt: a}]", True),
        ("extends: b.yaml\njobs: [{prompt: a}]", True),
    ],
)
def test_the_schema_knows_what_a_model_requires(text: str, good: bool) -> None:
    node = read_yaml(f"model: flux-kontext-dev-lora\n{text}", Source("p.yaml"), Problems())
    assert node is not None
    assert VALIDATOR.is_valid(node.plain()) is good


@pytest.mark.parametrize("key", EDGES)
def test_they_agree_on_each_parameter(key: str) -> None:
    for value in [*EDGES[key], *ODD]:
        compare(json.dumps(_document("model", "flux-dev-lora", **{key: value})))
    for value in EDGES[key]:
        for model in ("flux-schnell-lora", "flux-kontext-dev-lora"):
            compare(json.dumps(_document("model", model, **{key: value})))
    for value in [*EDGES[key][:2], EDGES[key][-1], None]:
        compare(json.dumps(_document("defaults", {key: value})))
        compare(json.dumps(_document("zip", {key: [value]})))
        compare(json.dumps(_document("matrix", {key: [value]})))
        compare(json.dumps(_document("jobs", [{"prompt": "a", "matrix": {key: [value]}}])))


@pytest.mark.parametrize("key", [*JOB_EDGES, *FILE_EDGES])
def test_they_agree_on_each_key_of_a_job_and_of_a_file(key: str) -> None:
    for value in [*JOB_EDGES.get(key, ()), *FILE_EDGES.get(key, ()), *ODD]:
        document = _document("model", "flux-dev-lora", **{key: value}) if key in JOB_EDGES else _document(key, value)
        compare(json.dumps(document))


def test_a_preset_whose_model_another_file_names_may_use_what_any_takes() -> None:
    job = {"prompt": "a", "guidance_scale": 19, "output_format": "png"}
    assert VALIDATOR.is_valid({"extends": "base.yaml", "jobs": [job]})
    assert not VALIDATOR.is_valid({"extends": "base.yaml", "jobs": [{"prompt": "a", "stpes": 1}]})
