"""Completion as the shells ask for it, and in the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool

_PRESET = """\
version: 1
stacks: {nasa: [{path: a/b, scale: 1}], plain: []}
matrix: {seed: [1, 2]}
jobs:
  - {id: dawn, prompt: a cat}
  - {id: dusk, prompt: a dog, stack: nasa}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with presets, and the program on a path of its own."""
    (tmp_path / "presets" / "deep").mkdir(parents=True)
    (tmp_path / "presets" / "posters.yaml").write_text(_PRESET)
    (tmp_path / "presets" / "deep" / "ideas.txt").write_text("a cat\n")
    (tmp_path / "presets" / "notes.md").write_text("")
    (tmp_path / "presets" / "bad.yaml").write_text("version: [")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "flux-lora"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flux_lora_cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def complete(place: Path) -> Callable[[str], list[str]]:
    """What is offered for a command line, as bash asks."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        done = subprocess.run(
            [sys.executable, "-m", "flux_lora_cli"],
            env={
                **os.environ,
                "_FLUX_LORA_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
            },
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("flux-lora ba", ["batch"]),
        ("flux-lora preset s", ["show"]),
        ("flux-lora batch --max-c", ["--max-cost"]),
        ("flux-lora batch p", ["presets/bad.yaml", "presets/deep/ideas.txt", "presets/posters.yaml"]),
        ("flux-lora batch ./presets/po", ["./presets/posters.yaml"]),
        ("flux-lora preset show presets/d", ["presets/deep/ideas.txt"]),
        ("flux-lora batch presets/posters.yaml --only d", ["dawn/1", "dawn/2", "dusk/1", "dusk/2"]),
        ("flux-lora batch presets/posters.yaml --sandbox --only du", ["dusk/1", "dusk/2"]),
        ("flux-lora preset show presets/posters.yaml --only du", ["dusk/1", "dusk/2"]),
        ("flux-lora batch presets/posters.yaml --adopt dawn", ["dawn/1=", "dawn/2="]),
        ("flux-lora batch presets/posters.yaml --adopt dawn/1=x", []),
        ("flux-lora submit --preset presets/posters.yaml --job dawn/", ["dawn/1", "dawn/2"]),
        # As bash breaks words at = and :, and as it does not where COMP_WORDBREAKS has no =.
        ("flux-lora batch presets/posters.yaml --only = du", ["dusk/1", "dusk/2"]),
        ("flux-lora batch presets/posters.yaml --only =", ["dawn/1", "dawn/2", "dusk/1", "dusk/2"]),
        ("flux-lora batch presets/posters.yaml --only=du", ["--only=dusk/1", "--only=dusk/2"]),
        ("flux-lora batch presets/posters.yaml --adopt = dawn", ["dawn/1=", "dawn/2="]),
        ("flux-lora submit --preset = presets/posters.yaml --job dawn/", ["dawn/1", "dawn/2"]),
        ("flux-lora submit --lora https : //x --preset = presets/posters.yaml --stack = na", ["nasa"]),
        ("flux-lora submit --preset presets/posters.yaml --stack ", ["nasa", "plain"]),
        ("flux-lora batch presets/bad.yaml --only d", []),
        ("flux-lora batch presets/absent.yaml --only d", []),
        ("flux-lora submit --model flux-s", ["flux-schnell-lora"]),
        ("flux-lora submit --model wavespeed-ai/flux-k", ["wavespeed-ai/flux-krea-dev-lora"]),
        ("flux-lora submit --set num_inf", ["num_inference_steps="]),
        ("flux-lora submit --size 512", ["512*512"]),
        ("flux-lora batch x.yaml --nsfw q", ["quarantine"]),
        ("flux-lora batch x.yaml --on-unknown h", ["hold"]),
        ("flux-lora schema e", ["event"]),
    ],
)
def test_what_is_offered(complete: Callable[[str], list[str]], line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def test_names_that_a_shell_would_evaluate_are_not_offered(place: Path, complete: Callable[[str], list[str]]) -> None:
    for name in ("$(touch x).yaml", "`id`.yaml", "a b.yaml", "';x;'.yaml", "a\nb.yaml", '"q".yaml'):
        (place / "presets" / name).write_text("")
    assert complete("flux-lora batch presets/") == [
        "presets/bad.yaml",
        "presets/deep/ideas.txt",
        "presets/posters.yaml",
    ]


@pytest.mark.parametrize("name", ["$(touch x)", "`id`", "a b", "';x;'", "~root", "a\\nb"])
def test_a_preset_cannot_offer_what_a_shell_would_evaluate(
    place: Path, complete: Callable[[str], list[str]], name: str
) -> None:
    (place / "s.yaml").write_text(f'version: 1\nstacks: {{"{name}": []}}\njobs: [{{id: one, prompt: x}}]\n')
    (place / "j.yaml").write_text(f'version: 1\njobs: [{{id: "{name}", prompt: x}}, {{id: one, prompt: x}}]\n')
    (place / "l.jsonl").write_text(f'{{"id": "{name}", "prompt": "x"}}\n')
    assert complete("flux-lora submit --preset s.yaml --stack ") == []
    for file in ("j.yaml", "l.jsonl"):
        assert complete(f"flux-lora batch {file} --only ") == []


def test_a_home_folder_is_understood(own_home: Path, complete: Callable[[str], list[str]]) -> None:
    (own_home / "mine.yaml").write_text("")
    assert complete("flux-lora batch ~/mi") == ["~/mine.yaml"]


def test_a_large_folder_does_not_hold_up_the_shell(place: Path) -> None:
    from flux_lora_cli.cli.completion import preset_files

    many = place / "many"
    for folder in range(10):
        (many / str(folder)).mkdir(parents=True)
        for number in range(300):
            (many / str(folder) / f"{number}.yaml").touch()
    assert 0 < len(preset_files(f"{many}/")) <= 200


@pytest.mark.parametrize("line", ["flux-lora ba", "flux-lora batch p"])
def test_nothing_heavy_is_imported(place: Path, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "flux_lora_cli"],
        env={**os.environ, "_FLUX_LORA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "2"},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"requests", "yaml", "PIL", "sqlite3", "rich", "pydantic"}


# ---- real shells -------------------------------------------------------------------------


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, arguments: list[str], place: Path) -> None:
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.chdir(place)
            os.environ.update(PATH=f"{place / 'bin'}:{os.environ['PATH']}", TERM="dumb", PS1="READY> ")
            os.execvp(arguments[0], arguments)

    def read_until(self, pattern: str, seconds: float = 60) -> str:
        text, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._handle], [], [], 0.2)[0]:
                text += os.read(self._handle, 65536).decode("utf-8", "replace")
                if re.search(pattern, text):
                    return text
        raise AssertionError(f"{pattern!r} never came: {text!r}")

    def send(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def close(self) -> None:
        os.close(self._handle)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(place: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_(*arguments: str) -> Terminal:
        opened.append(Terminal(list(arguments), place))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("shell", "setup"),
    [
        (["bash", "--norc", "--noprofile", "-i"], 'eval "$(flux-lora --show-completion)"'),
        (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u; eval "$(flux-lora --show-completion)"'),
    ],
    ids=["bash", "zsh"],
)
def test_in_a_real_shell(terminal: Callable[..., Terminal], shell: list[str], setup: str) -> None:
    require_tool(shell[0])
    screen = terminal(*shell)
    screen.send(f"PS1='> '; {setup}; echo set'-'up\n")
    screen.read_until("set-up")
    for typed, completed in (
        ("flux-lora bat\tpresets/po\t", "batch presets/posters.yaml"),
        ("flux-lora batch presets/posters.yaml --only dawn/2\t", "--only dawn/2"),
        ("flux-lora submit --preset presets/posters.yaml --stack na\t", "--stack nasa"),
        ("flux-lora submit --model flux-kr\t", "--model flux-krea-dev-lora"),
        ("flux-lora batch presets/posters.yaml --only=dawn/2\t", "--only=dawn/2"),
        ("flux-lora submit --preset=presets/posters.yaml --job dus\t1\t", "--job dusk/1"),
        ("flux-lora submit --preset=presets/posters.yaml --stack=na\t", "--stack=nasa"),
        ("flux-lora preset show presets/posters.yaml --only dawn/2\t", "--only dawn/2"),
        ("flux-lora batch presets/posters.yaml --adopt dawn/2\ttask", "--adopt dawn/2=task"),
        ("flux-lora batch presets/posters.yaml --adopt=dawn/2\ttask", "--adopt=dawn/2=task"),
        ("flux-lora submit --set num_inf\t12", "--set num_inference_steps=12"),
    ):
        # The completed line is not run but shown: the program's name is put behind an echo.
        screen.send(typed)
        time.sleep(0.1)
        screen.send("\x01echo DONE \x05 END\n")
        screen.read_until(r"\nDONE flux-lora [^\r\n]*" + re.escape(completed) + r" +END")


def test_in_a_bash_that_does_not_break_words_at_equals_signs(terminal: Callable[..., Terminal]) -> None:
    require_tool("bash")
    screen = terminal("bash", "--norc", "--noprofile", "-i")
    screen.send("COMP_WORDBREAKS=${COMP_WORDBREAKS//=}; eval \"$(flux-lora --show-completion)\"; echo set'-'up\n")
    screen.read_until("set-up")
    screen.send("flux-lora submit --preset=presets/posters.yaml --stack=na\t")
    time.sleep(0.1)
    screen.send("\x01echo DONE \x05 END\n")
    screen.read_until(r"\nDONE flux-lora submit --preset=presets/posters.yaml --stack=nasa +END")


def test_in_fish(place: Path) -> None:
    fish = require_tool("fish")

    def ask(line: str) -> str:
        script = f"flux-lora --show-completion | source; complete -C {shlex.quote(line)}"
        return subprocess.run(
            [fish, "--no-config", "-c", script],
            cwd=place,
            env={**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert ask("flux-lora bat").startswith("batch\t")
    assert ask("flux-lora batch presets/po").split() == ["presets/posters.yaml"]
    assert ask("flux-lora submit --model flux-kr").split() == ["flux-krea-dev-lora"]
    assert ask("flux-lora batch presets/posters.yaml --only=du").split() == ["--only=dusk/1", "--only=dusk/2"]
    assert ask("flux-lora submit --preset=presets/posters.yaml --stack=na").split() == ["--stack=nasa"]
    assert ask("flux-lora batch presets/posters.yaml --adopt du").split() == ["dusk/1=", "dusk/2="]
