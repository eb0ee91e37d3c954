"""Completion as the shells ask for it, and in the shells themselves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, require_tool
from tests.shell.documented import place_program

_PRESET = """\
version: 1
stacks: {nasa: [{path: a/b, scale: 1}], plain: []}
matrix: {seed: [1, 2]}
jobs:
  - {id: dawn, prompt: a cat}
  - {id: dusk, prompt: a dog, stack: nasa}
"""
Ask = Callable[[str], list[str]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with presets, and the program on a path of its own."""
    (tmp_path / "posters.yaml").write_text(_PRESET)
    place_program(tmp_path)
    return tmp_path


@pytest.fixture
def complete(place: Path) -> Ask:
    """What is offered for a command line, as bash asks."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        asked = {"_FLUX_LORA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = subprocess.run(
            [str(place / "bin" / "flux-lora")], env={**os.environ, **asked}, cwd=place, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("flux-lora ba", ["batch"]),
        ("flux-lora --json wa", ["wait"]),
        ("flux-lora submit --wa", ["--wait"]),
        ("flux-lora submit --nsfw ", ["keep", "quarantine", "skip"]),
        ("flux-lora submit --model flux-dev-lora-ul", ["flux-dev-lora-ultra-fast"]),
        ("flux-lora batch posters.yaml --only da", ["dawn/1", "dawn/2"]),
        ("flux-lora submit --preset posters.yaml --job da", ["dawn/1", "dawn/2"]),
        ("flux-lora submit --preset posters.yaml --stack ", ["nasa", "plain"]),
        ("flux-lora batch nosuch.yaml --only ", []),
    ],
)
def test_what_bash_is_offered(complete: Ask, line: str, offered: list[str]) -> None:
    assert complete(line) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_the_shell(place: Path, shell: str) -> None:
    path = require_tool(shell)
    source = subprocess.run(
        [path, "-c", f"{' '.join(PROGRAM)} --show-completion"], capture_output=True, text=True, check=True, cwd=place,
        env={**os.environ, "SHELL": path},
    )  # fmt: skip
    assert "_FLUX_LORA_COMPLETE" in source.stdout
    assert subprocess.run([path, "-n"], input=source.stdout, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "offered"),
    [("flux-lora submit --nsfw ", {"keep", "quarantine", "skip"}), ("flux-lora batch po", {"posters.yaml"})],
)
def test_fish_completes_through_the_script(place: Path, line: str, offered: set[str]) -> None:
    fish = require_tool("fish")
    env = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "SHELL": fish}
    script = f"flux-lora --show-completion | source; complete -C '{line}'"
    done = subprocess.run([fish, "-c", script], env=env, cwd=place, capture_output=True, text=True, check=True)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered
