"""Help: complete, readable on narrow and wide terminals, quick; general options anywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flux_lora_cli._version import __version__
from flux_lora_cli.commands.app import COMMANDS
from flux_lora_cli.errors import ExitCode
from tests.commands.conftest import Run
from tests.conftest import PROGRAM, Cli

GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}
RUNNABLE = [name for name in COMMANDS if name not in GROUPS]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_and_is_complete(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ended = run(*name.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert all(len(line) <= columns for line in ended.lines)
    assert "\x1b" not in ended.out
    assert "[bold" not in ended.out
    for option in ("--help", "--json", "--quiet", "--log-file", "--version"):
        assert option in ended.out
    usage = " ".join(["flux-lora", *name.split()])
    assert f"Usage: {usage}" in ended.out
    if name in RUNNABLE:
        assert "bool" not in ended.out
    members = [each.removeprefix(f"{name} ") for each in COMMANDS if each.startswith(f"{name} ".lstrip())]
    for member in members if name == "" or name in GROUPS else []:
        assert re.search(rf"(?m)^│ {member.partition(' ')[0]} ", ended.out)


@pytest.mark.parametrize("name", RUNNABLE)
def test_three_ways_to_ask(run: Run, name: str) -> None:
    texts = [run(*words).out for words in ([*name.split(), "-h"], [*name.split(), "--help"], ["help", *name.split()])]
    assert texts[0] == texts[1] == texts[2]


def test_what_most_users_need_comes_first(run: Run) -> None:
    text = run("submit", "--help").out
    places = [text.index(word) for word in ("--wait", "--prompt", "--lora", "Advanced", "--set", "General", "Examples")]
    assert places == sorted(places)
    assert "flux-lora submit --sandbox --wait" in text


def test_exit_codes(run: Run) -> None:
    ended = run("help", "exit-codes")
    assert ended.code == 0
    assert [int(line.split()[0]) for line in ended.lines] == [int(code) for code in ExitCode]
    assert "exit-codes" in run("--help").out


def test_the_guide_for_agents(run: Run) -> None:
    """It says of every exit code what to do, and names no option that is not there."""
    text = run("help", "agents").out
    assert text.startswith("---\nname: flux-lora\n")
    told = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", text, re.M) for code in row.split(",")}
    assert told == {int(code) for code in ExitCode} - {12}  # that one is asked for by an option
    options = run("batch", "--help").out
    assert all(name in options for name in re.findall(r"--[a-z][a-z-]+", text) if name != "--help")
    assert "agents" in run("--help").out


def test_help_under_json_is_an_event(run: Run) -> None:
    record, summary = run("help", "wait", "--json").events
    assert (record["kind"], summary["exit_code"]) == ("help", 0)
    assert "Usage: flux-lora wait" in record["data"]["text"]


@pytest.mark.parametrize("words", [["--version"], ["batch", "--version"], ["-q", "--version"], ["preset", "--version"]])
def test_version(run: Run, cli: Cli, words: list[str]) -> None:
    assert run(*words).out == f"flux-lora {__version__}\n"


def test_version_as_a_program(cli: Cli) -> None:
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


def _loaded_by(*words: str) -> set[str]:
    """The modules that a command line imports."""
    script = (
        "import sys, os\n"
        f"sys.argv = ['flux-lora', *{list(words)!r}]\n"
        "from flux_lora_cli.__main__ import main\n"
        "os._exit = sys.exit\n"
        "out, sys.stdout = sys.stdout, open(os.devnull, 'w')\n"
        "main()\n"
        "print(*sys.modules, file=out)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_only_what_is_needed_is_imported() -> None:
    """What start-up costs, by its causes: times are measured by the benchmark."""
    version = _loaded_by("--version")
    assert not version & {"typer", "rich", "json", "flux_lora_cli.commands.app"}
    top = _loaded_by("--help")
    assert not {name for name in top if name.startswith("flux_lora_cli.engine")}
    assert not top & {"pydantic", "requests", "yaml", "sqlite3", "flux_lora_cli.commands.batch"}
    one = _loaded_by("batch", "--help")
    assert not one & {"pydantic", "requests", "yaml", "sqlite3", "PIL", "flux_lora_cli.commands.serve"}
    wrong = _loaded_by("batch", "--max-cost", "x", "a.yaml")
    assert not wrong & {"rich.console", "requests", "yaml", "sqlite3", "PIL"}


def test_started_as_a_module_and_as_a_program_alike(tmp_path: Path) -> None:
    entry = "import sys; from flux_lora_cli.__main__ import main; sys.exit(main())"
    outputs = [
        subprocess.run([*start, "help", "exit-codes"], capture_output=True, check=True, env=dict(os.environ)).stdout
        for start in (PROGRAM, (sys.executable, "-c", entry))
    ]
    assert outputs[0] == outputs[1]
