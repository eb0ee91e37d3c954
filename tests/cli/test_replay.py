"""``replay``: the request that made an image, sent to the API version that it was made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.domain.parameters import MODELS, request_input, version_of
from tests.conftest import Cli

QUICK = ("--sandbox", "--wait", "--poll-interval", "0.1")


def only_job(folder: Path) -> Any:
    (job,) = json.loads((folder / "manifest.json").read_text())["jobs"]
    return job


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--set", "output_format=webp"), marks=pytest.mark.slow),
        pytest.param(("--size", "300*300", "--guidance", "15"), marks=pytest.mark.slow),
        ("--size", "512*512"),
    ],
)
def test_an_image_of_v3_is_made_again_without_saying_so(cli: Cli, tmp_path: Path, options: tuple[str, ...]) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    made = cli("submit", "a cat", "--api-version", "v3", *options, *QUICK, "-o", first)
    assert made.code == 0, made.err
    replayed = cli("replay", made.out.strip(), *QUICK, "-o", again)
    assert replayed.code == 0, replayed.err
    assert only_job(again)["request"] == only_job(first)["request"]
    assert only_job(again)["outputs"][0]["sha256"] == only_job(first)["outputs"][0]["sha256"]


@pytest.mark.slow
def test_a_version_that_is_named_counts(cli: Cli, tmp_path: Path) -> None:
    made = cli("submit", "a cat", "--api-version", "v3", "--size", "512*512", *QUICK, "-o", tmp_path / "first")
    assert cli("replay", made.out.strip(), *QUICK, "--api-version", "v2", "-o", tmp_path / "again").code == 0
    assert "enable_safety_checker" in only_job(tmp_path / "again")["request"]["input"]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("params", [{}, {"prompt": "x", "image": "https://a/b.png", "strength": 0.5, "num_images": 2}])
def test_every_whole_request_tells_its_version(model: Any, version: str, params: dict[str, Any]) -> None:
    assert version_of(model, request_input(model, params, 7, version)) == version


def test_a_request_that_is_not_whole_is_one_of_v2() -> None:
    model = next(iter(MODELS.values()))
    assert version_of(model, {"prompt": "x", "seed": 1, "loras": []}) == "v2"
    assert version_of(None, request_input(model, {}, 7, "v3")) == "v2", "what an unknown model takes is not known"


def test_an_image_of_v2_can_be_made_on_v3(cli: Cli, tmp_path: Path) -> None:
    made = cli("submit", "a cat", "--size", "512*512", *QUICK, "-o", tmp_path / "first")
    again = cli("replay", made.out.strip(), *QUICK, "--api-version", "v3", "-o", tmp_path / "again")
    assert again.code == 0, again.err
    recorded = only_job(tmp_path / "first")["request"]["input"]
    sent = only_job(tmp_path / "again")["request"]["input"]
    assert sent == {name: value for name, value in recorded.items() if name != "enable_safety_checker"}
