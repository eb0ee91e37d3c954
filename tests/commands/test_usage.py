"""Wrong usage: exit 2 or 3, nothing sent, and a sentence that helps."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from flux_lora_cli.sandbox import Sandbox
from tests.commands.conftest import Run

#: Arguments, and what the message must have.
WRONG: list[tuple[list[str], int, list[str]]] = [
    ([], 2, ["Usage:", "submit", "no command"]),
    (["wiat"], 2, ['"wiat"', "did you mean 'wait'?"]),
    (["preset"], 2, ["check", "no command"]),
    (["preset", "--yes", "check"], 2, ["--yes", "options after it"]),
    (["posters.yaml"], 2, ['"posters.yaml"', "flux-lora --help"]),
    (["--sandbox", "submit", "a cat"], 2, ["--sandbox", "options after it"]),
    (["submit", "--wiat", "a cat"], 2, ["unknown option --wiat", "did you mean '--wait'?", "submit --help"]),
    (["submit", "--seed"], 2, ["option --seed requires an argument"]),
    (["submit", "a", "cat"], 2, ["one prompt", "quote the prompt"]),
    (["submit", "-a cat in the rain"], 2, ["begins with a dash", "-- '-a cat in the rain'"]),
    (["submit", ""], 2, ["prompt is empty", "variable"]),
    (["submit"], 2, ["no prompt", '"a cat"']),
    (["submit", "-", "-p", "a cat"], 2, ["-p cannot be added"]),
    (["submit", "a cat", "--api-key", "wsk-1"], 2, ["never an option", "WAVESPEED_API_KEY", "--api-key-file"]),
    (["--api-key", "wsk-1", "submit", "a cat"], 2, ["never an option"]),
    (["submit", "a cat", "--guidance", "99"], 2, ["--guidance", "from 0 to 10"]),
    (["submit", "a cat", "--size", "1024x1024"], 2, ["--size", "did you mean '1024*1024'?"]),
    (["submit", "a cat", "--lora", "ink.safetensors"], 2, ["local file", "--lora"]),
    (["submit", "a cat", "--lora", "owner/ink:0,8"], 2, ["':0.8'"]),
    (["submit", "a cat", "--strength", "1,5"], 2, ["--strength: \"1,5\" is not a number; did you mean '1.5'?"]),
    (["submit", "a cat", "--image", "cats.yaml"], 2, ["--image: cats.yaml"]),
    (["submit", "a cat", "--set", "steps"], 2, ["KEY=VALUE"]),
    (["batch", "cats.yaml", "--only-file", "folder"], 2, ["folder"]),
    (["submit", "a cat", "--lora", "owner/ink:9"], 2, ["--lora", "0 to 4"]),
    (["submit", "a cat", "--model", "flux-dev-lorra"], 2, ["did you mean 'flux-dev-lora'?"]),
    (["submit", "a cat", "--set", "steps=3"], 2, ["did you mean 'num_inference_steps'?"]),
    (["submit", "a cat", "--safety-checker", "--no-safety-checker"], 2, ["exclude each other"]),
    (["submit", "a cat", "--stack", "nasa"], 2, ["--preset"]),
    (["submit", "a cat", "--image", "none.png"], 3, ["none.png"]),
    (["submit", "a cat", "--models", "none.json"], 3, ["none.json"]),
    (["submit", "a cat", "--allow-path", "nowhere", "--preset", "cats.yaml"], 3, ["nowhere"]),
    (["submit", "a cat", "--nsfw", "quarantin"], 2, ["did you mean 'quarantine'?"]),
    (["submit", "a cat", "--concurrency", "0"], 2, ["1 to 10,000"]),
    (["submit", "a cat", "--rate", "fast"], 2, ['error: --rate: "fast" is not a valid rate; write 10/min']),
    (["submit", "a cat", "--max-cost", "$1,50"], 2, ["'$1.50'"]),
    (["submit", "a cat", "--filename", "{nope}"], 2, ["{nope}", "slug"]),
    (["submit", "a cat", "--base-url", "https://example.org"], 2, ["--allow-custom-host"]),
    (["submit", "a cat", "--sandbox", "--base-url", "http://127.0.0.1:9"], 2, ["exclude each other"]),
    (["submit", "a cat", "--log-file", "no/such/folder/log", "--sandbox"], 2, ["--log-file", "no such file"]),
    (["wait"], 2, ["missing argument"]),
    (["wait", "../x"], 3, ['not a task ID: "../x"']),
    (["wait", "-", "abc"], 2, ["standard input"]),
    (["verify", "a", "b"], 2, ["error: unexpected argument: (b)\n"]),
    (["batch"], 2, ["missing argument", "batch --help"]),
    (["batch", "folder"], 2, ["is a folder", "folder/*.yaml"]),
    (["batch", "cat.yaml"], 3, ["did you mean", "cats.yaml"]),
    (["batch", "cats.yaml", "cats.yaml"], 2, ["-o DIR"]),
    (["batch", "-", "-", "-o", "out"], 2, ["only once"]),
    (["batch", "cats.yaml", "--only", "noon*"], 3, ["noon*"]),
    (["batch", "cats.yaml", "--only-file", "none.txt"], 3, ["none.txt"]),
    (["batch", "cats.yaml", "--shard", "3"], 2, ['--shard "3": write K/N']),
    (["batch", "cats.yaml", "--shard", "3/2"], 2, ["part 3 of 2"]),
    (["batch", "cats.yaml", "--shard", "auto"], 2, ["no engine"]),
    (["batch", "cats.yaml", "--junit", "folder"], 2, ["--junit", "is a folder"]),
    (["schema"], 2, ["missing argument preset|manifest|event\n"]),
    (["serve", "--port", "70000"], 2, ["--port", "0 to 65,535"]),
    (["serve", "--fault", "submit:nonsense"], 2, ["not a valid fault"]),
    (["serve", "--service-time", "soon"], 2, ["write 0.5, or 2-6"]),
    (["serve", "--state", "."], 7, ["--state"]),
    (["models", "flux-dev-lra"], 3, ["did you mean 'flux-dev-lora'?"]),
    (["models", "flux-schnell-lora", "--api-version", "v2"], 2, ["v3"]),
    (["models", "--models", "broken.json"], 10, ["broken.json:2"]),
    (["replay", "cats.yaml", "dawn/1"], 2, ["goes with a folder"]),
]


@pytest.fixture
def place(tmp_path: Path, preset: Path, sandbox: Sandbox) -> Sandbox:
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.json").write_text('{"models":\n nonsense}')
    return sandbox


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=[" ".join(each[0])[:60] for each in WRONG])
def test_wrong_usage_helps(place: Sandbox, run: Run, arguments: list[str], code: int, words: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (code, ""), ended.err
    for word in words:
        assert word in ended.err
    assert re.match("  [A-Z-]", ended.err.splitlines()[-1]), "what to do next"
    assert "wsk-" not in ended.err
    assert place.charges == []


def test_an_engine_tells_which_part(run: Run, preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ID", "5"), ("COUNT", "2"), ("MIN", "4")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    ended = run("batch", "cats.yaml", "--sandbox", "--dry-run", "--shard", "auto", "--json")
    other = run("batch", "cats.yaml", "--sandbox", "--dry-run", "--shard", "1/2", "--json")
    assert ended.code == other.code == 0
    assert ended.events[-1]["jobs"] + other.events[-1]["jobs"] == 4
    part = run("batch", "cats.yaml", "--sandbox", "--dry-run", "--only", "dawn/*").out
    assert part.startswith("2 jobs of 4 (2 × 2 = 4)")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "9")
    assert run("batch", "cats.yaml", "--sandbox", "--dry-run", "--shard", "auto").code == 2


def test_a_variable_that_is_neither_yes_nor_no(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_LORA_SANDBOX", "maybe")
    ended = run("status")
    assert (ended.code, "FLUX_LORA_SANDBOX" in ended.err, '"maybe"' in ended.err) == (2, True, True)


def test_text_that_is_not_unicode_is_refused(run: Run) -> None:
    broken = os.fsdecode(b"a c\xe4t")
    ended = run("submit", broken)
    assert ended.code == 2
    assert "\\udce4" in ended.err
