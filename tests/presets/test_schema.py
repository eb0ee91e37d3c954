"""The JSON Schema and the checker agree, on documents of every kind, and on YAML as people write it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flux_lora_cli.errors import PresetError
from flux_lora_cli.presets.load import LoadOptions, load_presets
from flux_lora_cli.presets.nodes import Problems, Source
from flux_lora_cli.presets.read import read_yaml
from flux_lora_cli.presets.schema import schema

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)
ROOT = Path(__file__).parents[2]
OURS = [*sorted((ROOT / "presets").glob("*.yaml")), ROOT / "flux_lora_cli/resources/new-preset.yaml"]
#: Reasons of the checker that no schema can see.
BEYOND = (
    "LoRAs are too many; allowed: at most", "the seeds count up", "no stack", "no such file", "more than the limit",
    "is a duplicate", "lists go together", "is in matrix, too", "no combination of this job", "needs image",
    "needs a prompt", "no prompt;",
)  # fmt: skip


def test_the_shipped_file_is_what_the_shapes_make() -> None:
    """When this fails: flux-lora schema preset > flux_lora_cli/resources/preset.schema.json"""
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads((files("flux_lora_cli") / "resources" / "preset.schema.json").read_text("utf-8")) == SCHEMA


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_the_projects_presets_are_valid(path: Path) -> None:
    node = read_yaml(path.read_text("utf-8"), Source("p"), Problems())
    assert node is not None
    VALIDATOR.validate(node.plain())


def compare(folder: Path, text: str) -> None:
    """Both take a document, or both refuse it."""
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    node = read_yaml(text, Source("p.yaml"), Problems())
    assert node is not None
    try:
        load_presets(path, options=LoadOptions(require_jobs=False, max_jobs=10**9, inspect=True))
        problems: list[str] = []
    except PresetError as error:
        problems = [str(problem) for problem in error.problems]
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
PLACES = [
    "seed", "size", "prompt", "num_images", "guidance_scale", "enable_safety_checker", "image",
    "repeat", "skip", "id", "stack", "sample", "prompts_file", "loras",
]  # fmt: skip


@pytest.mark.parametrize("key", PLACES)
def test_they_agree_on_yaml_as_people_write_it(tmp_path: Path, key: str) -> None:
    prompt = "" if key in ("prompt", "prompts_file") else "\n  prompt: a"
    for text in SPELLINGS:
        compare(tmp_path, f"jobs:\n- {key}: {text}{prompt}\n")
        if key not in ("repeat", "skip", "id", "sample", "prompts_file"):
            compare(tmp_path, f"jobs:\n- prompt: a\ndefaults: {{{key}: {text}}}\n")
            compare(tmp_path, f"jobs: [{{id: j, x-prompt: a, prompts_file: no.txt}}]\nmatrix: {{{key}: [{text}]}}\n")
    for text in SPELLINGS:
        compare(tmp_path, f"version: {text}\njobs: [{{prompt: a}}]\n")
        compare(tmp_path, f"vars: {{v: {text}, w: [{text}]}}\njobs: [{{prompt: a}}]\n")


ODD = [None, True, "text", -1, 0, 3.5, 10**12, [], {}, [1], "9", {"a": 1}]
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


def documents() -> list[Any]:
    """A good document with one key set: each key in each place, at its edges and with odd values."""
    found: list[Any] = []
    for key, edges in EDGES.items():
        found += [_document("flux-dev-lora", "job", key, value) for value in [*edges, *ODD]]
        for place in ("defaults", "matrix", "job matrix", "zip"):
            found += [_document("flux-dev-lora", place, key, value) for value in [*edges, None]]
        for model in ("flux-schnell-lora", "flux-kontext-dev-lora"):
            found += [_document(model, "job", key, value) for value in edges]
    for key, edges in JOB_EDGES.items():
        found += [_document("flux-dev-lora", "job", key, value) for value in [*edges, *ODD]]
    for key, edges in FILE_EDGES.items():
        found += [_document("flux-dev-lora", "file", key, value) for value in [*edges, *ODD]]
    return found


def _document(model: str, place: str, key: str, value: Any) -> Any:
    job: dict[str, Any] = {"prompt": "a", "image": "https://x.co/a.png"}
    document: dict[str, Any] = {"model": model, "stacks": {"s": [{"path": "o/n"}]}, "jobs": [job]}
    if place == "file":
        document[key] = value
    elif place == "job":
        job[key] = value
    elif place == "defaults":
        document["defaults"] = {key: value}
    elif place == "job matrix":
        job.pop(key, None)
        job["matrix"] = {key: [value]}
    else:
        document[place] = {key: [value]}
    return document


def test_they_agree_on_every_single_slip(tmp_path: Path) -> None:
    for document in documents():
        compare(tmp_path, json.dumps(document))


WORDS = st.sampled_from(["a cat", "", "x*y", "16:9", "no", "1e3", "éà", "1"])
ANY: st.SearchStrategy[Any] = st.sampled_from(ODD)
PARAMETERS = {key: st.sampled_from(edges) for key, edges in EDGES.items()}


def mapping(values: dict[str, Any], listed: bool = False) -> st.SearchStrategy[Any]:
    def of(key: str) -> st.SearchStrategy[Any]:
        value = st.one_of(*[values[key]] * 4, ANY)
        return st.lists(value, max_size=2) if listed else value

    keys = st.lists(st.sampled_from([*values]), max_size=3, unique=True)
    return keys.flatmap(lambda names: st.fixed_dictionaries({name: of(name) for name in names}))


@st.composite
def whole(draw: st.DrawFn) -> Any:
    document = draw(
        mapping({key: st.sampled_from(edges) for key, edges in FILE_EDGES.items() if key not in ("jobs", "extends")})
    )
    for section, values in (("defaults", mapping(PARAMETERS)), ("matrix", mapping(PARAMETERS, listed=True))):
        if draw(st.booleans()):
            document[section] = draw(values)
    document["stacks"] = {"s": draw(st.sampled_from([[], [{"path": "o/n"}], 1]))}
    jobs = draw(
        st.lists(
            mapping({**PARAMETERS, **{key: st.sampled_from(edges) for key, edges in JOB_EDGES.items()}}), max_size=3
        )
    )
    for number, job in enumerate(jobs):
        job.setdefault("prompt", "x") if draw(st.integers(0, 3)) and "prompts_file" not in job else None
        job["id"] = f"j{number}"
    if jobs or draw(st.booleans()):
        document["jobs"] = jobs
    return document


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@example({"jobs": [{"prompt": "a", "seed": True}]})
@example({"model": "flux-schnell-lora", "defaults": {"num_inference_steps": 9}, "jobs": [{"prompt": "a"}]})
@given(whole())
def test_they_agree(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    compare(tmp_path_factory.getbasetemp(), yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def test_a_preset_whose_model_another_file_names_may_use_what_any_takes() -> None:
    assert VALIDATOR.is_valid(
        {"extends": "base.yaml", "jobs": [{"prompt": "a", "guidance_scale": 19, "output_format": "png"}]}
    )
    assert not VALIDATOR.is_valid({"extends": "base.yaml", "jobs": [{"prompt": "a", "stpes": 1}]})
