"""The general options: on every command, before and behind its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_lora_cli.cli.console import Console
from flux_lora_cli.cli.options import GeneralOptions
from tests.conftest import Cli
from tests.shell.documented import COMMANDS

_ALL = ["", *COMMANDS]


@pytest.mark.parametrize("name", _ALL)
def test_a_wrong_option_is_an_event_and_a_message_of_every_command(cli: Cli, name: str) -> None:
    done = cli(*name.split(), "--json", "--nonsense")
    assert done.code == 2
    assert [line["event"] for line in done.events] == ["error", "summary"]
    assert done.events[0]["code"] == "usage"
    assert done.events[-1]["exit_code"] == 2
    assert done.err.startswith("error: No such option '--nonsense'.")


@pytest.mark.parametrize("name", _ALL)
def test_every_command_tells_the_version(cli: Cli, name: str) -> None:
    assert cli(*name.split(), "--version").out == cli("--version").out


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "preset", "list"],
        ["preset", "--json", "list"],
        ["preset", "list", "--json"],
    ],
)
def test_json_stands_before_or_behind_a_commands_name(cli: Cli, words: list[str]) -> None:
    done = cli(*words)
    assert done.code == 3
    assert [line["event"] for line in done.events] == ["error", "summary"]


@pytest.mark.parametrize("words", [["-q", "preset", "check"], ["preset", "-q", "check"], ["preset", "check", "-q"]])
def test_quiet_too(cli: Cli, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("version: 1\njobs: [{id: one, prompt: x}]\n")
    assert cli(*words, "good.yaml").err == ""


def test_a_wrong_subcommand_names_the_nearest(cli: Cli) -> None:
    done = cli("preset", "chekc")
    assert done.code == 2
    assert "'check'" in done.err


@pytest.mark.parametrize("given", [(True, False), (False, True)])
def test_no_color_counts_on_either_side(monkeypatch: pytest.MonkeyPatch, given: tuple[bool, bool]) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(Console, "err_is_terminal", True)
    console = Console()
    console.configure(GeneralOptions())
    assert console.color
    for no_color in given:
        console.configure(GeneralOptions(no_color=no_color))
    assert not console.color
