"""Streams that are closed, full, or not read to the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli

TOOL = f"{sys.executable} -m flux_lora_cli"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("command", ["--version", "--help", "schema event", "batch --help"])
@pytest.mark.parametrize("where", [">&-", "| (exec <&-; sleep 0.5)"])
def test_a_reader_that_is_gone_is_no_error(command: str, where: str, tmp_path: Path) -> None:
    done = shell(f"set -o pipefail; {TOOL} {command} {where}", tmp_path)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode in (141, 0) if command != "schema event" else done.returncode == 141


def test_nothing_is_spent_where_nobody_can_read_the_id(tmp_path: Path, cli: Cli) -> None:
    done = shell(f"{TOOL} submit --sandbox 'a cat' >&-", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")
    assert cli("status", "--sandbox").lines == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command",
    ["schema event", "--help", "-h", "--version", "batch --help", "preset -h", "batch --version", "--show-completion"],
)
def test_a_full_standard_output_is_said(command: str, tmp_path: Path) -> None:
    done = shell(f"{TOOL} {command} > /dev/full", tmp_path)
    assert done.returncode == 141
    assert done.stderr == "standard output cannot be written: no space left on device\n"


def test_help_under_json_is_an_event(cli: Cli) -> None:
    done = cli("submit", "--help", "--json")
    assert done.events[0]["kind"] == "help"
    assert done.events[-1] == {"event": "summary", "exit_code": 0}


@pytest.mark.parametrize("before", [(), ("schema",), ("preset", "check")])
def test_every_command_tells_the_version(cli: Cli, before: tuple[str, ...]) -> None:
    assert cli(*before, "--version").out.startswith("flux-lora ")


def test_general_options_stand_before_the_command_too(cli: Cli) -> None:
    assert [event["event"] for event in cli("--json", "schema", "event").events] == ["record", "summary"]
