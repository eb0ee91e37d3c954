"""A request as a preset gives back exactly the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_lora_cli.commands.preset_show import sent_as_yaml
from flux_lora_cli.presets.job import Job, job_as_yaml
from flux_lora_cli.presets.load import LoadOptions, load_presets
from flux_lora_cli.presets.nodes import Problems, Source
from flux_lora_cli.presets.read import read_yaml
from flux_lora_cli.service.models import DEFAULT_MODEL, Models

MODEL = Models.builtin().find(DEFAULT_MODEL)
#: What the language could take for its own, and what YAML could.
MARKS = st.sampled_from(
    ["{", "}", "|", "$", "${", "\\", "_", "__", "<", "<lora:", ":", "o/n", ">", "-", "--", "a", " ", "\n",
     "\t", '"', "'", "#", "\u2028", "\x85", "\ufdd0", "\ufeff", "🦊", "\xa0", "\x00", "\x7f"]
)  # fmt: skip
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.lists(MARKS, max_size=12).map("".join)
)
LORAS = st.lists(
    st.fixed_dictionaries(
        {"path": st.sampled_from(["o/n", "https://x.co/a.safetensors"]), "scale": st.integers(0, 4) | st.floats(0, 4)}
    ),
    max_size=5,
)  # fmt: skip
REQUESTS = st.fixed_dictionaries(
    {"prompt": TEXT},
    optional={
        "image": st.sampled_from(["", "https://x.co/a.png?b=c&d='e'#f", "data:image/png;base64,aGk="]),
        "strength": st.floats(0, 1),
        "size": st.sampled_from(["512*512", "1024*768"]),
        "num_inference_steps": st.integers(1, 50),
        "guidance_scale": st.floats(0, 10),
        "num_images": st.integers(1, 4),
        "loras": LORAS,
        "enable_safety_checker": st.booleans(),
    },
)


def back(text: str, folder: Path, **options: Any) -> Job:
    path = folder / "again.yaml"
    path.write_text(text, "utf-8")
    (job,) = load_presets(path, options=LoadOptions(**options)).jobs
    return job


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.integers(0, 9_999_999_999))
def test_any_request_comes_back(tmp_path_factory: pytest.TempPathFactory, params: dict[str, Any], seed: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    for request in (params, {k: v for k, v in MODEL.request(params, seed).items() if k != "seed"}):
        job = back(job_as_yaml(MODEL.id, {**request, "seed": seed}, job_id="a/b c"), folder)
        assert job.id == "a-b-c"
        assert job.fingerprint == Job("x", "p", MODEL.id, request, seed).fingerprint


@settings(max_examples=50, deadline=None)
@given(st.one_of(TEXT, st.sampled_from(["1e5", "0o17", "0x1F", ".5", "1.", ".inf", "yes", "12:30", "null", "<<"])))
def test_what_preset_show_prints_as_yaml_is_read_as_it_was(text: str) -> None:
    sent = {"id": "x", "preset": text, "model": MODEL.id, "input": {"prompt": text, "seed": 3, "loras": []}}
    root = read_yaml(sent_as_yaml(sent), Source("out"), Problems())
    assert root is not None and root.plain() == yaml.safe_load(sent_as_yaml(sent)) == [sent]


def test_models_without_a_table_and_nested_values(tmp_path: Path) -> None:
    request = {
        "aspect": "16:9",
        "deep": {"a b": [1, 2.5, None, True, "x: y"], "": {}},
        "n": 1e-7,
        "seed": 3,
        "Odd key": 1,
    }
    job = back(job_as_yaml("other/model", request), tmp_path, allow_unknown_model=True)
    assert (job.model, job.seed) == ("other/model", 3)
    assert job.params == {key: value for key, value in request.items() if key != "seed"}


def test_a_local_image_is_found_beside_the_preset(studio, png) -> None:
    studio.write("inputs/x.png", png)
    job = back(job_as_yaml(MODEL.id, {"prompt": "a", "image": "inputs/x.png", "seed": 1}), studio.folder)
    assert list(job.images) == [job.params["image"]]
