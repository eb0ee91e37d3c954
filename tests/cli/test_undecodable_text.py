"""Bytes that are no text in the locale's encoding: refused where a request would carry them, taken in paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Cli

#: As Python hands over the byte 0xFC where the locale is UTF-8.
_BAD = "M\udcfcll"
_PRESET = "version: 1\nstacks: {nasa: []}\njobs: [{id: one, prompt: a cat, seed: 1, size: 512*512}]\n"
_ANY_MODEL = ("--allow-unknown-model", "--model", "a/b")


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(_PRESET)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "option"),
    [
        (("submit", "--sandbox", _BAD), "PROMPT"),
        (("submit", "--sandbox", "-p", _BAD), "--prompt"),
        (("submit", "--sandbox", "x", "--set", f"prompt={_BAD}"), "--set"),
        (("submit", "--sandbox", "x", "--set", f"{_BAD}=1", *_ANY_MODEL), "--set"),
        (("submit", "--sandbox", "x", "--set", f"image=https://x/{_BAD}"), "--set"),
        (("submit", "--sandbox", "x", "--model", _BAD, "--allow-unknown-model"), "--model"),
        (("submit", "--sandbox", "x", "--lora", f"https://x/{_BAD}.safetensors:0.5"), "--lora"),
        (("submit", "--sandbox", "x", "--size", _BAD), "--size"),
        (("submit", "--sandbox", "x", "--steps", _BAD), "--steps"),
        (("submit", "--sandbox", "x", "--image", f"https://x/{_BAD}.png"), "--image"),
        (("submit", "--sandbox", "x", "--preset", "p.yaml", "--stack", _BAD), "--stack"),
        (("submit", "--sandbox", "--preset", "p.yaml", "--job", _BAD), "--job"),
        (("batch", "p.yaml", "--sandbox", "--set", f"prompt={_BAD}"), "--set"),
        (("batch", "p.yaml", "--sandbox", "--only", _BAD), "--only"),
        (("batch", "p.yaml", "--sandbox", "--adopt", f"{_BAD}=1"), "--adopt"),
        (("preset", "show", "p.yaml", "--lora", f"https://x/{_BAD}"), "--lora"),
        (("preset", "show", "p.yaml", "--only", _BAD), "--only"),
        (("replay", ".", _BAD, "--sandbox"), "JOB"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_a_request_would_carry_is_refused_by_its_options_name(
    cli: Cli, place: Path, line: tuple[str, ...], option: str
) -> None:
    ended = cli(*line)
    assert ended.code == 2, ended.err
    assert ended.err.startswith(f"error: {option}: ")
    assert "M\\udcfcll" in ended.err
    assert "UTF-8 locale" in ended.err
    assert not (place / "flux-lora-output").exists()


def test_no_prompt_but_ascii_can_be_read_in_the_c_locale(cli: Cli) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = cli("submit", "--sandbox", "ein Bär", env=env)
    assert (ended.code, ended.out) == (2, "")
    assert "error: PROMPT: " in ended.err
    assert "LC_ALL=C.UTF-8" in ended.err
    assert cli("submit", "--sandbox", "-", stdin="ein Bär\n", env=env).code == 0


@pytest.mark.parametrize(
    "line",
    [
        ("--set", 'x={"a": ["\\ud800"]}', *_ANY_MODEL),
        ("--set", 'x={"\\udfff": 1}', *_ANY_MODEL),
        ("--set", 'loras=[{"path": "https://x/\\ud800"}]'),
    ],
    ids=["a value", "a key", "a LoRA"],
)
def test_half_a_surrogate_pair_in_an_options_json_is_no_text(cli: Cli, line: tuple[str, ...]) -> None:
    ended = cli("submit", "--sandbox", "x", *line)
    assert ended.code == 2, ended.err
    assert "error: --set " in ended.err
    assert "half of a surrogate pair" in ended.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", b'{"prompt": "a \\ud800 cat"}\n'),
        ("a.yaml", b'version: 1\njobs: [{prompt: "a \\ud800 cat"}]\n'),
        ("b.yaml", b"version: 1\njobs: [{prompt: a M\xfcll}]\n"),
        ("a.txt", b"a M\xfcll\n"),
        ("a.csv", b"prompt\na M\xfcll\n"),
    ],
)
def test_in_a_preset_it_is_a_problem_at_its_place(cli: Cli, place: Path, name: str, text: bytes) -> None:
    (place / name).write_bytes(text)
    for line in (("preset", "check", name), ("batch", name, "--sandbox")):
        ended = cli(*line)
        assert ended.code == 10
        assert f"{name}:" in ended.out + ended.err


@pytest.mark.slow
def test_paths_may_have_such_bytes(cli: Cli, place: Path) -> None:
    preset, folder, image = f"{_BAD}.yaml", f"out-{_BAD}", f"{_BAD}.png"
    shutil.copyfile(place / "p.yaml", place / preset)
    assert cli("batch", preset, "-o", folder, "--sandbox", "--log-file", f"{_BAD}.log").code == 0
    made = next((place / folder).glob("*.png"))
    shutil.copyfile(made, place / image)
    for option in (("--image", image), ("--set", f"image={image}")):
        assert cli("batch", preset, "-o", folder, "--sandbox", *option).code == 0
        assert cli("submit", "--sandbox", "a cat", "--preset", preset, *option).code == 0
    assert cli("verify", folder).code == 0
