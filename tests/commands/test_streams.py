"""Standard output carries results, standard error messages; neither, closed or full, changes what happens."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux_lora_cli.commands.console import Console
from flux_lora_cli.errors import FluxLoraError
from flux_lora_cli.sandbox import Sandbox
from tests.commands.conftest import Run
from tests.conftest import PROGRAM, ROOT

Start = Callable[..., Sandbox]


def _through_shell(folder: Path, redirect: str, *arguments: str) -> Any:
    """Run the program with a shell's redirections; its exit code, and what is left of its streams."""
    words = " ".join([*PROGRAM, *arguments, redirect])
    done = subprocess.run(["bash", "-c", words], cwd=folder, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr, done.stderr
    return done


def test_every_json_line_is_an_event_and_the_last_a_summary(sandbox: Sandbox, run: Run, preset: Path) -> None:
    ended = run("batch", preset, "-o", "out", "--json", "-q")
    kinds = [event["event"] for event in ended.events]
    assert (ended.code, ended.err, kinds.count("image")) == (0, "", 4)
    assert {"plan", "submitted", "completed"} <= set(kinds)
    wanted = {"event": "summary", "exit_code": 0, "jobs": 4, "images": 4, "folder": "out", "sandbox": False}
    assert ended.events[-1].items() >= wanted.items()


def test_the_shipped_schema_is_made_from_the_events() -> None:
    made = runpy.run_path(str(ROOT / ".ci" / "event-schema.py"))["build"]()
    assert made == json.loads((ROOT / "flux_lora_cli" / "resources" / "event.schema.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version", "--json"], 0),
        (["submit", "--help", "--json"], 0),
        (["nonsense", "--json"], 2),
        (["batch", "none.yaml", "--json"], 3),
        (["submit", "a cat", "--json"], 4),
        (["status", "--json", "-"], 3),
    ],
)
def test_json_ends_with_a_summary_whatever_happens(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ended = run(*arguments)
    assert ended.code == code
    assert ended.events[-1] == {**ended.events[-1], "event": "summary", "exit_code": code}
    assert "\\u001b" not in ended.out
    if code:
        error = ended.events[-2]
        assert (error["event"], bool(error["message"]), error["tasks"]) == ("error", True, [])
        assert error["message"] in ended.err


def test_quiet_and_verbose(sandbox: Sandbox, run: Run) -> None:
    ended = run("submit", "a cat", "-q")
    assert (ended.code, ended.err, len(ended.lines)) == (0, "", 1)
    assert run("batch", "none.yaml", "-q").err.startswith("error: ")
    assert "seed" in run("submit", "a cat", "-v").err


@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        (">/dev/full", 141),
        (">&-", 141),
        ("2>/dev/full >/dev/null", 0),
        ("2>&- >/dev/null", 0),
        ("<&- >&- 2>&-", 141),
        ("| true; exit ${PIPESTATUS[0]}", 141),
        ("2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}", 0),
    ],
)
def test_closed_and_full_streams(
    sandbox: Sandbox, run: Run, tmp_path: Path, preset: Path, redirect: str, code: int
) -> None:
    words = ("batch", "cats.yaml", "-o", "out", "--only", "dawn/*", "--poll-interval", "0.1")
    done = _through_shell(tmp_path, redirect, *words)
    assert done.returncode == code, done.stderr
    assert run(*words).code == 0
    assert len(sandbox.charges) == 2


def test_a_server_whose_address_nobody_can_read_ends_quietly(tmp_path: Path) -> None:
    done = _through_shell(tmp_path, ">&-", "serve")
    assert (done.returncode, b"error" in done.stderr) == (141, False)


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_help_that_nobody_reads(tmp_path: Path, word: str) -> None:
    for redirect in (">/dev/full", ">&-"):
        done = _through_shell(tmp_path, redirect, word)
        assert (done.returncode, done.stderr.count(b"\n") <= 1) == (141, True)


def test_no_message_steers_a_terminal_or_a_ci_service(capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "::error::x\n  ::add-mask::y \x1b[31mred\x07 \u202etxt ##vso[task] [bold]b[/bold]"
    console = Console()
    for say in (console.info, console.complain, console.warn):
        say(hostile)
    error = FluxLoraError(hostile, hostile)
    error.tasks = [(hostile, "1")]
    console.error(error)
    err = capfd.readouterr().err
    assert not set(err) & set("\x1b\x07\u202e")
    assert not re.search(r"(?m)^\s*::", err)
    assert "##vso[" not in err
    assert "[bold]b[/bold]" in err
    console.github = True
    console.complain("meant")
    assert capfd.readouterr().err == "meant\n::error::meant\n"


def test_a_closed_stream_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    script = "import os, flux_lora_cli.__main__ as m; m._fill_closed_streams(); os._exit(os.open('x', os.O_CREAT))"
    words = f'{sys.executable} -c "{script}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", words], cwd=tmp_path, check=False).returncode >= 3


def test_a_bug_is_owned_up_to(tmp_path: Path) -> None:
    script = (
        "import sys; from flux_lora_cli.commands import app, submit\n"
        "def broken(*a, **k): raise RuntimeError('no wsk-secret-key-0123456789 here')\n"
        "submit.check = broken\n"
        "sys.exit(app.run(['submit', 'a cat', '--json']))"
    )
    env = {**os.environ, "WAVESPEED_API_KEY": "wsk-secret-key-0123456789"}
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False,
            env={**env, "FLUX_LORA_DEBUG": debug},
        )  # fmt: skip
        assert done.returncode == 1
        assert json.loads(done.stdout.splitlines()[-1])["exit_code"] == 1
        assert "FLUX_LORA_DEBUG=1" in done.stderr
        assert "wsk-secret" not in done.stderr + done.stdout
        assert ("Traceback" in done.stderr) == bool(debug)


def test_the_log_file_has_a_line_per_request_and_no_secret(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    assert run("--log-file", "log.txt", "submit", "a cat", "-q").code == 0
    log = (tmp_path / "log.txt").read_text()
    assert len(log.splitlines()) >= 1
    assert os.environ["WAVESPEED_API_KEY"] not in log
    assert (tmp_path / "log.txt").stat().st_mode & 0o77 == 0
    os.mkfifo(tmp_path / "pipe")
    ended = run("submit", "a cat", "--log-file", "pipe")
    assert (ended.code, "nobody reads" in ended.err) == (2, True)
