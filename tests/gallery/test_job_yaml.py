"""A job as a preset: what comes out of the preset language is what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_run import MODEL, NASA, job

from flux_lora_cli.adapters.preset_files import FolderPresetFiles
from flux_lora_cli.domain.presets import LoadOptions, load_sources
from flux_lora_cli.gallery.job_yaml import job_as_yaml, slug

REQUEST = job("x", loras=[{"path": NASA, "scale": 0.9}])["request"]["input"]


def through_the_language(folder: Path, text: str) -> Any:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = load_sources([str(path)], FolderPresetFiles(), LoadOptions())
    [found] = loaded.jobs
    return found


def test_the_text(tmp_path: Path) -> None:
    text = job_as_yaml("dawn/nasa/1", MODEL, {**REQUEST, "prompt": 'a "cat", {red|blue}', "seed": 3})
    assert text == (
        "version: 1\n"
        'model: "wavespeed-ai/flux-dev-lora"\n'
        "jobs:\n"
        '  - id: "dawn-nasa-1"\n'
        '    prompt: "a \\"cat\\", \\\\{red|blue}"\n'
        '    size: "1024*1024"\n'
        "    num_inference_steps: 28\n"
        "    guidance_scale: 5\n"
        "    num_images: 1\n"
        "    seed: 3\n"
        "    enable_safety_checker: true\n"
        "    loras:\n"
        f'      - path: "{NASA}"\n'
        "        scale: 0.9\n"
    )
    found = through_the_language(tmp_path, text)
    assert found.id == "dawn-nasa-1"
    assert found.seed == 3
    sent = {k: v for k, v in REQUEST.items() if k != "seed"} | {"prompt": 'a "cat", {red|blue}'}
    assert dict(found.params) == sent


LANGUAGE = st.text(alphabet="ab{}|$\\_ \"'#:\n\t–é\u202e\u2028🚀", min_size=1, max_size=25)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=LANGUAGE)
def test_any_prompt_means_itself(tmp_path: Path, prompt: str) -> None:
    found = through_the_language(tmp_path, job_as_yaml("x", MODEL, {**REQUEST, "prompt": prompt}))
    assert found.params["prompt"] == prompt


@settings(max_examples=60, deadline=None)
@given(
    request=st.dictionaries(
        st.text(max_size=6),
        st.text(max_size=20)
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.none()
        | st.booleans(),
        max_size=6,
    ),
    name=st.text(max_size=20),
)
def test_always_yaml(request: dict[str, Any], name: str) -> None:
    parsed = yaml.safe_load(job_as_yaml(name, "m", request))
    assert parsed["jobs"][0]["id"] == slug(name)


@pytest.mark.parametrize(
    ("given", "plain"),
    [("dawn/nasa/1", "dawn-nasa-1"), ("../x", "x"), ("", "job"), ("日本", "job"), ("a" * 99, "a" * 80)],
)
def test_ids_are_plain(given: str, plain: str) -> None:
    assert slug(given) == plain
