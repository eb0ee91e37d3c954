"""Model tables on the command line: the catalogue that was read, images under the model's name, what is not checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.sandbox import Answer, Request, Sandbox
from tests.commands.conftest import Run
from tests.gallery.make_run import draw

EDIT = "flux-2-dev/edit-lora"


@pytest.fixture
def updated(run: Run, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Commands that know the sandbox's catalogue, beside presets of two models and some pictures."""
    monkeypatch.setenv("FLUX_LORA_MODELS", str(tmp_path / "models.json"))
    assert run("models", "--update").code == 0
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(draw(number, 8, 8))
    for name, model in (("edit", EDIT), ("kontext", "flux-kontext-dev-lora")):
        (tmp_path / f"{name}.yaml").write_text(f"version: 1\nmodel: {model}\njobs: [{{id: x, prompt: y}}]\n")
    return run


@pytest.mark.parametrize(
    ("words", "key", "images"),
    [
        (["batch", "edit.yaml", "-i", "a.png"], "images", 1),
        (["batch", "edit.yaml", "-i", "a.png", "-i", "b.png"], "images", 2),
        (["batch", "edit.yaml", "--set", "images=a.png"], "images", 1),
        (["batch", "kontext.yaml", "-i", "a.png"], "image", 1),
        (["batch", "edit.yaml", "kontext.yaml", "-i", "a.png"], "images", 1),
        (["submit", "y", "--model", EDIT, "-i", "a.png", "--wait"], "images", 1),
    ],
)
def test_an_image_goes_out_under_the_name_that_its_model_has(
    updated: Run, sandbox: Sandbox, words: list[str], key: str, images: int
) -> None:
    done = updated(*words, "-o", "out")
    assert done.code == 0, done.err
    sent = next(task.inputs for task in sandbox.tasks if key in task.inputs)
    assert len(sent[key] if key == "images" else [sent[key]]) == images
    assert not {"image", "images"} & sent.keys() - {key}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["batch", "kontext.yaml", "-i", "a.png", "-i", "b.png"], 2, "--image: flux-kontext-dev-lora takes one image"),
        (["submit", "y", "--model", EDIT], 2, "Add --image."),
        (["submit", "y", "--model", EDIT, *["-i", "a.png"] * 4], 2, "--image: 4 are too many"),
        (["submit", "y", "--model", EDIT, "--set", "image=a.png"], 2, "did you mean 'images'?"),
        (["submit", "y", "--model", "z-image/turbo-lora", "-i", "a.png"], 2, "--image: not a parameter"),
        (["submit", "y", "--model", "flux-krea-dev-lora", "-n", "2"], 2, "known: prompt, "),
        (["batch", "edit.yaml"], 10, "needs images"),
        (["submit", " ", "--model", "flux-schnell-lora"], 2, "the prompt is empty"),
        (["submit", "", "--model", EDIT, "-i", "a.png"], 2, "the prompt is empty"),
        (["batch", "kontext.yaml", "-i", "a.png", "--set", "prompt="], 2, "needs prompt"),
    ],
)
def test_what_a_model_does_not_take_is_refused_in_words_that_help(
    updated: Run, sandbox: Sandbox, words: list[str], code: int, said: str
) -> None:
    done = updated(*words)
    assert (done.code, sandbox.tasks) == (code, [])
    assert said in done.err


def test_replay_refuses_an_image_that_the_model_does_not_take(updated: Run, sandbox: Sandbox) -> None:
    assert updated("submit", "y", "--model", "z-image/turbo-lora", "--wait", "-o", "out").code == 0
    done = updated("replay", "out", "-i", "a.png")
    assert (done.code, len(sandbox.tasks)) == (2, 1)
    assert updated("submit", "y", "--model", EDIT, "-i", "a.png", "--wait", "-o", "edited").code == 0
    assert updated("replay", "edited", "-i", "b.png").code == 0
    assert len(sandbox.tasks[-1].inputs["images"]) == 1


@pytest.mark.parametrize("words", [["submit", "y", "--model", EDIT], ["batch", "edit.yaml", "-o", "out"]])
def test_a_base_price_is_shown_as_a_floor(updated: Run, words: list[str]) -> None:
    done = updated(*words, "-i", "a.png", "--dry-run")
    assert "from $0.024 (at the documented price" in done.out + done.err
    assert "from" not in updated(*words, "-i", "a.png", "--dry-run", "--price", "1").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "x", "--model", "wavespeed-ai/flux-dev", "--dry-run"], "wavespeed-ai/flux-dev on API v3: which"),
        (["submit", "x", "--model", "flux-schnell-lora", "--api-version", "v2", "--dry-run"], "schnell-lora on API v2"),
        (["preset", "check", "new.yaml"], "acme/new-lora on API v3: which parameters it takes, their ranges"),
        (["preset", "show", "new.yaml"], "acme/new-lora on API v3"),
        (["batch", "new.yaml", "--dry-run"], "acme/new-lora on API v3"),
        (["submit", "x", "--model", "flux-schnell-lora", "--dry-run"], ""),
    ],
)
def test_an_unknown_model_is_allowed_and_what_is_not_checked_is_said(
    run: Run, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "new.yaml").write_text("version: 1\nmodel: acme/new-lora\njobs: [{prompt: x, odd: [1]}]\n")
    done = run(*words, "--allow-unknown-model")
    assert done.code == 0, done.err
    assert said in done.err
    assert ("not checked" in done.err) is bool(said)


@pytest.mark.parametrize(("answers", "code"), [([500, 503], 0), ([429], 0), ([500] * 9, 5), ([404], 5), ([401], 4)])
def test_reading_the_catalogue_is_retried(
    run: Run, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[int], code: int
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (tmp_path / "models.json").write_text("old")
    left = list(answers)

    def fault(endpoint: str, request: Request) -> Answer | None:
        return Answer.refusal(left.pop(0), "x") if endpoint == "models" and left else None

    faults: Any = sandbox._faults
    faults.append(fault)
    assert run("models", "--update", "models.json").code == code
    assert ((tmp_path / "models.json").read_text() == "old") is (code != 0)
