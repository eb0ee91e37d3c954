"""The root command: version, help, wrong names."""

from __future__ import annotations

import pytest

from tests.conftest import Cli


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert done.code == 0
    assert done.out.startswith("flux-lora ")


@pytest.mark.parametrize("arguments", [("--help",), ("schema", "--help")])
def test_help_fits_80_columns(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 0
    assert max(map(len, done.lines)) <= 80


def test_wrong_command_names_the_nearest(cli: Cli) -> None:
    done = cli("bacth")
    assert done.code == 2
    assert "'batch'" in done.err
    assert done.out == ""


def test_wrong_option_under_json_ends_with_a_summary(cli: Cli) -> None:
    done = cli("schema", "--json", "--nonsense")
    assert done.code == 2
    assert [line["event"] for line in done.events] == ["error", "summary"]
    assert done.events[-1]["exit_code"] == 2
