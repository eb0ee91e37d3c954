"""Help: complete, readable on narrow and wide terminals, quick; general options anywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flux_lora_cli._version import __version__
from flux_lora_cli.commands.app import COMMANDS
from flux_lora_cli.errors import ExitCode
from tests.commands.conftest import Run
from tests.conftest import Cli

GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_and_is_complete(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    words = name.split()
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        ended = run(*words, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert all(len(line) <= columns for line in ended.lines)
        assert not [mark for mark in ("\x1b", "[bold") if mark in ended.out]
        assert not re.search(r"<[a-zA-Z]", ended.out), "a type of Python's"
        for option in ("--help", "--json", "--quiet", "--log-file", "--version"):
            assert option in ended.out
        assert f"Usage: {' '.join(['flux-lora', *words])}" in ended.out
    members = [each.removeprefix(f"{name} ") for each in COMMANDS if each.startswith(f"{name} ".lstrip())]
    for member in members if name == "" or name in GROUPS else []:
        assert re.search(rf"(?m)^│ {member.partition(' ')[0]} ", ended.out)
    if name:
        assert run(*words, "-h").out == run("help", *words).out == ended.out


def test_what_most_users_need_comes_first(run: Run) -> None:
    text = run("submit", "--help").out
    names = ("--wait", "--prompt", "--output", "--max-cost", "--sandbox", "--lora", "Advanced", "--set", "General")
    places = [text.index(word) for word in (*names, "Examples", "flux-lora submit --sandbox --wait")]
    assert places == sorted(places)


def test_the_guide_for_agents(run: Run) -> None:
    """It says of every exit code what to do, and names no option that is not there."""
    text = run("help", "agents").out
    assert text.startswith("---\nname: flux-lora\n")
    told = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", text, re.M) for code in row.split(",")}
    assert told == {int(code) for code in ExitCode} - {12}  # that one is asked for by an option
    options = run("batch", "--help").out
    assert all(name in options for name in re.findall(r"--[a-z][a-z-]+", text) if name != "--help")
    assert "agents" in run("--help").out


def test_version(run: Run, cli: Cli) -> None:
    for words in (["--version"], ["batch", "--version"], ["-q", "--version"], ["preset", "--version"]):
        assert run(*words).out == f"flux-lora {__version__}\n"
    assert cli("--version").out == f"flux-lora {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "--log-file", "log", "batch", "cats.yaml", "--sandbox", "--dry-run"],
        ["batch", "cats.yaml", "--sandbox", "--dry-run", "--json", "--log-file=log"],
        ["-q", "batch", "--json", "cats.yaml", "--sandbox", "--log-file", "log", "--dry-run"],
        ["-qv", "--json", "batch", "--sandbox", "--dry-run", "--", "cats.yaml"],
    ],
)
def test_general_options_stand_before_or_after_the_command(run: Run, preset: Path, words: list[str]) -> None:
    ended = run(*words)
    assert (ended.code, ended.events[0]["event"], ended.events[-1]["to_submit"]) == (0, "plan", 4)


@pytest.mark.parametrize(
    ("line", "left_out"),
    [
        ("--version", "typer rich json flux_lora_cli.commands.app"),
        ("--help", "pydantic requests yaml sqlite3 flux_lora_cli.commands.batch flux_lora_cli.engine"),
        ("batch --help", "pydantic requests yaml sqlite3 PIL flux_lora_cli.commands.serve"),
        ("batch --max-cost x a.yaml", "pydantic rich.console requests yaml sqlite3 PIL"),
        ("wait ../x", "pydantic requests yaml sqlite3 flux_lora_cli.presets.load flux_lora_cli.engine.tasks"),
        ("submit x", "pydantic requests sqlite3 flux_lora_cli.engine.tasks"),  # refused for lack of a key
    ],
)
def test_only_what_is_needed_is_imported(line: str, left_out: str) -> None:
    """What start-up costs, by its causes: times are measured by the benchmark."""
    script = (
        "import sys, os\n"
        f"sys.argv = ['flux-lora', *{line.split()!r}]\n"
        "from flux_lora_cli.__main__ import main\n"
        "os._exit = sys.exit\n"
        "out, sys.stdout = sys.stdout, open(os.devnull, 'w')\n"
        "main()\n"
        "print(*sys.modules, file=out)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(left_out.split())
