"""The JSON Schema and the checker agree, on documents of every kind."""

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

from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.domain.presets import LoadOptions, load_sources
from flux_lora_cli.domain.presets.schema import build_schema
from flux_lora_cli.errors import PresetError

SCHEMA = json.loads((files("flux_lora_cli") / "resources" / "preset.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_shipped_file_is_what_the_tables_make():
    """When this fails, run .ci/preset-schema.py."""
    Draft202012Validator.check_schema(SCHEMA)
    assert build_schema() == SCHEMA


# Mostly right values, some at the edge, some wrong: each key of a document draws from its own pool.
WORDS = st.sampled_from(["a cat", "", "x*y", "16:9", "no", "1e3", "éà", "1"])
ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, "text", -1, 0, 3.5, 10**12, [], {}, [1], "9", {"a": 1}])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "prompt": WORDS,
    "image": st.sampled_from(["", "https://x.co/a.png", "ftp://x", "data:image/png;base64,aGk=", "data:x", "http://"]),
    "strength": st.sampled_from([0, 0.5, 1, 1.01, -0.1]),
    "size": st.sampled_from(
        ["512*512", "1536*1536", "1024*768", "511*512", "512*1537", "1024x768", "0512*512", "512*512\n"]
    ),
    "num_inference_steps": st.sampled_from([1, 4, 8, 9, 28.0, 28.5, 50, 51, 0]),
    "guidance_scale": st.sampled_from([0, 3.5, 10, 10.5, -1]),
    "num_images": st.sampled_from([1, 4, 5, 0]),
    "seed": st.sampled_from([-1, 0, 9_999_999_999, 10_000_000_000, -2]),
    "enable_safety_checker": st.booleans(),
}
PATHS = st.sampled_from(["owner/name", "https://x.co/o/n", "name", "o/n x", "../x", "o/n/f.safetensors", "o/n\n"])
LORA = st.fixed_dictionaries({"path": PATHS}, optional={"scale": st.sampled_from([0, 0.5, 4, 4.1, -1, 1])})
LORAS = st.lists(LORA, max_size=6)
STACK = st.sampled_from(["s", ["s"], ["s", "s"], []])
VALUES["loras"] = LORAS
ALL = {**VALUES, "stack": STACK}


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, strategy, strategy, ODD)


def mapping(values: dict[str, st.SearchStrategy[Any]], extra: str = "stpes") -> st.SearchStrategy[Any]:
    optional = {key: some(value) for key, value in values.items()}
    return st.lists(st.sampled_from([*values, *values, extra]), max_size=3, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({key: optional.get(key, ODD) for key in keys})
    )


MATRIX = mapping({key: st.lists(some(value), max_size=2) for key, value in ALL.items()})
TEXT = st.one_of(WORDS, st.sampled_from([1, 2.5]))
VARS = st.dictionaries(
    st.sampled_from(["a", "b_1", "1x", "a b"]), some(st.one_of(TEXT, st.lists(some(TEXT), max_size=2))), max_size=2
)
JOB_KEYS: dict[str, st.SearchStrategy[Any]] = {
    **ALL,
    "repeat": st.sampled_from([1, 2, 3.0, 0, 100_001]),
    "sample": st.sampled_from([1, 2, 0]),
    "sample_seed": st.sampled_from([0, 5, -1, 2**53]),
    "skip": st.booleans(),
    "vars": VARS,
    "matrix": MATRIX,
}
IDS = ["dawn", "a/b-c.d", "a b", "-x", "x/", "é"]
FILE_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "version": st.sampled_from([1, 1.0, 2, "1"]),
    "name": WORDS,
    "description": WORDS,
    "model": st.sampled_from(["flux-dev-lora", "flux-schnell-lora", "wavespeed-ai/flux-krea-dev-lora", "other"]),
    "defaults": mapping(ALL),
    "vars": VARS,
    "matrix": MATRIX,
}


@st.composite
def documents(draw: st.DrawFn) -> Any:
    document = draw(mapping(FILE_KEYS, "jobz"))
    document["stacks"] = {"s": draw(some(st.lists(LORA, max_size=1)))}
    if draw(st.integers(0, 9)):
        jobs = draw(st.lists(some(mapping(JOB_KEYS)), max_size=3))
        for number, job in enumerate(jobs):
            if isinstance(job, dict) and draw(st.integers(0, 3)):
                job.setdefault("prompt", "x")
            if isinstance(job, dict) and draw(st.booleans()):
                # Ids differ, as no schema can ask that they do.
                job["id"] = f"{number}{draw(st.sampled_from(IDS))}"
        document["jobs"] = jobs
    return document


#: Reasons of the checker that no schema can see.
BEYOND = (
    "LoRAs are too many; allowed: at most",
    "the seeds count up",
    "no stack",
    "no such file",
    "more than the limit",
    "is a duplicate",
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@example({"jobs": [{"prompt": "a", "seed": True}]})
@example({"model": "flux-schnell-lora", "defaults": {"num_inference_steps": 9}, "jobs": [{"prompt": "a"}]})
@given(documents())
def test_they_agree(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    compare(Path(tmp_path_factory.getbasetemp(), "p.yaml"), document)


ODD_VALUES = [None, True, "text", -1, 0, 3.5, 10**12, [], {}, [1], "9", {"a": 1}]
EDGES: dict[str, list[Any]] = {
    "prompt": ["", "no", "16:9"],
    "image": ["", "https://x.co/a.png", "ftp://x", "data:image/png;base64,aGk=", "data:x", "http://"],
    "strength": [0, 1, 1.01, -0.1],
    "size": ["512*512", "1536*1536", "511*512", "512*1537", "1024x768", "0512*512", "512*512\n"],
    "num_inference_steps": [1, 8, 9, 28.0, 28.5, 50, 51],
    "guidance_scale": [10, 10.5],
    "num_images": [1, 4, 5],
    "seed": [-1, 9_999_999_999, 10_000_000_000, -2],
    "enable_safety_checker": [False, "yes"],
    "loras": [[{"path": path}] for path in ("o/n", "https://x.co/o", "n", "../x", "o/n\n")]
    + [[{"path": "o/n", "scale": scale}] for scale in (0, 4, 4.1, -1, "1", True)]
    + [[{"path": "o/n"}] * 4, [{"path": "o/n"}] * 6, [{"scale": 1}], [{"path": "o/n", "x": 1}]],
    "stack": ["s", ["s", "s"]],
    "output_format": ["png"],
    "stpes": [1],
}
JOB_EDGES: dict[str, list[Any]] = {
    "id": ["dawn", "a/b-c.d", "a b", "-x", "x/", "é", "x" * 121, "a\n"],
    "repeat": [1, 3.0, 100_000, 100_001],
    "sample": [1, 100_001],
    "sample_seed": [0, 2**53 - 1, 2**53],
    "skip": [False],
    "vars": [{"a": "x", "b_1": [1, "y"]}, {"1x": "a"}, {"a b": "a"}, {"a": []}, {"a": [None]}, {"a": {}}],
    "matrix": [{"seed": [1]}, {"prompt": ["a"]}, {"stpes": [1]}, {"seed": 1}],
}
FILE_EDGES: dict[str, list[Any]] = {
    "version": [1, 1.0, 2, "1"],
    "name": ["a", "", " ", "x" * 201],
    "description": ["", "x"],
    "model": ["flux-schnell-lora", "wavespeed-ai/flux-krea-dev-lora", "other", ""],
    "jobs": [[{"seed": 1}], [{"prompt": "a"}], [{"matrix": {"prompt": ["a"]}}]],
    "jobz": [1],
}


def one_off() -> list[Any]:
    """A good document with one key set: each key in each place, at its edges and with odd values."""
    found: list[Any] = []
    for model in ("flux-dev-lora", "flux-schnell-lora"):
        for key, edges in EDGES.items():
            for value in [*edges, *ODD_VALUES]:
                places = ("defaults", "matrix", "job", "job matrix")
                found += [_document(model, place, key, value) for place in places]
        for key, edges in JOB_EDGES.items():
            found += [_document(model, "job", key, value) for value in [*edges, *ODD_VALUES]]
    for key, edges in FILE_EDGES.items():
        found += [_document("flux-dev-lora", "file", key, value) for value in [*edges, *ODD_VALUES]]
    return found


def _document(model: str, place: str, key: str, value: Any) -> Any:
    job: dict[str, Any] = {"prompt": "a"}
    document: dict[str, Any] = {"model": model, "stacks": {"s": [{"path": "o/n"}]}, "jobs": [job]}
    if place == "file":
        document[key] = value
    elif place == "job":
        job[key] = value
    elif place == "defaults":
        document["defaults"] = {key: value}
    else:
        (document if place == "matrix" else job)["matrix"] = {key: [value]}
    return document


def test_they_agree_on_every_single_slip(tmp_path: Path) -> None:
    for document in one_off():
        compare(tmp_path / "p.yaml", document)


def compare(path: Path, document: Any) -> None:
    """Both take a document, or both refuse it."""
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        load_sources([str(path)], FolderPresetFiles(), LoadOptions(require_jobs=False, max_jobs=10**9, inspect=True))
        problems: list[str] = []
    except PresetError as error:
        problems = [str(problem) for problem in error.problems]
    refused = [error.message for error in VALIDATOR.iter_errors(document)]
    if refused:
        assert problems, f"the schema alone refuses {document}: {refused}"
    if problems and not all(any(words in line for words in BEYOND) for line in problems):
        assert refused, f"the checker alone refuses {document}: {problems}"
